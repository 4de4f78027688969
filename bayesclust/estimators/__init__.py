"""The same engines in scikit-learn's language; each is loaded when it is first asked for."""

from typing import TYPE_CHECKING

from bayesclust._lazy import lazy

if TYPE_CHECKING:
    from bayesclust.estimators.bayesian_mixture import BayesianMixture as BayesianMixture
    from bayesclust.estimators.gaussian_mixture import GaussianMixture as GaussianMixture
    from bayesclust.estimators.kmeans import KMeans as KMeans
    from bayesclust.estimators.minibatch_kmeans import MiniBatchKMeans as MiniBatchKMeans

_HOME = {
    "BayesianMixture": "bayesclust.estimators.bayesian_mixture",
    "GaussianMixture": "bayesclust.estimators.gaussian_mixture",
    "KMeans": "bayesclust.estimators.kmeans",
    "MiniBatchKMeans": "bayesclust.estimators.minibatch_kmeans",
}

__all__ = [*_HOME]

__getattr__, __dir__ = lazy(__name__, _HOME)
