"""One `DataTree` for every engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesclust._version import __version__
from bayesclust.draws import Draws
from bayesclust.families.base import Family
from bayesclust.mixture import unscaled
from bayesclust.posterior import membership
from bayesclust.posterior.lazy import xr
from bayesclust.posterior.priors import described_weights

if TYPE_CHECKING:
    from bayesclust.posterior.clustering import Clustering

DRAW = ("chain", "draw")

LOG_LIKELIHOOD_SIZE = 4_000_000
"""Most numbers of the `log_likelihood` group."""


class Training(NamedTuple):
    """The rows of the fit, held until the tree has been built.

    Answers read them again, so they must lie in memory that no caller writes to.

    Attributes
    ----------
    X : (n, d) ndarray
    sample_weight : (n,) ndarray or None
    index : sequence or None
        Row names.
    """

    X: np.ndarray
    sample_weight: np.ndarray | None
    index: Any

    def positions(self, most: int) -> np.ndarray:
        """Rows of positive weight, evenly spaced: at least `most`, fewer than twice as many."""
        every = np.arange(len(self.X))
        if self.sample_weight is not None:
            every = every[np.asarray(self.sample_weight) > 0]
        return every[:: max(1, len(every) // most)]

    def some(self, most: int) -> np.ndarray:
        """The rows at these positions."""
        return self.X[self.positions(most)]


def build(
    clustering: Clustering, training: Training | None, groups: dict[str, xr.Dataset]
) -> xr.DataTree:
    """All that a clustering says.

    Parameters
    ----------
    clustering : Clustering
    training : Training or None
        Rows of the fit, if they are at hand.
    groups : dict
        Groups that are ready, and replace those built here.
    """
    family, features = clustering.mixture.family, clustering.features
    point, units = clustering.point, clustering.units
    draws = point if clustering.draws is None else clustering.draws

    def of_draws(point: Draws, draws: Draws) -> dict[str, xr.Dataset]:
        return {
            "posterior": parameters(family, draws, features).assign_attrs(draws=clustering.origin),
            "sample_stats": statistics(draws),
            "point_estimate": parameters(family, point, features, point=True),
            "point_stats": statistics(point),
            "optimization": optimization(point),
        }

    shown = [unscaled(clustering.mixture, d, units) for d in (point, draws)]
    found = {
        "/": xr.Dataset(attrs=_attributes(clustering)),
        **of_draws(*shown),
        "constant_data": xr.Dataset(
            {
                "shift": (("feature",), units.shift),
                "scale": (("feature",), units.scale),
                "reference_log_density": (("reference",), clustering.reference),
            },
            coords={"feature": features},
        ),
    }
    if clustering.hard:
        for group in ("posterior", "point_estimate"):
            found[group]["weights"].attrs["description"] = (
                "of the mixture whose memberships are those of k-means, no shares of rows"
            )
    if units.exponent is not None:
        # What is infinite or zero in the user's units, such as the square of 1e200, is here.
        found["constant_data"]["exponent"] = (("feature",), units.exponent)
        found |= {f"scaled/{name}": group for name, group in of_draws(point, draws).items()}
    if clustering.alignment is not None:
        found["alignment"] = alignment(*clustering.alignment)
    if training is not None:
        found |= _row_groups(clustering, training)
    return xr.DataTree.from_dict({**found, **groups})


def protected(tree: xr.DataTree) -> xr.DataTree:
    """The same tree, its arrays read-only: answers are read off it, too."""
    for node in tree.subtree:
        for variable in node.dataset.variables.values():
            if isinstance(variable.data, np.ndarray):
                variable.data.flags.writeable = False
    return tree


def log_likelihood(clustering: Clustering, X: np.ndarray, obs: Any) -> xr.Dataset:
    """Log density of each row under each draw; see `Clustering.log_likelihood`."""
    draws = clustering.point if clustering.draws is None else clustering.draws
    value = membership.log_likelihood(clustering.model, X).reshape(*draws.shape, -1)
    return log_likelihood_of(value, obs)


def log_likelihood_of(value: np.ndarray, obs: Any) -> xr.Dataset:
    """Put log densities ``(c, s, n)`` of named rows into a group."""
    return _stamped(xr.Dataset({"x": ((*DRAW, "obs"), value)}, coords={"obs": obs}))


def members(membership: xr.Dataset, sample_weight: Any) -> xr.Dataset:
    """Count the rows of each cluster and average how probable their membership is.

    Parameters
    ----------
    membership : xarray.Dataset
        Of the training rows.
    sample_weight : (n,) array or None

    Returns
    -------
    xarray.Dataset
        By cluster: `size`, the number of rows or their weight; `probability`; `outliers`, the
        number of rows that are unlike any cluster.
    """
    k, label = membership.sizes["cluster"], np.asarray(membership["label"])
    own = np.asarray(membership["probability"], np.float64)[np.arange(len(label)), label]
    weight = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    size = np.bincount(label, weights=weight, minlength=k)
    total = np.bincount(label, weights=own if weight is None else own * weight, minlength=k)
    outliers = np.zeros(k, int)
    if "outlier" in membership:  # older files do not tell
        outliers = np.bincount(label[np.asarray(membership["outlier"], bool)], minlength=k)
    return members_of(size, total / np.where(size > 0, size, 1), outliers)


def members_of(size: np.ndarray, probability: np.ndarray, outliers: np.ndarray) -> xr.Dataset:
    """Put sizes of clusters ``(k,)``, how sure their rows are and how many outliers, in a group."""
    found = {"size": size, "probability": probability, "outliers": outliers}
    data = {name: ("cluster", value) for name, value in found.items()}
    return xr.Dataset(data, coords={"cluster": np.arange(len(size))})


def over_draws(clustering: Clustering, reduce: Callable[..., np.ndarray]) -> xr.Dataset:
    """Summarise every parameter over the draws, in the user's units.

    Parameters
    ----------
    clustering : Clustering
        With draws.
    reduce : callable
        A NumPy reduction such as `np.mean`, that takes `axis`. In scaled units, where no sum
        overflows.
    """
    draws = clustering.draws
    assert draws is not None
    with np.errstate(divide="ignore"):
        log_weights = np.log(reduce(np.exp(draws.log_weights), axis=(0, 1)))[None, None]
    params = {n: reduce(np.asarray(v), axis=(0, 1))[None, None] for n, v in draws.params.items()}
    found = dataclasses.replace(draws, params=params, log_weights=log_weights, stats={})
    found = unscaled(clustering.mixture, found, clustering.units)
    return parameters(clustering.mixture.family, found, clustering.features, point=True)


def training(tree: xr.DataTree) -> Training | None:
    """The rows of the fit, from a tree that holds them."""
    if "observed_data" not in tree.children:
        return None
    data = tree["observed_data"].dataset
    weight = np.asarray(data["sample_weight"]) if "sample_weight" in data else None
    return Training(np.asarray(data["x"]), weight, np.asarray(data["obs"]))


def _attributes(clustering: Clustering) -> dict[str, Any]:
    return {
        "bayesclust_version": __version__,
        "kind": clustering.kind,
        "family": type(clustering.mixture.family).__name__,
        "n_clusters": clustering.mixture.k,
        "dtype": clustering.dtype.name,
        "hard": int(clustering.hard),
        "has_draws": int(clustering.draws is not None),
        **described_weights(clustering.mixture.weights),
        **clustering.settings,
    }


def _row_groups(clustering: Clustering, training: Training) -> dict[str, xr.Dataset]:
    X, weight, index = training
    obs = np.arange(len(X)) if index is None else index
    groups = {
        "membership": clustering.membership(X).assign_coords(obs=obs),
        "observed_data": xr.Dataset(
            {"x": (("obs", "feature"), X)}, coords={"obs": obs, "feature": clustering.features}
        ),
    }
    if weight is not None:
        groups["observed_data"]["sample_weight"] = (("obs",), np.asarray(weight))
    groups["members"] = members(groups["membership"], weight)
    if clustering.model.n_draws * len(X) <= LOG_LIKELIHOOD_SIZE:
        groups["log_likelihood"] = log_likelihood(clustering, X, obs)
    return groups


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
    flags = {n: np.asarray(v) for n, v in draws.flags.items() if np.ndim(v) == 2}
    # ArviZ summarizes numbers only, but knows divergences as booleans.
    values |= {
        n: v.astype(np.int8) if v.dtype == bool and n != "diverging" else v
        for n, v in flags.items()
    }
    data = {n: (DRAW, np.asarray(v)) for n, v in values.items()}
    sizes = zip(DRAW, draws.shape, strict=True)
    dataset = _stamped(xr.Dataset(data, coords={n: np.arange(size) for n, size in sizes}))
    dataset.attrs["flags"] = " ".join(sorted(flags))
    return dataset


def optimization(draws: Draws) -> xr.Dataset:
    """Objective by start and step, and where each start ended."""
    trace = np.asarray(draws.trace)
    made = np.isfinite(trace)
    used = int(np.max(np.flatnonzero(made.any(axis=0)), initial=-1)) + 1
    trace = np.where(made, trace, np.nan)[:, :used]
    data: dict[str, Any] = {"objective_trace": (("restart", "step"), trace)}
    if "objectives" in draws.flags:
        ends = np.asarray(draws.flags["objectives"])
        name = "restart" if len(ends) == len(trace) else "start"
        data["objective"] = ((name,), ends)
    return xr.Dataset(data)


def alignment(permutation: np.ndarray, confidence: np.ndarray, method: str) -> xr.Dataset:
    """The relabelling of the draws and how sure it is."""
    dataset = _stamped(
        xr.Dataset(
            {
                "permutation": ((*DRAW, "cluster"), permutation),
                "confidence": (DRAW, confidence),
            },
            coords={"cluster": np.arange(permutation.shape[-1])},
        )
    )
    dataset.attrs["method"] = method
    return dataset


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
