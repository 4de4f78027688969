"""How a mixture is fitted: one engine per file, each a frozen set of settings.

An engine's `run` takes a key, a mixture and rows, and returns `Draws`. Each is loaded when it is
first asked for; `NUTS`, `SVI`, `GibbsKernel` and `program` then need NumPyro.
"""

from typing import TYPE_CHECKING

from bayesclust._lazy import lazy

if TYPE_CHECKING:
    from bayesclust.engines.base import Engine as Engine
    from bayesclust.engines.base import PointEngine as PointEngine
    from bayesclust.engines.bootstrap import Bootstrap as Bootstrap
    from bayesclust.engines.cavi import CAVI as CAVI
    from bayesclust.engines.em import EM as EM
    from bayesclust.engines.gibbs import Gibbs as Gibbs
    from bayesclust.engines.hard import Lloyd as Lloyd
    from bayesclust.engines.kernel import GibbsKernel as GibbsKernel
    from bayesclust.engines.nuts import NUTS as NUTS
    from bayesclust.engines.partition_gibbs import PartitionGibbs as PartitionGibbs
    from bayesclust.engines.starts import Given as Given
    from bayesclust.engines.starts import KMeansStart as KMeansStart
    from bayesclust.engines.starts import RandomResponsibilities as RandomResponsibilities
    from bayesclust.engines.starts import SeededStart as SeededStart
    from bayesclust.engines.svi import SVI as SVI

_HOME = {
    "CAVI": "bayesclust.engines.cavi",
    "EM": "bayesclust.engines.em",
    "NUTS": "bayesclust.engines.nuts",
    "SVI": "bayesclust.engines.svi",
    "Bootstrap": "bayesclust.engines.bootstrap",
    "Engine": "bayesclust.engines.base",
    "Gibbs": "bayesclust.engines.gibbs",
    "GibbsKernel": "bayesclust.engines.kernel",
    "Given": "bayesclust.engines.starts",
    "KMeansStart": "bayesclust.engines.starts",
    "Lloyd": "bayesclust.engines.hard",
    "PartitionGibbs": "bayesclust.engines.partition_gibbs",
    "PointEngine": "bayesclust.engines.base",
    "RandomResponsibilities": "bayesclust.engines.starts",
    "SeededStart": "bayesclust.engines.starts",
}

__all__ = [*_HOME]

__getattr__, __dir__ = lazy(__name__, _HOME)
