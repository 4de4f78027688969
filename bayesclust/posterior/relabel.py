"""Draws brought to one labelling.

References
----------
M. Stephens (2000), Dealing with label switching in mixture models, J. R. Stat. Soc. B 62, 795-809.
J.-M. Marin, K. Mengersen and C. P. Robert (2005), Bayesian modelling and inference on mixtures of
    distributions, Handbook of Statistics 25, 459-507, section 3.4: a pivot draw.
P. Papastamoulis and G. Iliopoulos (2010), An artificial allocations based solution to the label
    switching problem, J. Comput. Graph. Stat. 19, 313-331: matching of allocations to a pivot's.
S. Richardson and P. J. Green (1997), On Bayesian analysis of mixtures with an unknown number of
    components, J. R. Stat. Soc. B 59, 731-792, section 2.2: ordering by a parameter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from bayesclust.draws import Draws
from bayesclust.families.base import Family
from bayesclust.posterior.agreement import agreements, inward, mean_membership
from bayesclust.posterior.membership import Model

STEPS = 100
"""Most iterations of Stephens' algorithm; each lowers its loss or is the last."""


class Alignment(NamedTuple):
    """How draws were relabelled.

    Attributes
    ----------
    permutation : (c, s, k) int ndarray
        Component of the raw draw that stands at each place of the aligned one.
    confidence : (c, s) ndarray
        How far the aligned draw agrees with the point fit about which row is in which cluster:
        1 as much as the point fit with itself, 0 no more than under labels at random.
    method : str
        One of `METHODS`.
    """

    permutation: np.ndarray
    confidence: np.ndarray
    method: str = "pivot"


class Relabelling(NamedTuple):
    """The answer of `relabel`.

    Attributes
    ----------
    point : (k,) int ndarray
        Component of the point fit at each place.
    permutation : (s, k) int ndarray
        Component of each draw at each place.
    confidence : (s,) ndarray
        See `Alignment`.
    """

    point: np.ndarray
    permutation: np.ndarray
    confidence: np.ndarray


class Task(NamedTuple):
    """What a method of relabelling is given.

    Attributes
    ----------
    point, draws : Model
    x : (m, d) ndarray
        Rows in the models' units.
    reference : (m, k) ndarray
        Memberships under the point fit.
    shared : (s, k, k) ndarray
        Mass that each component of the point fit shares with each of each draw.
    by : str
        Parameter to order by.
    """

    point: Model
    draws: Model
    x: np.ndarray
    reference: np.ndarray
    shared: np.ndarray
    by: str


def match(gain: np.ndarray) -> np.ndarray:
    """Permutations of greatest total gain, by the Hungarian method: ``(s, k, k) -> (s, k)``."""
    return np.stack([linear_sum_assignment(g, maximize=True)[1] for g in gain])


