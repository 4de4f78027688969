"""Which rows lie together: quantities of a draw that no relabelling changes.

References
----------
D. A. Binder (1978), Bayesian cluster analysis, Biometrika 65, 31-38: the loss that counts pairs of
    rows on which two partitions disagree.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._typing import Array
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.linalg import matmul
from bayesclust.mixture import Mixture
from bayesclust.posterior.agreement import inward, mean_membership
from bayesclust.posterior.membership import Model

PAIRS = 5
"""Most pairs of rows that are followed."""

SURE = 0.02
"""Pairs that lie together with less than this probability, or apart, say nothing."""


def label_free(
    point: Model, draws: Model, X: np.ndarray, names: np.ndarray
) -> dict[str, np.ndarray]:
    """Quantities of each draw's partition of a few rows.

    Given parameters, rows are in clusters independently, so two of them are in the same one with
    probability ``sum_j p_ij p_lj``.

    Parameters
    ----------
    point : Model
        Of one draw.
    draws : Model
        Of `s` draws.
    X : (m, d) ndarray
        A few rows, in the user's units; m x m numbers are held.
    names : (m,) int ndarray
        What the rows are called in the names of the answer.

    Returns
    -------
    dict of (s,) ndarrays
        `reference_distance`, the expected share of pairs of rows on which a draw's partition and
        that of the point fit disagree; and, for up to `PAIRS` pairs of rows `a` and `b` about
        which the draws are least sure, ``coclustering_a_b``, the probability that they lie
        together. Empty for a single cluster.
    """
    if draws.mixture.k == 1 or len(X) < 2:
        return {}
    x = inward(point, X)
    label = mean_membership(point, x).argmax(axis=1)
    reference = (label[:, None] == label).astype(draws.dtype)
    model = (draws.mixture, draws.params, draws.log_weights)
    with arithmetic(draws.dtype == np.float64):
        mean, distance = jax.device_get(_compare(*model, reference, x))
        out = {"reference_distance": distance}
        pairs = unsure(mean)
        if len(pairs):
            found = np.asarray(_together(*model, x[pairs[:, 0]], x[pairs[:, 1]]))
            for (a, b), value in zip(names[pairs], found.T, strict=True):
                out[f"coclustering_{a}_{b}"] = value
    return out


def unsure(together: np.ndarray) -> np.ndarray:
    """Disjoint pairs of rows that lie together with a probability nearest to a half.

    Parameters
    ----------
    together : (m, m) ndarray
        Probabilities.

    Returns
    -------
    (q, 2) int ndarray
        The least sure first; at most `PAIRS`, none nearer to 0 or 1 than `SURE`.
    """
    rows, columns = np.triu_indices(len(together), 1)
    value = together[rows, columns]
    spread = np.abs(value - 0.5)
    used: set[int] = set()
    pairs = []
    for i in np.argsort(spread, kind="stable"):
        if len(pairs) == PAIRS or spread[i] > 0.5 - SURE:
            break
        pair = (int(rows[i]), int(columns[i]))
        if used.isdisjoint(pair):
            used.update(pair)
            pairs.append(pair)
    return np.array(pairs, dtype=int).reshape(-1, 2)


@jax.jit
def _compare(
    mixture: Mixture, params: Any, log_weights: Array, reference: Array, x: Array
) -> tuple[Array, Array]:
    """Mean probability of lying together ``(m, m)``, and each draw's disagreement ``(s,)``."""
    others = 1 - jnp.eye(x.shape[0], dtype=x.dtype)

    def add(total: Array, draw: Any) -> tuple[Array, Array]:
        p = mixture.responsibilities(*draw, x)
        together = matmul(p, p.T)
        apart = jnp.abs(reference - together) * others
        return total + together, jnp.sum(apart) / jnp.sum(others)

    total, distance = lax.scan(add, jnp.zeros_like(reference), (params, log_weights))
    return total / log_weights.shape[0], distance


@jax.jit
def _together(mixture: Mixture, params: Any, log_weights: Array, x: Array, y: Array) -> Array:
    """Probability that rows of `x` lie together with those of `y`, ``(s, q)``."""

    def one(draw: Any) -> Array:
        p, q = (mixture.responsibilities(*draw, rows) for rows in (x, y))
        return jnp.sum(p * q, axis=1)

    return lax.map(one, (params, log_weights))
