"""Distances of rows to centres, in the units a fit measured in.

References
----------
N. J. Higham (2002), Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._typing import Array
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.assign import winner
from bayesclust.core.chunks import chunk_size, map_rows, refuse_overflow
from bayesclust.core.linalg import matmul, squared_distance
from bayesclust.core.units import Units, scale_by
from bayesclust.posterior.membership import Model

FEW = 32
"""Numbers in all centres up to which differences cost no more than a product."""


def in_common_units(distance: np.ndarray, units: Units) -> np.ndarray:
    """Distances in the user's units; as they are, in standard deviations, where columns differ."""
    if units.common is None:
        return distance
    scale, exponent = units.common
    distance = distance * scale
    return scale_by(distance, exponent) if exponent else distance


def distances(model: Model, X: np.ndarray) -> np.ndarray:
    """Euclidean distance of each row to each centre of the first draw, ``(n, k)``.

    In the units of the fit; see `in_common_units`.
    """
    return _map(_distances, model, X)


def nearest(model: Model, X: np.ndarray) -> np.ndarray:
    """Nearest centre of each row, ``(n,)`` int32; the first one where several are.

    A product of matrices finds most of them; rows that rounding leaves in doubt are decided by
    differences, so that a row has one answer in whatever company it is asked about.
    """
    if model.params["mean"][0].size <= FEW:
        return _map(_nearest, model, X)
    label, sure = _mapped(_likely, model, X)
    doubtful = np.flatnonzero(~sure)
    if len(doubtful):
        finite = np.ones(len(X), bool)
        label[doubtful], finite[doubtful] = _mapped(_nearest, model, X[doubtful])
        refuse_overflow(finite, X, model.units, model.dtype)
    return label


def _map(call: Any, model: Model, X: np.ndarray) -> np.ndarray:
    found, finite = _mapped(call, model, X)
    refuse_overflow(finite, X, model.units, model.dtype)
    return found


def _mapped(call: Any, model: Model, X: np.ndarray) -> Any:
    centers = model.params["mean"][0]
    with arithmetic(model.dtype == np.float64):
        size = chunk_size(2 * centers.size + X.shape[1])
        bound = functools.partial(call, centers)
        return map_rows(bound, X, model.units, size, dtype=model.dtype)


def _square(centers: Array, x: Array) -> tuple[Array, Array]:
    """Squared distances ``(k, b)``, and which rows have finite ones ``(b,)``."""
    square = lax.optimization_barrier(squared_distance(x.T, centers))
    return square, jnp.all(jnp.isfinite(square), axis=0)


@jax.jit
def _distances(centers: Array, x: Array) -> tuple[Array, Array]:
    square, finite = _square(centers, x)
    return jnp.sqrt(square).T, finite


@jax.jit
def _nearest(centers: Array, x: Array) -> tuple[Array, Array]:
    square, finite = _square(centers, x)
    return winner(-square)[0], finite


@jax.jit
def _likely(centers: Array, x: Array) -> tuple[Array, Array]:
    """Nearest centres by a product ``(b,)``, and which of them no rounding can change ``(b,)``.

    The largest ``c.x - |c|^2 / 2`` is that of the nearest centre; its rounding error is at most
    some ``d eps (|c| |x| + |c|^2)`` (Higham 2002, section 3.1).
    """
    d = x.shape[1]
    square = jnp.sum(jnp.square(centers), axis=1)
    scores = lax.optimization_barrier(matmul(centers, x.T) - 0.5 * square[:, None])
    label, best = winner(scores)
    others = jnp.arange(centers.shape[0], dtype=jnp.int32)[:, None] != label
    gap = best - jnp.max(jnp.where(others, scores, -jnp.inf), axis=0)
    reach = jnp.sqrt(jnp.max(square))
    size = reach * (jnp.sqrt(jnp.sum(jnp.square(x), axis=1)) + reach)
    # NaN and infinity are in doubt, too.
    return label, gap > 8 * (d + 4) * jnp.finfo(x.dtype).eps * size
