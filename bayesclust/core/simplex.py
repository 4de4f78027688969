"""Probabilities in log space: -inf is legal and means inactive."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bayesclust._typing import Array


def log_normalize(log_p: Array, axis: int = -1) -> Array:
    """Log probabilities that sum to one along `axis`."""
    return jax.nn.log_softmax(log_p, axis=axis)


def entropy(p: Array, axis: int = -1) -> Array:
    """Shannon entropy in nats, with ``0 log 0 = 0``.

    >>> import jax.numpy as jnp
    >>> round(float(entropy(jnp.array([0.5, 0.5, 0.0]))), 4)
    0.6931
    """
    return jnp.sum(jax.scipy.special.entr(p), axis=axis)
