"""The contract of a prior on mixture weights. It sees counts only."""

from __future__ import annotations

import abc

from bayesclust._typing import Array


class WeightPrior(abc.ABC):
    """A prior on the weights of `k` components, as a frozen set of traced hyperparameters."""

    @abc.abstractmethod
    def mode(self, counts: Array) -> Array:
        """Log weights of greatest posterior density given counts ``(k,)``."""

    @abc.abstractmethod
    def log_prior(self, log_weights: Array) -> Array:
        """Log prior density of the weights, scalar, up to a constant."""
