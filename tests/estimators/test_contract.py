"""scikit-learn's own checks of what an estimator must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from bayesclust import GaussianMixture, KMeans, MiniBatchKMeans

DRAWN: dict[str, Any] = {"uncertainty": "bootstrap", "num_draws": 4}

ESTIMATORS = [
    KMeans(n_clusters=3),
    KMeans(n_clusters=3, standardize=True),
    KMeans(n_clusters=3, **DRAWN),
    MiniBatchKMeans(n_clusters=3),
    MiniBatchKMeans(n_clusters=3, standardize=True),
    GaussianMixture(),
    GaussianMixture(n_components=2, standardize=True),
    GaussianMixture(n_components=2, covariance_type="diag", **DRAWN),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)