def pivot(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Every draw matched to the point fit: the greatest shared membership of rows.

    The matching of allocations to a pivot's (ECR) with probabilities in place of allocations.
    """
    return np.arange(task.reference.shape[1]), match(task.shared)


def stephens(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Draws matched to their own average: the least loss of information (Stephens 2000, alg. 2).

    Average the relabelled memberships, ``q``, and relabel every draw for the least divergence
    ``sum_ij p_ij log(p_ij / q_ij)`` from them, until nothing changes. ``sum p log p`` is the same
    under all labels, so ``sum p log q`` decides. The start is the matching to the point fit, and
    the clusters are named after its.
    """
    places, permutation = pivot(task)
    tiny = np.finfo(task.draws.dtype).tiny
    q = mean_membership(task.draws, task.x, permutation)
    for _ in range(STEPS):
        moved = match(agreements(task.draws, np.log(np.maximum(q, tiny)), task.x))
        if np.array_equal(moved, permutation):
            break
        permutation = moved
        q = mean_membership(task.draws, task.x, permutation)
    return places, permutation[:, match((task.reference.T @ q)[None])[0]]


def order(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Components of every draw, and of the point fit, sorted by one parameter, ascending.

    The name promises a meaning ("the lowest mean") that holds in every draw; where clusters
    differ by another parameter it cuts across them, and the confidence is low.
    """
    dims = task.point.mixture.family.dims
    point, draws = (
        _sorted(m.params, m.log_weights, dims, task.by) for m in (task.point, task.draws)
    )
    return point[0], draws


METHODS: dict[str, Any] = {"pivot": pivot, "stephens": stephens, "order": order}


def relabel(
    point: Model, draws: Model, X: np.ndarray, method: str = "pivot", by: str = "mean"
) -> Relabelling:
    """Find one labelling for all draws.

    Parameters
    ----------
    point : Model
        The point fit: of one draw.
    draws : Model
        Of `s` draws in any labelling.
    X : (m, d) ndarray
        Rows to compare memberships on, in the user's units.
    method : {"pivot", "stephens", "order"}
        See the functions of these names.
    by : str
        Parameter to order by; of one with several numbers per component the first decides, the
        others where it ties.

    Returns
    -------
    Relabelling
        The same clusters, whatever labels the draws came with.

    Raises
    ------
    ValueError
        If there is no such method, or no such parameter of the components.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known: give one of {sorted(METHODS)}")
    x = inward(point, X)
    reference = mean_membership(point, x)
    shared = agreements(draws, reference, x)
    places, permutation = METHODS[method](Task(point, draws, x, reference, shared, by))
    k = len(places)
    s = np.arange(len(permutation))[:, None]
    agreed = shared[s, places, permutation].sum(axis=1) / len(x)
    own = float(np.square(reference, dtype=np.float64).sum()) / len(x)
    # Labels at random agree on 1 / k of the rows, whatever the clusters' sizes.
    room = own - 1 / k
    certain = float(k == 1)
    confidence = np.clip((agreed - 1 / k) / room, 0, 1) if room > 1e-6 else np.full(len(s), certain)
    return Relabelling(places, permutation, confidence)


def aligned(
    point: Draws, draws: Draws, models: tuple[Model, Model], X: np.ndarray, method: str, by: str
) -> tuple[Draws, Draws, Alignment]:
    """`relabel` put into practice: the point fit, the draws, and how they were relabelled.

    Parameters
    ----------
    point, draws : Draws
    models : (Model, Model)
        The same, ready to score rows.
    X, method, by
        As for `relabel`.
    """
    family = models[0].mixture.family
    found = relabel(*models, X, method, by)
    permutation = found.permutation.reshape(*draws.shape, -1)
    alignment = Alignment(permutation, found.confidence.reshape(draws.shape), method)
    point = permute(point, family, found.point[None, None])
    return point, permute(draws, family, permutation), alignment


def in_order_of_means(point: Draws, family: Family) -> np.ndarray:
    """Components of a point fit by their means, the first feature first, ``(k,)``."""
    params = {n: np.asarray(v)[0] for n, v in point.params.items()}
    return _sorted(params, np.asarray(point.log_weights)[0], family.dims, "mean")[0]


def in_order(point: Draws, family: Family) -> Draws:
    """A point fit with components numbered by their means, so that names do not depend on luck."""
    return permute(point, family, in_order_of_means(point, family)[None, None])


def _sorted(params: Any, log_weights: Any, dims: Any, by: str) -> np.ndarray:
    """Components of each draw in ascending order of a parameter, ``(s, k)``."""
    known = ["weights", *(name for name in params if "cluster" in dims[name])]
    if by not in known:
        raise ValueError(f"by={by!r} is no parameter of a component: give one of {known}")
    if by == "weights":
        value = np.asarray(log_weights)[..., None]
    else:
        value = np.moveaxis(np.asarray(params[by]), 1 + dims[by].index("cluster"), 1)
        value = value.reshape(*value.shape[:2], -1)
    return np.stack([np.lexsort(v.T[::-1]) for v in value])


def permute(draws: Draws, family: Family, permutation: np.ndarray) -> Draws:
    """Draws with component ``permutation[c, s, j]`` at place ``j``."""

    def reorder(v: np.ndarray, axis: int) -> np.ndarray:
        index = permutation.reshape(
            *permutation.shape[:2], *[1] * (axis - 2), -1, *[1] * (v.ndim - axis - 1)
        )
        return np.take_along_axis(np.asarray(v), index, axis=axis)

    params = {
        name: reorder(v, 2 + family.dims[name].index("cluster"))
        if "cluster" in family.dims[name]
        else np.asarray(v)
        for name, v in draws.params.items()
    }
    return Draws(
        params=params,
        log_weights=reorder(draws.log_weights, 2),
        stats=draws.stats,
        trace=draws.trace,
        flags=draws.flags,
    )
