"""Binomial draws, all lanes at once, exact for one trial and for millions.

References
----------
D. A. Relles (1972), A simple algorithm for generating binomial random variables when N is large,
    J. Am. Stat. Assoc. 67, 612-613.
J. H. Ahrens and U. Dieter (1974), Computer methods for sampling from gamma, beta, Poisson and
    binomial distributions, Computing 12, 223-246.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array, Key
from bayesclust.core.gamma import log_gamma
from bayesclust.core.random import uniform

FEW = 16
"""Up to so many trials are made one by one."""


def binomial(key: Key, n: Array, p: Array) -> Array:
    """Draw numbers of successes.

    A trial is a uniform number, and a success if that is below `p`. Of many trials the middle one
    in order has a beta distribution; it says on which side of `p` half of them lie, and leaves the
    other half.

    Parameters
    ----------
    key : PRNG key
    n : array
        Trials: whole numbers from zero up, of floating dtype.
    p : array
        Probability of success, of the shape and dtype of `n`.

    Returns
    -------
    array
        Whole numbers of the same shape and dtype.
    """
    key_halves, key_trials = jax.random.split(key)
    eps = jnp.finfo(n.dtype).eps

    def halve(state: Any) -> Any:
        i, n, p, found = state
        many = n > FEW
        rank = jnp.where(many, jnp.floor(0.5 * (n + 1)), 1)
        rest = jnp.where(many, n + 1 - rank, 1)
        below, above = log_gamma(jax.random.fold_in(key_halves, i), jnp.stack([rank, rest]))
        middle = jnp.clip(jax.nn.sigmoid(below - above), eps, 1 - eps)
        success = middle <= p
        fewer = jnp.where(success, n - rank, rank - 1)
        within = jnp.where(success, (p - middle) / (1 - middle), p / middle)
        found = found + jnp.where(many & success, rank, 0)
        return i + 1, jnp.where(many, fewer, n), jnp.where(many, within, p), found

    start = jnp.int32(0), n, p, jnp.zeros_like(n)
    _, n, p, found = lax.while_loop(lambda state: jnp.any(state[1] > FEW), halve, start)

    def trial(state: Any) -> Any:
        i, found = state
        u = uniform(jax.random.fold_in(key_trials, i), n.shape, n.dtype)
        return i + 1, found + jnp.where((i < n) & (u < p), 1, 0).astype(n.dtype)

    return lax.while_loop(lambda state: jnp.any(state[0] < n), trial, (jnp.int32(0), found))[1]
