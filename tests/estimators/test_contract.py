"""scikit-learn's own checks of what an estimator must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from bayesclust import BayesianMixture, GaussianMixture, Gibbs, KMeans, MiniBatchKMeans
from tests.problems import blobs

DRAWN: dict[str, Any] = {"uncertainty": "bootstrap", "num_draws": 4}

# Weights are compared with repeated rows, in another order: ten points of noise in thirty columns.
# Ten starts find one optimum by luck only; so do components free to collapse onto a point.
MANY: dict[str, Any] = {"n_init": 100}
FIRM: dict[str, Any] = {"n_init": 50, "reg_covar": 3.0}

ESTIMATORS = [KMeans(n_clusters=3, **MANY)]

VARIANTS = [
    MiniBatchKMeans(n_clusters=3),
    GaussianMixture(),
    KMeans(n_clusters=3, standardize=True, **MANY),
    KMeans(n_clusters=3, **DRAWN),
    GaussianMixture(n_components=2, standardize=True, **FIRM),
    GaussianMixture(n_components=2, covariance_type="diag", **DRAWN),
    BayesianMixture(n_components=2, engine=Gibbs(20, 20, 2)),
]


def expected(estimator: Any) -> dict[str, str]:
    """Where chance is drawn row by row, a row of weight 2 draws what two rows do by luck only."""
    if isinstance(estimator, MiniBatchKMeans | BayesianMixture) or estimator.uncertainty:
        return {"check_sample_weight_equivalence_on_dense_data": "random batches or row weights"}
    return {}


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


# The checks fit pure noise, of which short chains rightly say that clusters do not match.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* of the draws do not match:UserWarning")
@parametrize_with_checks(VARIANTS, expected_failed_checks=expected, xfail_strict=False)
def test_scikit_learn_variants(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "settings", [{}, pytest.param(DRAWN, marks=pytest.mark.slow)], ids=["point", "drawn"]
)
def test_dtype_is_kept(make: Any, dtype: str, settings: Any) -> None:
    X = blobs(60, dtype=dtype)[0]
    model = make(**settings).fit(X)
    assert model.predict_proba(X).dtype == dtype
    assert model.predict(X).dtype == model.labels_.dtype == np.int32
    if isinstance(model, KMeans):
        assert model.cluster_centers_.dtype == model.transform(X).dtype == dtype
        return
    for name in ("weights", "means", "covariances", "precisions", "precisions_cholesky"):
        assert getattr(model, f"{name}_").dtype == dtype
    assert model.score_samples(X).dtype == model.sample(3)[0].dtype == dtype
