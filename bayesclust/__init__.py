"""Clustering you can trust: every answer carries its uncertainty.

Importing this package loads nothing heavy: each public name is imported from the module that
defines it the first time somebody asks for it (SPEC 1). JAX, scikit-learn and ArviZ therefore load
only when a name that needs them is used, and JAX's configuration is never touched.
"""

from typing import TYPE_CHECKING

from bayesclust._lazy import lazy
from bayesclust._version import __version__

if TYPE_CHECKING:
    from bayesclust import core as core
    from bayesclust import datasets as datasets
    from bayesclust import engines as engines
    from bayesclust import estimators as estimators
    from bayesclust import families as families
    from bayesclust import kmeans as kmeans
    from bayesclust import posterior as posterior
    from bayesclust import weights as weights
    from bayesclust.draws import Draws as Draws
    from bayesclust.engines.bootstrap import Bootstrap as Bootstrap
    from bayesclust.engines.cavi import CAVI as CAVI
    from bayesclust.engines.em import EM as EM
    from bayesclust.engines.gibbs import Gibbs as Gibbs
    from bayesclust.engines.hard import Lloyd as Lloyd
    from bayesclust.engines.kernel import GibbsKernel as GibbsKernel
    from bayesclust.engines.nuts import NUTS as NUTS
    from bayesclust.engines.partition_gibbs import PartitionGibbs as PartitionGibbs
    from bayesclust.engines.svi import SVI as SVI
    from bayesclust.estimators.bayesian_mixture import BayesianMixture as BayesianMixture
    from bayesclust.estimators.gaussian_mixture import GaussianMixture as GaussianMixture
    from bayesclust.estimators.kmeans import KMeans as KMeans
    from bayesclust.estimators.minibatch_kmeans import MiniBatchKMeans as MiniBatchKMeans
    from bayesclust.families import DiagonalGaussian as DiagonalGaussian
    from bayesclust.families import FullGaussian as FullGaussian
    from bayesclust.families import SphericalGaussian as SphericalGaussian
    from bayesclust.families import TiedGaussian as TiedGaussian
    from bayesclust.mixture import Mixture as Mixture
    from bayesclust.posterior.align import align as align
    from bayesclust.posterior.clustering import Clustering as Clustering
    from bayesclust.posterior.store import load as load
    from bayesclust.weights.dirichlet import Dirichlet as Dirichlet

# Public name -> the module that defines it; a name that maps to itself is a submodule.
_HOME = {
    # estimators
    "KMeans": "bayesclust.estimators.kmeans",
    "MiniBatchKMeans": "bayesclust.estimators.minibatch_kmeans",
    "GaussianMixture": "bayesclust.estimators.gaussian_mixture",
    "BayesianMixture": "bayesclust.estimators.bayesian_mixture",
    # answers
    "Clustering": "bayesclust.posterior.clustering",
    "load": "bayesclust.posterior.store",
    "align": "bayesclust.posterior.align",
    "Draws": "bayesclust.draws",
    # the model: family x weights x k
    "Mixture": "bayesclust.mixture",
    "FullGaussian": "bayesclust.families",
    "TiedGaussian": "bayesclust.families",
    "DiagonalGaussian": "bayesclust.families",
    "SphericalGaussian": "bayesclust.families",
    "Dirichlet": "bayesclust.weights.dirichlet",
    # engines
    "Lloyd": "bayesclust.engines.hard",
    "EM": "bayesclust.engines.em",
    "Gibbs": "bayesclust.engines.gibbs",
    "NUTS": "bayesclust.engines.nuts",
    "SVI": "bayesclust.engines.svi",
    "CAVI": "bayesclust.engines.cavi",
    "GibbsKernel": "bayesclust.engines.kernel",
    "PartitionGibbs": "bayesclust.engines.partition_gibbs",
    "Bootstrap": "bayesclust.engines.bootstrap",
    # submodules
    "core": "bayesclust.core",
    "datasets": "bayesclust.datasets",
    "engines": "bayesclust.engines",
    "estimators": "bayesclust.estimators",
    "families": "bayesclust.families",
    "kmeans": "bayesclust.kmeans",
    "posterior": "bayesclust.posterior",
    "weights": "bayesclust.weights",
}

__all__ = ["__version__", *_HOME]

__getattr__, __dir__ = lazy(__name__, _HOME)
