"""Probabilities in log space: -inf is legal and means inactive."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array


def log_normalize(log_p: Array, axis: int = -1) -> Array:
    """Log probabilities that sum to one along `axis`."""
    return jax.nn.log_softmax(log_p, axis=axis)


def softmax(scores: Array, axis: int = -1) -> Array:
    """Probabilities proportional to ``exp(scores)``: in [0, 1], with a sum of one along `axis`.

    The barrier has scores computed once. A compiler may else compute them again for each use and
    round them differently, which for a row very far from all components is the difference between
    a probability and infinity.
    """
    scores = lax.optimization_barrier(scores)
    best = jnp.max(scores, axis=axis, keepdims=True)
    mass = jnp.exp(scores - jnp.where(jnp.isfinite(best), best, 0))
    return mass / jnp.sum(mass, axis=axis, keepdims=True)


def log_sum_exp(scores: Array, axis: int = -1) -> Array:
    """Log of the sum of ``exp(scores)`` along `axis`, of scores computed once, see `softmax`."""
    return jax.scipy.special.logsumexp(lax.optimization_barrier(scores), axis=axis)


def entropy(p: Array, axis: int = -1) -> Array:
    """Shannon entropy in nats, with ``0 log 0 = 0``; never -0.

    >>> import jax.numpy as jnp
    >>> round(float(entropy(jnp.array([0.5, 0.5, 0.0]))), 4)
    0.6931
    """
    # The entropy of a certain event comes out as -1 log 1 = -0.
    return jnp.abs(jnp.sum(jax.scipy.special.entr(p), axis=axis))
