"""Dirichlet prior on the weights of a finite mixture.

References
----------
S. Fruehwirth-Schnatter (2006), Finite Mixture and Markov Switching Models, Springer, section 3.5:
    the weights given counts are Dirichlet; a gamma hyperprior on a symmetric concentration is
    updated by Metropolis-Hastings.
"""

from __future__ import annotations

from typing import Any, final, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key
from bayesclust.core.gamma import log_gamma
from bayesclust.core.random import normal, uniform
from bayesclust.core.simplex import log_normalize
from bayesclust.hyper import Gamma
from bayesclust.weights.base import WeightPrior

STEP = 0.7
"""Standard deviation of the random walk of the log concentration."""


@final
@pytree
class Dirichlet(WeightPrior):
    """Dirichlet weights.

    Attributes
    ----------
    concentration : scalar, (k,) array or Gamma
        Prior counts; 1 is flat and gives maximum likelihood. Below 1 the mode may leave
        components empty: their log weight is then -inf. With a `Gamma` the common concentration
        is unknown and drawn too; point fits take its mean.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from bayesclust.weights import Dirichlet
    >>> jnp.exp(Dirichlet().mode(jnp.array([1.0, 3.0]))).tolist()
    [0.25, 0.75]
    """

    concentration: Any = 1.0

    @property
    def _value(self) -> Any:
        c = self.concentration
        return c.mean if isinstance(c, Gamma) else c

    @override
    def mode(self, counts: Array) -> Array:
        mass = jnp.maximum(counts + (self._value - 1.0), 0)
        # A prior that would empty every component is left out.
        mass = jnp.where(jnp.sum(mass) > 0, mass, counts)
        return jnp.log(mass) - jnp.log(jnp.sum(mass))

    @override
    def log_prior(self, log_weights: Array, state: dict[str, Array] | None = None) -> Array:
        if state:
            return self._log_joint(state["concentration"], log_weights)
        power = jnp.broadcast_to(jnp.asarray(self._value - 1.0), log_weights.shape)
        return jnp.sum(jnp.where(power == 0, 0.0, power * log_weights))

    @override
    def begin(self, k: int, dtype: Any) -> dict[str, Array]:
        if not isinstance(self.concentration, Gamma):
            return {}
        return {"concentration": jnp.asarray(self._value, dtype)}

    @override
    def draw(
        self, key: Key, counts: Array, state: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        key_weights, key_concentration = jax.random.split(key)
        current = state.get("concentration", self.concentration)
        log_weights = _dirichlet(key_weights, counts + current)
        if not isinstance(self.concentration, Gamma):
            return log_weights, state
        moved = self._walk(key_concentration, log_weights, state["concentration"])
        return log_weights, {"concentration": moved}

    @override
    def from_prior(self, key: Key, k: int, dtype: Any) -> tuple[Array, dict[str, Array]]:
        key_weights, key_concentration = jax.random.split(key)
        if isinstance(self.concentration, Gamma):
            state = {"concentration": self.concentration.draw(key_concentration, dtype)}
            prior = jnp.broadcast_to(state["concentration"], (k,))
        else:
            state = {}
            prior = jnp.broadcast_to(jnp.asarray(self.concentration, dtype), (k,))
        return _dirichlet(key_weights, prior), state

    @override
    def sample_sites(self, k: int) -> Array:
        import numpyro
        from numpyro import distributions as dist

        concentration = self.concentration
        if isinstance(concentration, Gamma):
            gamma = dist.Gamma(concentration.shape, concentration.rate)
            concentration = numpyro.sample("concentration", gamma)
        concentration = jnp.broadcast_to(jnp.asarray(concentration, float), (k,))
        dims = {"event_dims": ["cluster"]}
        return jnp.log(numpyro.sample("weights", dist.Dirichlet(concentration), infer=dims))

    @override
    def expected_log(self, counts: Array) -> Array:
        """Bishop (2006), eq. 10.66."""
        total = counts + self._value
        digamma = jax.scipy.special.digamma
        return digamma(total) - digamma(jnp.sum(total))

    @override
    def kl(self, counts: Array) -> Array:
        gammaln = jax.scipy.special.gammaln
        prior = jnp.broadcast_to(jnp.asarray(self._value, counts.dtype), counts.shape)
        total = counts + prior
        return (
            gammaln(jnp.sum(total))
            - gammaln(jnp.sum(prior))
            - jnp.sum(gammaln(total) - gammaln(prior))
            + jnp.sum(counts * self.expected_log(counts))
        )

    def _walk(self, key: Key, log_weights: Array, current: Array) -> Array:
        """Metropolis-Hastings step of the concentration given the weights, on the log scale."""
        key_step, key_accept = jax.random.split(key)
        proposed = current * jnp.exp(STEP * normal(key_step, (), current.dtype))
        ratio = self._log_joint(proposed, log_weights) - self._log_joint(current, log_weights)
        # The walk is on the log scale: its Jacobian.
        ratio = ratio + jnp.log(proposed) - jnp.log(current)
        u = uniform(key_accept, (), current.dtype)
        return jnp.where(jnp.log(u) < ratio, proposed, current)

    def _log_joint(self, a: Array, log_weights: Array) -> Array:
        """Log density of symmetric Dirichlet weights and their concentration together."""
        k, prior = log_weights.shape[0], self.concentration
        gammaln = jax.scipy.special.gammaln
        dirichlet = gammaln(k * a) - k * gammaln(a) + (a - 1) * jnp.sum(log_weights)
        return dirichlet + prior.log_prob(a)


def _dirichlet(key: Key, concentration: Array) -> Array:
    """Log weights from a Dirichlet; in logs, since small concentrations underflow otherwise."""
    return log_normalize(log_gamma(key, concentration))
