"""Saved clusterings: netCDF files that hold all that scoring needs, and no code."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesclust import families
from bayesclust._files import write_whole
from bayesclust.core.units import Units
from bayesclust.draws import Draws
from bayesclust.families.base import Family
from bayesclust.mixture import Mixture
from bayesclust.posterior import tree as tree_
from bayesclust.posterior.checks import check
from bayesclust.posterior.heaps import endless_heap
from bayesclust.posterior.lazy import xr
from bayesclust.posterior.netcdf import Group, Reader
from bayesclust.posterior.priors import is_described, restored_weights
from bayesclust.posterior.relabel import Alignment
from bayesclust.posterior.seal import find_seal, sealed

if TYPE_CHECKING:
    from bayesclust.posterior.clustering import Clustering

FORMAT = 2
"""Raised whenever older readers could misread newer files."""

UNSEALED = 1
"""The format before files had a seal."""

MODEL_GROUPS = (
    "posterior",
    "sample_stats",
    "point_estimate",
    "point_stats",
    "optimization",
    "constant_data",
    "alignment",
    "members",
    "scaled",
)
"""Groups that say nothing of single rows."""

ATTRIBUTES = {
    "bayesclust_format",
    "bayesclust_version",
    "kind",
    "family",
    "n_clusters",
    "dtype",
    "hard",
    "has_draws",
    "has_rows",
    "weights",
}
"""Of the root; all others are settings."""

FLAGS = (
    "converged",
    "diverging",
    "floored",
    "imprecise",
    "interrupted",
    "short",
    "stopped",
    "widened",
)
"""Statistics that are flags in files that do not name them."""


def save(clustering: Clustering, path: Any, *, rows: bool = True) -> None:
    """Write a clustering to `path`, whole or not at all; see `Clustering.save`."""
    write_whole(path, to_bytes(clustering, rows=rows))


def to_bytes(clustering: Clustering, *, rows: bool = True) -> bytes:
    """Encode a clustering as the bytes of a file.

    In memory, because HDF5 ends the process when the disk below it fills up.

    Raises
    ------
    ValueError
        If the family is not one of this package, or the fit is one that `load` would refuse.
    """
    name = type(clustering.mixture.family).__name__
    if getattr(families, name, None) is not type(clustering.mixture.family):
        raise ValueError(f"family {name} is not part of bayesclust, so a file cannot name it")
    try:
        with np.errstate(all="ignore"):
            check(clustering)
    except ValueError as error:
        raise ValueError(f"the fit is degenerate and cannot be saved: {error}") from error
    tree = clustering.tree.copy()
    if not rows:
        for group in set(tree.children) - set(MODEL_GROUPS):
            del tree[group]
    tree.attrs |= {"bayesclust_format": FORMAT, "has_rows": int("observed_data" in tree.children)}
    with tree.to_netcdf(engine="h5netcdf") as view:
        return sealed(bytes(view))


def load(path: Any) -> Clustering:
    """Read a clustering written by `save`.

    A file holds the fitted parameters and their draws, the names of the features, statistics of
    the fit, the sorted log densities of up to 4096 training rows (`density_rank` needs them), and
    per cluster how many rows it has and how sure they are. Unless it was saved with
    ``rows=False`` it also holds the training rows, their names and weights, and what the fit says
    of each; the attribute `has_rows` tells.

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
        If the file is truncated or damaged, was not written by bayesclust, or by a version whose
        files this one cannot read; if its numbers are none that a fit can have; or if it declares
        more than 64 MiB and 20 times its size.

    Notes
    -----
    A file from a stranger can at worst be refused, or score rows by another model than was
    promised: nothing in it is executed, no other file is opened, only known variables are read,
    and their values are checked.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no saved model at {path}")
    size = path.stat().st_size
    with path.open("rb") as file:
        intact = find_seal(file, size)
        if intact is False:
            raise ValueError(f"{path} is damaged: its bytes are not those that were saved")
        try:
            if endless_heap(file):
                raise ValueError("a heap of texts has no end")
            reader = Reader(file, size)
        except Exception as error:  # whatever the HDF5 library makes of foreign bytes
            raise ValueError(f"{path} is no saved model, or is truncated: {error}") from error
        try:
            with reader, np.errstate(all="ignore"):
                attributes = reader.root.attributes()
                if attributes.get("bayesclust_format") == FORMAT and intact is None:
                    raise ValueError("its seal is missing")
                if attributes.get("bayesclust_format") in (FORMAT, UNSEALED):
                    return _rebuild(reader, attributes)
        except Exception as error:
            why = str(error) or type(error).__name__
            raise ValueError(f"{path} is incomplete or was changed: {why}") from error
    found, version = (attributes.get(f"bayesclust_{n}") for n in ("format", "version"))
    if found is None:
        raise ValueError(f"{path} was not written by bayesclust")
    raise ValueError(
        f"{path} has format {found} of bayesclust {version}; this version reads formats up to "
        f"{FORMAT}: load it with bayesclust {version} or fit again"
    )


