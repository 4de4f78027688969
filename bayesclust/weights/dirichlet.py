"""Dirichlet prior on the weights of a finite mixture."""

from __future__ import annotations

from typing import Any, final, override

import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array
from bayesclust.weights.base import WeightPrior


@final
@pytree
class Dirichlet(WeightPrior):
    """Dirichlet weights.

    Attributes
    ----------
    concentration : scalar or (k,) array
        Prior counts; 1 is flat and gives maximum likelihood. Below 1 the mode may leave
        components empty: their log weight is then -inf.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from bayesclust.weights import Dirichlet
    >>> jnp.exp(Dirichlet().mode(jnp.array([1.0, 3.0]))).tolist()
    [0.25, 0.75]
    """

    concentration: Any = 1.0

    @override
    def mode(self, counts: Array) -> Array:
        mass = jnp.maximum(counts + (self.concentration - 1.0), 0)
        # A prior that would empty every component is left out.
        mass = jnp.where(jnp.sum(mass) > 0, mass, counts)
        return jnp.log(mass) - jnp.log(jnp.sum(mass))

    @override
    def log_prior(self, log_weights: Array) -> Array:
        power = jnp.broadcast_to(jnp.asarray(self.concentration - 1.0), log_weights.shape)
        return jnp.sum(jnp.where(power == 0, 0.0, power * log_weights))
