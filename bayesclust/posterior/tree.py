"""One `DataTree` for every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayesclust._version import __version__
from bayesclust.draws import Draws
from bayesclust.families.base import Family

DRAW = ("chain", "draw")


def names(family: Family, draws: Draws, features: list[str]) -> dict[str, Any]:
    """Coordinates of a tree: clusters numbered from 0, features by name."""
    return {
        "cluster": np.arange(draws.k),
        "feature": np.asarray(features, dtype=object).astype(str),
        "feature_bis": np.asarray(features, dtype=object).astype(str),
    }


def parameters(
    family: Family, draws: Draws, features: list[str], *, point: bool = False
) -> xr.Dataset:
    """Weights and family parameters, behind chain and draw unless `point`."""
    lead = () if point else DRAW
    take = (lambda v: np.asarray(v)[0, 0]) if point else np.asarray
    data: dict[str, Any] = {"weights": ((*lead, "cluster"), np.exp(take(draws.log_weights)))}
    for name, value in draws.params.items():
        data[name] = ((*lead, *family.dims[name]), take(value))
    used = {dim for dims, _ in data.values() for dim in dims}
    coords = {n: v for n, v in names(family, draws, features).items() if n in used}
    return _stamped(xr.Dataset(data, coords=coords), sampled=not point)


def statistics(draws: Draws) -> xr.Dataset:
    """Label-free scalars per draw."""
    values = {**draws.stats}
    values |= {n: v for n, v in draws.flags.items() if np.ndim(v) == 2}
    return _stamped(xr.Dataset({n: (DRAW, np.asarray(v)) for n, v in values.items()}))


def optimization(draws: Draws) -> xr.Dataset:
    """Objective by start and step, and where each start ended."""
    trace = np.asarray(draws.trace)
    used = int(np.isfinite(trace).any(axis=0).sum()) if trace.size else 0
    data: dict[str, Any] = {"objective_trace": (("restart", "step"), trace[:, :used])}
    if "objectives" in draws.flags:
        ends = np.asarray(draws.flags["objectives"])
        name = "restart" if len(ends) == len(trace) else "start"
        data["objective"] = ((name,), ends)
    return xr.Dataset(data)


def alignment(permutation: np.ndarray, confidence: np.ndarray) -> xr.Dataset:
    """The relabelling of the draws and how sure it is."""
    return _stamped(
        xr.Dataset(
            {
                "permutation": ((*DRAW, "cluster"), permutation),
                "confidence": (DRAW, confidence),
            },
            coords={"cluster": np.arange(permutation.shape[-1])},
        )
    )


def _stamped(dataset: xr.Dataset, *, sampled: bool = True) -> xr.Dataset:
    if sampled:
        sizes = dataset.sizes
        dataset = dataset.assign_coords(
            chain=np.arange(sizes["chain"]), draw=np.arange(sizes["draw"])
        )
        dataset.attrs["sample_dims"] = list(DRAW)
    dataset.attrs |= {
        "inference_library": "bayesclust",
        "inference_library_version": __version__,
    }
    return dataset
