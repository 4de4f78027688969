"""How a mixture is fitted: one engine per file, each a frozen set of settings.

An engine's `run` takes a key, a mixture and rows, and returns `Draws`.
"""

from bayesclust.engines.base import Engine, PointEngine
from bayesclust.engines.bootstrap import Bootstrap
from bayesclust.engines.em import EM
from bayesclust.engines.gibbs import Gibbs
from bayesclust.engines.hard import Lloyd
from bayesclust.engines.starts import Given, KMeansStart, RandomResponsibilities, SeededStart

__all__ = [
    "EM",
    "Bootstrap",
    "Engine",
    "Gibbs",
    "Given",
    "KMeansStart",
    "Lloyd",
    "PointEngine",
    "RandomResponsibilities",
    "SeededStart",
]
