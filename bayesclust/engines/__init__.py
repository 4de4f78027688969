"""How a mixture is fitted: one engine per file, each a frozen set of settings.

An engine's `run` takes a key, a mixture and rows, and returns `Draws`. What needs NumPyro is loaded
when it is first asked for: `NUTS`, `SVI`, `GibbsKernel`, `program`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from bayesclust.engines.base import Engine, PointEngine
from bayesclust.engines.bootstrap import Bootstrap
from bayesclust.engines.cavi import CAVI
from bayesclust.engines.em import EM
from bayesclust.engines.gibbs import Gibbs
from bayesclust.engines.hard import Lloyd
from bayesclust.engines.nuts import NUTS
from bayesclust.engines.partition_gibbs import PartitionGibbs
from bayesclust.engines.starts import Given, KMeansStart, RandomResponsibilities, SeededStart
from bayesclust.engines.svi import SVI

if TYPE_CHECKING:
    from bayesclust.engines.kernel import GibbsKernel as GibbsKernel

__all__ = [
    "CAVI",
    "EM",
    "NUTS",
    "SVI",
    "Bootstrap",
    "Engine",
    "Gibbs",
    "GibbsKernel",
    "Given",
    "KMeansStart",
    "Lloyd",
    "PartitionGibbs",
    "PointEngine",
    "RandomResponsibilities",
    "SeededStart",
]


def __getattr__(name: str) -> object:
    if name != "GibbsKernel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("bayesclust.engines.kernel").GibbsKernel
