"""How mass is shared between components: one prior process per file."""

from bayesclust.weights.base import WeightPrior
from bayesclust.weights.dirichlet import Dirichlet, Gamma

__all__ = ["Dirichlet", "Gamma", "WeightPrior"]
