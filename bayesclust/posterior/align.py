"""Draws brought to one labelling.

References
----------
M. Stephens (2000), Dealing with label switching in mixture models, J. R. Stat. Soc. B 62, 795-809,
    section 4: labels are matched through the rows' membership probabilities.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from bayesclust.draws import Draws
from bayesclust.families.base import Family
from bayesclust.mixture import Mixture


class Alignment(NamedTuple):
    """How draws were relabelled.

    Attributes
    ----------
    permutation : (c, s, k) int ndarray
        Component of the raw draw that stands at each place of the aligned one.
    confidence : (c, s) ndarray
        Share of the rows' mass on which the aligned draw and the reference agree, 0 to 1,
        relative to the reference's agreement with itself.
    """

    permutation: np.ndarray
    confidence: np.ndarray


@jax.jit
def _overlaps(mixture: Mixture, point: Any, draws: Any, X: Any) -> Any:
    reference = mixture.responsibilities(*point, X)

    def overlap(draw: Any) -> Any:
        return reference.T @ mixture.responsibilities(*draw, X) / X.shape[0]

    return reference.T @ reference / X.shape[0], jax.lax.map(overlap, draws)


def overlaps(
    mixture: Mixture, point: Any, draws: Any, X: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean joint membership of each reference component and each drawn one.

    Parameters
    ----------
    mixture : Mixture
    point : (params, log_weights)
        The reference.
    draws : (params, log_weights)
        With a leading axis of draws.
    X : (m, d) array
        Rows to compare on, in the units of the parameters.

    Returns
    -------
    own : (k, k) ndarray
        Of the reference with itself.
    overlap : (s, k, k) ndarray
        Reference components first.
    """
    own, overlap = _overlaps(mixture, point, draws, jnp.asarray(X))
    return np.asarray(own), np.asarray(overlap)


def match(overlap: np.ndarray) -> np.ndarray:
    """Permutations of greatest total overlap, by the Hungarian method: ``(s, k, k) -> (s, k)``."""
    return np.stack([linear_sum_assignment(o, maximize=True)[1] for o in overlap])


def align(draws: Draws, family: Family, own: np.ndarray, overlap: np.ndarray) -> tuple[Draws, Any]:
    """Relabel draws to agree with a reference.

    Parameters
    ----------
    draws : Draws
        On the host.
    family : Family
    own, overlap
        From `overlaps`, draws in row-major order of chain and draw.

    Returns
    -------
    Draws, Alignment
    """
    c, s = draws.shape
    permutation = match(overlap)
    agreed = np.take_along_axis(overlap, permutation[:, None, :].swapaxes(1, 2), axis=2)
    confidence = np.minimum(agreed[..., 0].sum(axis=1) / np.trace(own), 1.0)
    permutation = permutation.reshape(c, s, -1)
    aligned = permute(draws, family, permutation)
    return aligned, Alignment(permutation, confidence.reshape(c, s))


def in_order(point: Draws, family: Family) -> Draws:
    """A point fit with components numbered by their means, so that names do not depend on luck."""
    order = np.lexsort(np.asarray(point.params["mean"])[0, 0].T[::-1])
    return permute(point, family, order[None, None])


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
        log_weights=reorder(draws.log_weights, 2),  # type: ignore[arg-type]
        stats=draws.stats,
        trace=draws.trace,
        flags=draws.flags,
    )
