"""The table of hostile input, for the estimators that return a posterior by Markov chains."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from bayesclust import BayesianMixture, Gibbs, KMeans
from bayesclust.engines import CAVI, NUTS, SVI, chains
from bayesclust.estimators import _names
from bayesclust.families import (
    DiagonalGaussian,
    FullGaussian,
    Gamma,
    IndependentNormalGamma,
    NormalInverseGamma,
    NormalInverseWishart,
)
from bayesclust.weights import Dirichlet
from tests.estimators import test_hostile as hostile
from tests.estimators.test_hostile import assert_unfitted, blobs, clear

SHORT = Gibbs(20, 20, 2)


def bayes(k: int = 3, **settings: Any) -> BayesianMixture:
    return BayesianMixture(**{"n_components": k, "engine": SHORT, "random_state": 0, **settings})


def partitions(k: int = 3, **settings: Any) -> KMeans:
    return KMeans(k, uncertainty="gibbs", num_draws=8, random_state=0, **settings)


@pytest.fixture(params=[bayes, partitions])
def make(request: Any) -> Any:
    """A constructor ``make(k, **settings)``."""
    return request.param


@pytest.fixture(autouse=True)
def short_runs_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _names.HARD_UNCERTAINTIES["gibbs"]

    def short(*args: Any, **settings: Any) -> Any:
        return dataclasses.replace(whole(*args, **settings), num_warmup=20, thinning=1)

    monkeypatch.setitem(_names.HARD_UNCERTAINTIES, "gibbs", short)


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    return clear()


# What is refused of the others is refused of these.
test_bad_rows = hostile.test_bad_rows


@pytest.mark.parametrize("case", sorted({*hostile.BAD_WEIGHTS} - {"too few positive"}))
def test_bad_weights(make, X, case):
    """Few rows of positive weight are enough: the number of components is a ceiling."""
    hostile.test_bad_weights(make, X, case)


def test_weights_of_partitions_must_be_whole(X: np.ndarray) -> None:
    model = partitions()
    with pytest.raises(ValueError, match=r"sample_weight must hold whole numbers.*bootstrap"):
        model.fit(X, sample_weight=np.full(60, 0.5))
    assert_unfitted(model)


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "k": ({"n_components": 0}, "'n_components' parameter .* must be"),
    "family": ({"family": "gauss"}, "'family' parameter .* must be"),
    "prior": ({"prior": "jeffreys"}, "'prior' parameter .* must be"),
    "engine": ({"engine": "hmc"}, "'engine' parameter .* must be"),
    "weights": ({"weights": "uniform"}, "'weights' parameter .* must be"),
    "align": ({"align": "ecr"}, "'align' parameter .* must be"),
    "standardize": ({"standardize": "yes"}, "'standardize' parameter .* must be"),
    "random state": ({"random_state": "zero"}, "'random_state' parameter .* must be"),
    "prior too wide": (
        {"family": DiagonalGaussian(prior=NormalInverseGamma(mean=np.zeros(3)))},
        r"mean of NormalInverseGamma has shape \(3,\): its axes must have length 2",
    ),
    "degrees of freedom": (
        {"family": FullGaussian(prior=NormalInverseWishart(df=0.5))},
        "df of NormalInverseWishart must be above 1",
    ),
    "a prior scale of no covariance": (
        {"family": FullGaussian(prior=NormalInverseWishart(scale=-np.eye(2)))},
        "scale of NormalInverseWishart must be symmetric and positive definite",
    ),
    "a prior of NaN": (
        {"family": DiagonalGaussian(prior=NormalInverseGamma(shape=np.nan))},
        "shape of NormalInverseGamma holds NaN",
    ),
    "a hyperprior": (
        {"family": DiagonalGaussian(prior=IndependentNormalGamma(rate=Gamma(2.0, -1.0)))},
        "rate of Gamma must be above 0",
    ),
    "concentration": ({"weights": Dirichlet(0.0)}, "concentration of Dirichlet must be above 0"),
    "concentrations of other components": (
        {"weights": Dirichlet(np.ones(2))},
        r"concentration of Dirichlet has shape \(2,\): its axes must have length 3",
    ),
    "cavi without conjugacy": (
        {"engine": "cavi", "prior": "independent"},
        "engine CAVI cannot fit.*use one of .*Gibbs",
    ),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings(X: np.ndarray, case: str) -> None:
    settings, message = BAD_SETTINGS[case]
    model = bayes(**settings)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(X)
    assert_unfitted(model)


def fitted(make: Any, X: np.ndarray, k: int = 3, **settings: Any) -> Any:
    """A fit, all of whose answers are finite; what short chains are warned of is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make(k, **settings).fit(X)
        hostile.assert_finite(model, X)
    return model


@pytest.mark.slow
def test_as_many_clusters_as_rows(make: Any, X: np.ndarray) -> None:
    fitted(make, X[:6], 6)


