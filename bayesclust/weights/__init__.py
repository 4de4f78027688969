"""How mass is shared between components: one prior process per file."""

from bayesclust.hyper import Gamma
from bayesclust.weights.base import WeightPrior
from bayesclust.weights.dirichlet import Dirichlet

__all__ = ["Dirichlet", "Gamma", "WeightPrior"]
