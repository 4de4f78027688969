"""Distances of rows to centres, in the units a fit measured in."""

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
from bayesclust.core.linalg import squared_distance
from bayesclust.core.units import Units, scale_by
from bayesclust.posterior.membership import Model


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
    """Nearest centre of each row, ``(n,)`` int32; the first one where several are."""
    return _map(_nearest, model, X)


def _map(call: Any, model: Model, X: np.ndarray) -> np.ndarray:
    centers = model.params["mean"][0]
    with arithmetic(model.dtype == np.float64):
        size = chunk_size(2 * centers.size + X.shape[1])
        bound = functools.partial(call, centers)
        found, finite = map_rows(bound, X, model.units, size, dtype=model.dtype)
    refuse_overflow(finite, X, model.units, model.dtype)
    return found


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
