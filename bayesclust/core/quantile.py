"""Quantiles of many short samples at once, by bisection over the bits of their values."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array


def quantiles(p: Array, levels: Array) -> Array:
    """Quantiles along the first axis of values from 0 to 1, interpolated as NumPy does.

    Sorting would touch every value some hundred times, one by one. Floating-point numbers of one
    sign are ordered as their bits, so the order statistic of a rank is found by halving the range
    of bits and counting, which runs along the vector lanes.

    Parameters
    ----------
    p : (s, ..) array
        Between 0 and 1.
    levels : (q,) array
        Between 0 and 1.

    Returns
    -------
    (q, ..) array
    """
    s = p.shape[0]
    kind = jnp.int32 if p.dtype == jnp.float32 else jnp.int64
    bits = lax.bitcast_convert_type(p, kind)
    place = jnp.asarray(levels, p.dtype) * (s - 1)
    rank = jnp.floor(place).astype(kind)
    shape = (levels.shape[0], *p.shape[1:])
    wanted = jnp.broadcast_to(rank.reshape(-1, *[1] * (p.ndim - 1)), shape)

    def count(value: Array) -> Array:
        return jnp.stack([jnp.sum((bits <= v).astype(kind), axis=0) for v in value])

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends  # the order statistic lies in (low, high]
        middle = low + (high - low) // 2
        enough = count(middle) > wanted
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    one = lax.bitcast_convert_type(jnp.ones((), p.dtype), kind)
    low = jnp.full(shape, -1, kind)
    steps = 30 if kind == jnp.int32 else 62
    _, found = lax.fori_loop(0, steps, halve, (low, jnp.full(shape, one, kind)))
    above = jnp.stack([jnp.min(jnp.where(bits > f, bits, one), axis=0) for f in found])
    following = jnp.where(count(found) > wanted + 1, found, above)
    lower = lax.bitcast_convert_type(found, p.dtype)
    upper = lax.bitcast_convert_type(following, p.dtype)
    share = (place - rank).reshape(-1, *[1] * (p.ndim - 1))
    return jnp.minimum(lower + share * (upper - lower), upper)
