"""Gamma draws, all lanes at once: a fraction of the program of `jax.random.gamma` and its time.

References
----------
G. Marsaglia and W. W. Tsang (2000), A simple method for generating gamma variables, ACM Trans.
    Math. Softw. 26, 363-372.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array, Key
from bayesclust.core.random import symmetric, to_normal


def log_gamma(key: Key, shape: Array) -> Array:
    """Logs of standard gamma draws, which do not underflow for small shapes.

    Parameters
    ----------
    key : PRNG key
    shape : array
        Positive shape parameters, one draw each; NaN for any other.

    Returns
    -------
    array
        Of the same shape and dtype.
    """
    # A shape below one is drawn at one more (their section 6).
    small = shape < 1
    d = jnp.where(small, shape + 1, shape) - 1 / 3
    c = 1 / jnp.sqrt(9 * d)

    def attempt(state: Any) -> Any:
        i, found, done = state
        # The first key is that of the boost.
        u = symmetric(jax.random.fold_in(key, i + 1), (2, *shape.shape), shape.dtype)
        x, log_u = to_normal(u[0]), jnp.log1p(u[1]) - math.log(2)
        root = 1 + c * x
        cube = jnp.where(root > 0, root, 1) ** 3
        taken = (root > 0) & (log_u < 0.5 * x * x + d * (1 - cube + jnp.log(cube)))
        return i + 1, jnp.where(taken & ~done, cube, found), done | taken

    proper = (shape > 0) & (shape < jnp.inf)
    # What is no shape gives NaN at once: no draw would ever be taken.
    begin = (jnp.int32(0), jnp.where(proper, 1, jnp.nan).astype(shape.dtype), ~proper)
    _, found, _ = lax.while_loop(lambda state: ~jnp.all(state[2]), attempt, begin)
    u = symmetric(jax.random.fold_in(key, 0), shape.shape, shape.dtype)
    boost = (math.log(2) - jnp.log1p(u)) / shape
    return jnp.log(d * found) - jnp.where(small, boost, 0)


def gamma(key: Key, shape: Array) -> Array:
    """Standard gamma draws, see `log_gamma`."""
    return jnp.exp(log_gamma(key, shape))
