"""Saved clusterings: netCDF files that hold all that scoring needs, and no code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesclust import families
from bayesclust.core.units import Units
from bayesclust.draws import Draws
from bayesclust.mixture import Mixture
from bayesclust.posterior.lazy import xr
from bayesclust.posterior.relabel import Alignment

if TYPE_CHECKING:
    from bayesclust.posterior.clustering import Clustering

FORMAT = 1
"""Raised whenever older readers could misread newer files."""

KEPT_ROWS = ("membership", "observed_data", "log_likelihood")


def save(clustering: Clustering, path: Any) -> None:
    """Write a clustering to `path`, whole or not at all."""
    path = Path(path)
    name = type(clustering.mixture.family).__name__
    if getattr(families, name, None) is not type(clustering.mixture.family):
        raise ValueError(f"family {name} is not part of bayesclust, so a file cannot name it")
    tree = clustering.tree.copy()
    tree.attrs["bayesclust_format"] = FORMAT
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save to {path}: there is no directory {path.parent}")
    try:
        handle, temporary = tempfile.mkstemp(suffix=".part", dir=path.parent)
    except PermissionError as error:
        raise PermissionError(f"cannot save to {path}: {path.parent} is read-only") from error
    os.close(handle)
    try:
        tree.to_netcdf(temporary, engine="h5netcdf")
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Any) -> Clustering:
    """Read a clustering written by `save`.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Clustering
        Scores rows exactly as the saved one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, was not written by bayesclust, or by a version whose files this
        one cannot read. Nothing in a file is ever executed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no saved model at {path}")
    try:
        tree = xr.load_datatree(path, engine="h5netcdf")
    except Exception as error:
        raise ValueError(f"{path} is no saved model, or is truncated: {error}") from error
    found = tree.attrs.get("bayesclust_format")
    if found is None:
        raise ValueError(f"{path} was not written by bayesclust")
    if found != FORMAT:
        version = tree.attrs.get("bayesclust_version", "?")
        raise ValueError(
            f"{path} has format {found} of bayesclust {version}; this version reads format "
            f"{FORMAT}: load it with bayesclust {version} or fit again"
        )
    try:
        return _rebuild(tree)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is incomplete: {error!r}") from error


def _rebuild(tree: xr.DataTree) -> Clustering:
    from bayesclust.posterior.clustering import Clustering

    attrs = tree.attrs
    name = str(attrs["family"])
    if name not in families.__all__ or name == "Family":
        raise KeyError(f"unknown family {name}")
    family = getattr(families, name)()
    constant = tree["constant_data"].dataset
    # Where the user's units cannot hold every parameter, scaled ones do.
    source = tree["scaled"] if "scaled" in tree.children else tree
    point = _draws(
        family,
        source["point_estimate"].dataset.expand_dims(("chain", "draw")),
        source["point_stats"].dataset,
        source["optimization"].dataset,
    )
    draws = alignment = None
    if int(attrs["has_draws"]):
        draws = _draws(family, source["posterior"].dataset, source["sample_stats"].dataset, None)
        group = tree["alignment"].dataset
        alignment = Alignment(
            np.asarray(group["permutation"]),
            np.asarray(group["confidence"]),
            str(group.attrs.get("method", "pivot")),
        )
    known = {"bayesclust_format", "bayesclust_version", "kind", "family", "n_clusters", "dtype"}
    known |= {"hard", "has_draws"}
    return Clustering(
        Mixture(family, int(attrs["n_clusters"])),
        point,
        draws,
        Units(
            np.asarray(constant["shift"]),
            np.asarray(constant["scale"]),
            exponent=np.asarray(constant["exponent"]) if "exponent" in constant else None,
        ),
        str(attrs["dtype"]),
        [str(f) for f in np.asarray(constant["feature"])],
        hard=bool(attrs["hard"]),
        kind=str(attrs["kind"]),
        alignment=alignment,
        reference=np.asarray(constant["reference_log_density"]),
        groups={n: tree[n].to_dataset() for n in KEPT_ROWS if n in tree.children},
        settings={n: v for n, v in attrs.items() if n not in known},
    )


FLAGS = ("converged", "diverging", "floored", "imprecise", "interrupted", "short", "widened")


def _draws(family: Any, params: xr.Dataset, stats: xr.Dataset, search: Any) -> Draws:
    values = {str(n): np.asarray(v) for n, v in stats.items()}
    flags: dict[str, Any] = {n: v for n, v in values.items() if n in FLAGS}
    if search is not None and "objective" in search:
        flags["objectives"] = np.asarray(search["objective"])
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.asarray(params["weights"]))
    trace = np.zeros((0, 0)) if search is None else np.asarray(search["objective_trace"])
    return Draws(
        params={n: np.asarray(params[n]) for n in family.dims},
        log_weights=log_weights,
        stats={n: v for n, v in values.items() if n not in FLAGS},
        trace=trace,
        flags=flags,
    )
