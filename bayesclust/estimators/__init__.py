"""The same engines in scikit-learn's language."""

from bayesclust.estimators.bayesian_mixture import BayesianMixture
from bayesclust.estimators.gaussian_mixture import GaussianMixture
from bayesclust.estimators.kmeans import KMeans
from bayesclust.estimators.minibatch_kmeans import MiniBatchKMeans

__all__ = ["BayesianMixture", "GaussianMixture", "KMeans", "MiniBatchKMeans"]
