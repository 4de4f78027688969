"""The contract of a prior on mixture weights. It sees counts only."""

from __future__ import annotations

import abc
from typing import Any

from bayesclust._typing import Array, Key


class WeightPrior(abc.ABC):
    """A prior on the weights of `k` components, as a frozen set of traced hyperparameters."""

    @abc.abstractmethod
    def mode(self, counts: Array) -> Array:
        """Log weights of greatest posterior density given counts ``(k,)``."""

    @abc.abstractmethod
    def log_prior(self, log_weights: Array, state: dict[str, Array] | None = None) -> Array:
        """Log prior density of the weights (and of a sampler's `state`), up to a constant."""

    @abc.abstractmethod
    def begin(self, k: int, dtype: Any) -> dict[str, Array]:
        """What a sampler carries along besides the weights: hyperparameters that are drawn."""

    @abc.abstractmethod
    def draw(self, key: Key, counts: Array, state: dict[str, Array]) -> Any:
        """Log weights ``(k,)`` and the next state, given counts."""

    @abc.abstractmethod
    def from_prior(self, key: Key, k: int, dtype: Any) -> tuple[Array, dict[str, Array]]:
        """Log weights and state from the prior."""

    @abc.abstractmethod
    def sample_sites(self, k: int) -> Array:
        """Log weights by NumPyro sample statements; the site of the weights is ``weights``."""

    @abc.abstractmethod
    def expected_log(self, counts: Array) -> Array:
        """Expected log weights ``(k,)`` under the posterior given counts."""

    @abc.abstractmethod
    def kl(self, counts: Array) -> Array:
        """Kullback-Leibler divergence of the posterior given counts from the prior, scalar."""
