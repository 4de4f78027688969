"""How far a row is from the boundary with another cluster.

References
----------
R. Rackwitz and B. Fiessler (1978), Structural reliability under combined random load sequences,
    Computers & Structures 9, 489-494: the iteration that finds the point of a smooth surface
    nearest to a given one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._typing import Array
from bayesclust.core.chunks import refuse_overflow
from bayesclust.mixture import Mixture
from bayesclust.posterior.distance import distances, in_common_units
from bayesclust.posterior.membership import Model

STEPS = 32


def margins(
    model: Model, X: np.ndarray, own: np.ndarray, other: np.ndarray, *, hard: bool
) -> np.ndarray:
    """Distance of each row to where another cluster becomes as probable as its own.

    Distances are Euclidean, in the user's units, or in column standard deviations where the fit
    standardized the columns.

    Parameters
    ----------
    model : Model
        Of one draw.
    X : (n, d) ndarray
    own, other : (n,) int ndarrays
        Zero where they agree.
    hard : bool
        The clusters are cells of nearest centres: the distance to the bisector of the two
        centres, ``(|x - c_j|^2 - |x - c_i|^2) / (2 |c_i - c_j|)``, exact where the cells meet.
        Else the boundary is where the log joint densities agree.

    Returns
    -------
    (n,) ndarray
        Infinite where the other cluster is nowhere as probable.
    """
    call = _bisector if hard else _nearest
    d, k = X.shape[1], model.log_weights.shape[1]
    pair = own.astype(np.int32), other.astype(np.int32)
    out = model.rows(call, X, *pair, numbers_per_row=d + 6 * k * (d + 4))
    refuse_overflow(~np.isnan(out), X, model.units, model.dtype)
    return in_common_units(out, model.units)


def margins_to(
    model: Model, X: np.ndarray, p: np.ndarray, label: np.ndarray, to: int | None, *, hard: bool
) -> np.ndarray:
    """`margins` of every row to one cluster, or to its runner-up.

    Parameters
    ----------
    model, X, hard
        As for `margins`.
    p : (n, k) ndarray
        Membership probabilities.
    label : (n,) int ndarray
        Each row's own cluster.
    to : int or None
        The other cluster; None: each row's second nearest, or second most probable.
    """
    n, k = p.shape
    if k == 1:
        return np.full(n, np.inf)
    if to is not None:
        return margins(model, X, label, np.full(n, to), hard=hard)
    rest = -distances(model, X) if hard else p.copy()
    rest[np.arange(n), label] = -np.inf
    return margins(model, X, label, rest.argmax(axis=1), hard=hard)


@jax.jit
def _bisector(
    mixture: Mixture, params: Any, log_weights: Array, rows: Array, own: Array, other: Array
) -> Array:
    x = rows.T
    mean = params["mean"][0]
    a, b = mean[own].T, mean[other].T
    apart = jnp.sqrt(jnp.sum(jnp.square(a - b), axis=0))
    # |x-b|^2 - |x-a|^2 = 2 (a-b).(x - (a+b)/2), which does not cancel.
    along = jnp.sum((a - b) * (x - 0.5 * (a + b)), axis=0)
    return jnp.where(own == other, 0, along / jnp.where(apart > 0, apart, 1))


@jax.jit
def _nearest(
    mixture: Mixture, params: Any, log_weights: Array, rows: Array, own: Array, other: Array
) -> Array:
    x0 = rows.T
    params = jax.tree.map(lambda v: v[0], params)
    prepared = mixture.family.prepare(params)
    columns = jnp.arange(x0.shape[1])

    def gap(x: Array) -> Array:
        joint = mixture.family.score(prepared, x) + log_weights[0][:, None]
        return joint[own, columns] - joint[other, columns]

    def slope(x: Array) -> tuple[Array, Array]:
        value, back = jax.vjp(gap, x)
        return value, back(jnp.ones_like(value))[0]

    def step(_: Array, x: Array) -> Array:
        value, gradient = slope(x)
        norm = jnp.sum(gradient * gradient, axis=0)
        reach = (jnp.sum(gradient * (x - x0), axis=0) - value) / jnp.where(norm > 0, norm, 1)
        # Damped, so that strongly curved boundaries do not make it swing.
        return x + 0.7 * (x0 + reach * gradient - x)

    x = lax.fori_loop(0, STEPS, step, x0)
    start = gap(x0)
    missed = ~(jnp.abs(gap(x)) <= 1e-3 * jnp.maximum(jnp.abs(start), 1e-3))
    surface = jnp.sqrt(jnp.sum(jnp.square(x - x0), axis=0))
    straight = _along(gap, x0, params["mean"][other].T)
    distance = jnp.where(missed, straight, jnp.minimum(surface, straight))
    return jnp.where((own == other) | (start == 0), 0, jnp.sign(start) * distance)


def _along(gap: Any, x0: Array, target: Array) -> Array:
    """Distance to the boundary on the straight way to the other cluster's centre."""

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        same = gap(x0 + middle * (target - x0)) * gap(x0) > 0
        return jnp.where(same, middle, low), jnp.where(same, high, middle)

    one = jnp.ones(x0.shape[1], x0.dtype)
    _, reach = lax.fori_loop(0, STEPS, halve, (0 * one, one))
    whole = jnp.sqrt(jnp.sum(jnp.square(target - x0), axis=0))
    crosses = gap(target) * gap(x0) <= 0
    return jnp.where(crosses, reach * whole, jnp.inf)