@pytest.mark.slow
def test_duplicates(make: Any) -> None:
    rows = np.repeat([[0.0, 0.0], [5.0, 1.0], [9.0, -3.0]], 20, axis=0)
    model = fitted(make, rows)
    np.testing.assert_array_equal(model.labels_, np.repeat([0, 1, 2], 20))


@pytest.mark.slow
def test_fewer_distinct_rows_than_clusters(make: Any) -> None:
    rows = np.repeat([[0.0, 0.0], [5.0, 1.0], [9.0, -3.0]], 20, axis=0)
    model = fitted(make, rows, 5)
    for first in (0, 20, 40):
        assert len(np.unique(model.labels_[first : first + 20])) <= 3


@pytest.mark.slow
def test_constant_and_collinear_columns(make: Any, X: np.ndarray) -> None:
    wide = np.column_stack([X, np.full(60, 7.0), X.sum(axis=1)])
    np.testing.assert_array_equal(fitted(make, wide).labels_, fitted(make, X).labels_)


@pytest.mark.slow
def test_all_rows_alike(make: Any) -> None:
    fitted(make, np.full((60, 2), 3.0), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "offset"), [("float64", 1e8), ("float32", 1e6)])
def test_offset(make: Any, dtype: str, offset: float) -> None:
    near = np.round(clear() * 4).astype(dtype) / 4
    far = (near + offset).astype(dtype)
    plain, moved = fitted(make, near), fitted(make, far)
    np.testing.assert_array_equal(moved.labels_, plain.labels_)
    np.testing.assert_allclose(moved.predict_proba(far), plain.predict_proba(near), atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scale(make: Any, scale: float) -> None:
    X = clear("float32")
    rows = X * np.float32(scale)
    plain, scaled = fitted(make, X), fitted(make, rows)
    np.testing.assert_array_equal(scaled.labels_, plain.labels_)
    np.testing.assert_allclose(scaled.predict_proba(rows), plain.predict_proba(X), atol=0.01)


@pytest.mark.slow
def test_rows_of_weight_zero_are_absent(make: Any, X: np.ndarray) -> None:
    rows = np.concatenate([[[1e6, -1e6]], X])
    weight = np.r_[0.0, np.ones(60)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = make().fit(rows, sample_weight=weight)
    np.testing.assert_array_equal(model.labels_[1:], fitted(make, X).labels_)


@pytest.mark.slow
def test_one_feature_one_cluster_and_more_features_than_rows(make: Any, X: np.ndarray) -> None:
    fitted(make, X[:, :1])
    assert (fitted(make, X, 1).labels_ == 0).all()
    rows, z = blobs(12, 20, 2, separation=3.0)
    found = fitted(make, rows, 2).labels_
    assert (found == z).all() or (found == 1 - z).all()


@pytest.mark.slow
def test_interrupted_fit_keeps_its_draws(X: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(bayes, X)
    calls = []
    real = chains.threads.run

    def run(work: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(work)

    with monkeypatch.context() as patch:
        patch.setattr(chains, "CHUNK", 10)
        patch.setattr(chains.threads, "run", run)
        with pytest.warns(UserWarning, match="interrupted"):
            model = bayes(engine=Gibbs(10, 40, 2)).fit(X)
    assert model.posterior_["posterior"].sizes["draw"] == 20
    np.testing.assert_array_equal(model.labels_, whole.labels_)


@pytest.mark.parametrize(
    "engine",
    [
        SHORT,
        pytest.param(CAVI(num_draws=50), marks=pytest.mark.slow),
        pytest.param(SVI(num_steps=300, num_draws=50), marks=pytest.mark.slow),
        pytest.param(NUTS(30, 30, 1), marks=pytest.mark.slow),
    ],
    ids=lambda engine: type(engine).__name__,
)
def test_components_may_outnumber_the_rows(engine: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(8, 2))
    cases = {
        "rows": (rows, None),
        "rows of positive weight": (rows, np.r_[np.zeros(5), [1, 2, 3]]),
        "two rows": (rows[:2], None),
        "two places": (np.repeat(rows[:2], 4, axis=0), None),
        "one place": (np.repeat(rows[:1], 8, axis=0), None),
    }
    for what, (X, weight) in cases.items():
        with warnings.catch_warnings():
            # A short run may say of its draws that they are few, or do not match.
            warnings.filterwarnings("ignore", "(?s).*(draws|bound)")
            model = bayes(k=10, engine=engine, family="spherical").fit(X, sample_weight=weight)
        for value in (model.predict_proba(X), model.score_samples(X), model.means_):
            assert np.isfinite(value).all(), what
        assert (model.covariances_ > 0).all(), what
        assert len(model.labels_) == len(X)
        assert np.exp(model.clustering_.draws.log_weights).sum(-1) == pytest.approx(1, rel=1e-5)
        if "occupied" in model.clustering_.draws.stats:
            most = len(X) if weight is None else weight.sum()
            assert model.clustering_.draws.stats["occupied"].max() <= most