def _rebuild(reader: Reader, attributes: dict[str, Any]) -> Clustering:
    from bayesclust.posterior.clustering import Clustering

    family = _family(attributes.get("family"))
    dtype = _one_of(attributes, "dtype", ("float32", "float64"))
    hard, has_draws = (bool(_one_of(attributes, n, (0, 1))) for n in ("hard", "has_draws"))
    if hard and not isinstance(family, families.SphericalGaussian):
        raise ValueError(f"hard clusters have no family {type(family).__name__}")
    for name, group in (("has_draws", "alignment"), ("has_rows", "observed_data")):
        if attributes.get(name, int(group in reader.root)) != int(group in reader.root):
            raise ValueError(f"{name} is {attributes[name]!r}, unlike the group {group}")
    constant = reader.group("constant_data")
    features = constant.texts("feature", (None,))
    k, d = attributes.get("n_clusters"), len(features)
    if not isinstance(k, int) or k < 1 or d < 1:
        raise ValueError(f"n_clusters is {k!r} and there are {d} features")
    exponent = None
    if "exponent" in constant:
        exponent = constant.integers("exponent", (d,)).astype(np.int32)
    # Where the user's units cannot hold every parameter, scaled ones do.
    source = reader.root if exponent is None else reader.group("scaled")
    point = _draws(source, ("point_estimate", "point_stats"), family, k, d, lead=())
    draws = alignment = None
    if has_draws:
        draws = _draws(source, ("posterior", "sample_stats"), family, k, d, lead=(None, None))
        alignment = _alignment(reader.group("alignment"), (*draws.shape, k))
    groups = _row_groups(reader, draws or point, features)
    if "members" in reader.root:
        groups["members"] = _members(reader.group("members"), k)
    elif "membership" in groups:
        weight = groups["observed_data"].get("sample_weight")
        groups["members"] = tree_.members(groups["membership"], weight)
    clustering = Clustering(
        Mixture(family, k, restored_weights(attributes.get("weights"), k)),
        point,
        draws,
        Units(constant.floats("shift", (d,)), constant.floats("scale", (d,)), exponent=exponent),
        dtype,
        features,
        hard=hard,
        kind=_text(attributes, "kind"),
        alignment=alignment,
        reference=constant.floats("reference_log_density", (None,)),
        groups=groups,
        settings=_settings(attributes),
    )
    check(clustering)
    return clustering


def _family(name: Any) -> Family:
    found = getattr(families, name, None) if name in families.__all__ else None
    if not inspect.isclass(found) or not issubclass(found, Family) or inspect.isabstract(found):
        raise ValueError(f"there is no family {name!r}")
    return found()


def _one_of(attributes: dict[str, Any], name: str, known: tuple[Any, ...]) -> Any:
    value = attributes.get(name)
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {known}")
    return value


def _text(attributes: dict[str, Any], name: str) -> str:
    value = attributes.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, expected a text")
    return value


def _settings(attributes: dict[str, Any]) -> dict[str, Any]:
    settings = {
        name: value
        for name, value in attributes.items()
        if name not in ATTRIBUTES and not name.startswith("_")
    }
    for name in {"standardize", "named"} & settings.keys():
        _one_of(settings, name, (0, 1))
    if "prior" in settings:
        prior = json.loads(_text(settings, "prior"))
        if not isinstance(prior, dict) or not all(map(is_described, prior.values())):
            raise ValueError("prior is no description of priors")
    return settings


def _draws(
    source: Group,
    groups: tuple[str, str],
    family: Family,
    k: int,
    d: int,
    *,
    lead: tuple[None, ...],
) -> Draws:
    """Draws from a group of parameters, behind chain and draw or nothing, and one of statistics."""
    parameters, stats = map(source.group, groups)
    weights = parameters.floats("weights", (*lead, k))
    outer = weights.shape[:-1]
    if 0 in outer:
        raise ValueError(f"{groups[0]} holds no draws")
    size = {"cluster": k, "feature": d, "feature_bis": d}
    params = {
        name: parameters.floats(name, (*outer, *(size[dim] for dim in dims)))
        for name, dims in family.dims.items()
    }
    if not outer:
        weights = weights[None, None]
        params = {name: value[None, None] for name, value in params.items()}
    shape = weights.shape[:2]
    named = stats.attributes().get("flags")
    flag_names = FLAGS if named is None else str(named).split()
    values = {name: stats.numbers(name, shape) for name in stats.names() if name not in tree_.DRAW}
    flags = {name: value for name, value in values.items() if name in flag_names}
    for name, value in flags.items():
        if not ((value >= 0) & (value <= (k if name == "floored" else 1))).all():
            raise ValueError(f"{groups[1]}/{name} is no flag")
    trace = np.zeros((0, 0))
    if not outer:
        search = source.group("optimization")
        trace = search.floats("objective_trace", (None, None))
        if "objective" in search:
            flags["objectives"] = search.floats("objective", (None,))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_weights = np.log(weights)
    return Draws(
        params=params,
        log_weights=log_weights,
        stats={name: value for name, value in values.items() if name not in flag_names},
        trace=trace,
        flags=flags,
    )


def _alignment(group: Group, shape: tuple[int, int, int]) -> Alignment:
    return Alignment(
        group.integers("permutation", shape),
        group.floats("confidence", shape[:2]),
        str(group.attributes().get("method", "pivot")),
    )


def _members(group: Group, k: int) -> xr.Dataset:
    size, probability = group.numbers("size", (k,)), group.floats("probability", (k,))
    if not ((size >= 0) & (size < np.inf)).all():
        raise ValueError("members/size must not be negative")
    if not ((probability >= 0) & (probability <= 1 + ROUNDING)).all():
        raise ValueError("members/probability must lie between 0 and 1")
    outliers = group.integers("outliers", (k,))
    if not (outliers >= 0).all():
        raise ValueError("members/outliers must not be negative")
    return tree_.members_of(size, probability, outliers)


ROUNDING = 1e-5
"""How far a probability in float32 may lie above one."""


def _row_groups(reader: Reader, draws: Draws, features: list[str]) -> dict[str, xr.Dataset]:
    """Groups of the training rows, if the file holds them."""
    if "observed_data" not in reader.root:
        return {}
    data, seen = reader.group("observed_data"), reader.group("membership")
    x = data.floats("x", (None, len(features)))
    n, k = len(x), draws.k
    if n < 1 or not np.isfinite(x).all():
        raise ValueError("observed_data/x holds no rows, or NaN or infinity")
    obs = data.names_of_rows("obs", n)
    rows: dict[str, Any] = {"x": (("obs", "feature"), x)}
    if "sample_weight" in data:
        weight = data.floats("sample_weight", (n,))
        if not ((weight >= 0) & (weight < np.inf)).all() or not weight.any():
            raise ValueError("observed_data/sample_weight must be weights of rows")
        rows["sample_weight"] = (("obs",), weight)
    answers = {}
    for name in seen.names():
        if name not in ("obs", "cluster"):
            sizes = {"obs": n} if seen.dimensions(name) == 1 else {"obs": n, "cluster": k}
            answers[name] = (tuple(sizes), seen.numbers(name, tuple(sizes.values())))
    probability, label = seen.floats("probability", (n, k)), seen.integers("label", (n,))
    if not ((probability >= 0) & (probability <= 1 + ROUNDING)).all():
        raise ValueError("membership/probability must lie between 0 and 1")
    if not ((label >= 0) & (label < k)).all():
        raise ValueError(f"membership/label must be clusters, 0 to {k - 1}")
    level = seen.attributes().get("level")
    if not isinstance(level, float) or not 0 < level < 1:
        raise ValueError(f"membership has the level {level!r}, expected one between 0 and 1")
    membership = xr.Dataset(answers, coords={"obs": obs, "cluster": np.arange(k)})
    membership.attrs["level"] = level
    groups = {
        "membership": membership,
        "observed_data": xr.Dataset(rows, coords={"obs": obs, "feature": features}),
    }
    if "log_likelihood" in reader.root:
        group = reader.group("log_likelihood")
        value = group.floats("x", (*draws.shape, None))
        obs = group.names_of_rows("obs", value.shape[-1])  # other rows may have been asked about
        groups["log_likelihood"] = tree_.log_likelihood_of(value, obs)
    return groups
