"""The same numbers as scikit-learn from the same start, and the published ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.cluster
import sklearn.mixture
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from bayesclust import GaussianMixture, KMeans, MiniBatchKMeans
from bayesclust.datasets import load_old_faithful
from tests.problems import blobs

KINDS = ["full", "tied", "diag", "spherical"]


@pytest.fixture(scope="module")
def faithful() -> np.ndarray:
    return np.asarray(load_old_faithful(), np.float64)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return blobs(60, separation=2.0, seed=3)[0]


def test_kmeans(rows: np.ndarray) -> None:
    init = rows[[0, 3, 6]]  # all of one true cluster: a long way to go
    ours = KMeans(3, init=init, tol=0).fit(rows)
    theirs = sklearn.cluster.KMeans(3, init=init, n_init=1, tol=0, algorithm="lloyd").fit(rows)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-12)
    np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-12)
    assert ours.n_iter_ == theirs.n_iter_ > 2
    np.testing.assert_allclose(ours.transform(rows), theirs.transform(rows), atol=1e-12)
    np.testing.assert_allclose(ours.score(rows), theirs.score(rows), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_mixture(kind: str, rows: np.ndarray) -> None:
    d, k = 2, 3
    precisions = {
        "full": np.stack([np.eye(d)] * k),
        "tied": np.eye(d),
        "diag": np.ones((k, d)),
        "spherical": np.ones(k),
    }[kind]
    start: dict[str, Any] = {
        "means_init": rows[[0, 1, 2]],
        "weights_init": np.array([0.5, 0.3, 0.2]),
        "precisions_init": precisions,
        "tol": 1e-3,
        "reg_covar": 0.0,
        "covariance_type": kind,
    }
    ours = GaussianMixture(k, **start).fit(rows)
    theirs = sklearn.mixture.GaussianMixture(k, **start).fit(rows)
    assert ours.n_iter_ == theirs.n_iter_ > 2
    assert ours.converged_ is True
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-10, err_msg=name
        )
    np.testing.assert_allclose(ours.lower_bound_, theirs.lower_bound_, rtol=1e-12)
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-12)
    np.testing.assert_array_equal(ours.labels_, theirs.predict(rows))
    new = rows[::-1] + 0.1
    np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new), atol=1e-10)
    np.testing.assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-10)
    for name in ("score", "bic", "aic"):
        np.testing.assert_allclose(
            getattr(ours, name)(new), getattr(theirs, name)(new), rtol=1e-10, err_msg=name
        )
    assert ours.icl(new) >= ours.bic(new)


def test_criteria_are_those_of_the_point_fit(rows: np.ndarray) -> None:
    point = GaussianMixture(3, random_state=0).fit(rows)
    drawn = GaussianMixture(3, random_state=0, uncertainty="bootstrap", num_draws=4).fit(rows)
    assert drawn.score(rows) != point.score(rows)
    for name in ("bic", "aic", "icl"):
        assert getattr(drawn, name)(rows) == getattr(point, name)(rows)


def test_criteria_count_weight_two_as_two_rows(rows: np.ndarray) -> None:
    model = GaussianMixture(3, random_state=0).fit(rows)
    weight = np.tile([1.0, 2.0, 0.0], 20)
    twice = np.repeat(rows, weight.astype(int), axis=0)
    for name in ("score", "bic", "aic", "icl"):
        call = getattr(model, name)
        np.testing.assert_allclose(call(rows, sample_weight=weight), call(twice), rtol=1e-12)


def test_old_faithful(faithful: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="standardize=True"):
        km = KMeans(2, random_state=0, tol=0).fit(faithful)
    assert km.inertia_ == pytest.approx(8901.7687, abs=1e-4)
    assert np.bincount(km.labels_).tolist() == [100, 172]
    with pytest.warns(UserWarning, match="standardize=True"):
        gm = GaussianMixture(2, random_state=0, tol=1e-9, reg_covar=0.0).fit(faithful)
    assert gm.score(faithful) * 272 == pytest.approx(-1130.26396, abs=1e-4)
    assert gm.bic(faithful) == pytest.approx(2 * 1130.26396 + 11 * np.log(272), abs=1e-3)


@pytest.mark.parametrize("standardize", [False, True])
def test_kmeans_probabilities_are_in_closed_form(rows: np.ndarray, standardize: bool) -> None:
    km = KMeans(3, random_state=0, standardize=standardize).fit(rows)
    n, d = rows.shape
    scale = rows.std(axis=0) if standardize else np.ones(d)
    gap = (rows[:, None] - km.cluster_centers_) / scale
    square = (gap**2).sum(axis=2)
    temperature = (n * d / 2) / square.min(axis=1).sum()
    assert km.temperature_ == pytest.approx(temperature, rel=1e-9)
    expected = softmax(-temperature * square, axis=1)
    np.testing.assert_allclose(km.predict_proba(rows), expected, atol=1e-9)
    np.testing.assert_allclose(km.transform(rows), np.sqrt(square), atol=1e-9)
    np.testing.assert_array_equal(km.predict(rows), square.argmin(axis=1))


def test_minibatch_probabilities_are_in_closed_form(rows: np.ndarray) -> None:
    km = MiniBatchKMeans(3, random_state=0).fit(rows)
    square = ((rows[:, None] - km.cluster_centers_) ** 2).sum(axis=2)
    expected = softmax(-(60 / square.min(axis=1).sum()) * square, axis=1)
    np.testing.assert_allclose(km.predict_proba(rows), expected, atol=1e-9)


def test_history(rows: np.ndarray) -> None:
    init = rows[[0, 3, 6]]
    km = KMeans(3, init=init, tol=0, history=True).fit(rows)
    assert km.history_.shape == (km.n_iter_ + 1, 3, 2)
    np.testing.assert_allclose(km.history_[0], init)
    np.testing.assert_allclose(km.history_[-1], km.cluster_centers_)
    label = ((rows[:, None] - km.history_[1]) ** 2).sum(axis=2).argmin(axis=1)
    means = np.stack([rows[label == j].mean(axis=0) for j in range(3)])
    np.testing.assert_allclose(km.history_[2], means, rtol=1e-10)
    assert not hasattr(km.set_params(history=False).fit(rows), "history_")


@pytest.mark.slow
def test_warm_start(rows: np.ndarray) -> None:
    settings: dict[str, Any] = {"random_state": 0, "warm_start": True, "tol": 0.0}
    model = GaussianMixture(3, max_iter=3, **settings)
    whole = GaussianMixture(3, max_iter=6, **{**settings, "warm_start": False})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)
        first = model.lower_bound_
        model.fit(rows)
        whole.fit(rows)
    assert model.lower_bound_ > first
    order = np.argsort(model.means_[:, 0])
    np.testing.assert_allclose(model.means_[order], whole.means_, rtol=1e-9)
    model.set_params(covariance_type="tied", tol=1e-5, max_iter=500).fit(rows)  # another family
    assert model.covariances_.shape == (2, 2)
    model.set_params(n_components=2).fit(rows)
    assert model.means_.shape == (2, 2)


def test_sample(rows: np.ndarray) -> None:
    model = GaussianMixture(3, random_state=0).fit(rows)
    X, y = model.sample(20_000)
    assert X.shape == (20_000, 2)
    np.testing.assert_allclose(np.bincount(y) / 20_000, model.weights_, atol=0.02)
    for j in range(3):
        part = X[y == j]
        sd = np.sqrt(np.diagonal(model.covariances_[j]))
        np.testing.assert_allclose(part.mean(axis=0), model.means_[j], atol=0.06 * sd.max())
        np.testing.assert_allclose(np.cov(part.T), model.covariances_[j], atol=0.1 * sd.max() ** 2)
    assert X.tolist() == model.sample(20_000)[0].tolist()
    with pytest.raises(ValueError, match="n_samples"):
        model.sample(0)


def test_canonical_numbering(rows: np.ndarray) -> None:
    for model in (KMeans(3), MiniBatchKMeans(3), GaussianMixture(3)):
        model.set_params(random_state=3).fit(rows)
        centers = model.means_ if isinstance(model, GaussianMixture) else model.cluster_centers_
        assert (np.diff(centers[:, 0]) > 0).all()


# -- units ---------------------------------------------------------------------------------------


def test_standardize_is_fitting_scaled_data(make: Any) -> None:
    X = blobs(60)[0] * [1.0, 1000.0] + [5.0, -3e4]
    sd, mean = X.std(axis=0), X.mean(axis=0)
    ours = make(standardize=True).fit(X)
    scaled = make().fit((X - mean) / sd)
    np.testing.assert_array_equal(ours.labels_, scaled.labels_)
    np.testing.assert_allclose(
        ours.predict_proba(X), scaled.predict_proba((X - mean) / sd), atol=1e-7
    )
    where = "means_" if isinstance(ours, GaussianMixture) else "cluster_centers_"
    back = getattr(scaled, where) * sd + mean
    np.testing.assert_allclose(getattr(ours, where), back, rtol=1e-7)
    if isinstance(ours, GaussianMixture):
        cov = scaled.covariances_ * np.outer(sd, sd)
        np.testing.assert_allclose(ours.covariances_, cov, rtol=1e-6)
        whole = sum(
            w * multivariate_normal(m, c).pdf(X)
            for w, m, c in zip(ours.weights_, ours.means_, ours.covariances_, strict=True)
        )
        np.testing.assert_allclose(ours.score_samples(X), np.log(whole), rtol=1e-9)
    else:
        np.testing.assert_allclose(ours.inertia_, scaled.inertia_, rtol=1e-7)


@pytest.mark.parametrize("ratio", [9.0, 12.0])
@pytest.mark.parametrize("standardize", [False, True])
def test_warns_of_unlike_columns(make: Any, ratio: float, standardize: bool) -> None:
    X = blobs(60)[0]
    X = X / X.std(axis=0) * [1.0, ratio] + 100.0
    model = make(standardize=standardize)
    if ratio > 10 and not standardize:
        with pytest.warns(UserWarning, match=r"12-fold.*standardize=True") as record:
            model.fit(X)
        assert len(record) == 1
        assert record[0].filename == __file__  # it points at the caller
    else:
        model.fit(X)  # warnings are errors


# -- batches -------------------------------------------------------------------------------------


def test_partial_fit_streams() -> None:
    X = blobs(600, seed=5)[0]
    truth = KMeans(3, random_state=0).fit(X)
    model = MiniBatchKMeans(3, random_state=0)
    for i in range(10):
        assert model.partial_fit(X[i * 60 : i * 60 + 60]) is model
        assert model.labels_.shape == (60,)
        assert model.n_steps_ == i + 1
    assert model.counts_.sum() == 600
    np.testing.assert_allclose(model.cluster_centers_, truth.cluster_centers_, atol=0.3)
    np.testing.assert_array_equal(model.predict(X), truth.labels_)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:60, :1])
    assert model.n_steps_ == 10


def test_partial_fit_is_the_running_mean(X: np.ndarray) -> None:
    model = MiniBatchKMeans(1, random_state=0)
    for part in (X[:20], X[20:40], X[40:]):
        model.partial_fit(part)
    np.testing.assert_allclose(model.cluster_centers_[0], X.mean(axis=0))
    weighted = MiniBatchKMeans(1, random_state=0)
    weighted.partial_fit(X[:20], sample_weight=np.full(20, 3.0)).partial_fit(X[20:40])
    expected = (3 * X[:20].mean(axis=0) + X[20:40].mean(axis=0)) / 4
    np.testing.assert_allclose(weighted.cluster_centers_[0], expected)


def test_partial_fit_goes_on_from_fit(X: np.ndarray) -> None:
    model = MiniBatchKMeans(3, random_state=0).fit(X)
    served, steps = model.counts_.sum(), model.n_steps_
    model.partial_fit(X.astype(np.float32))
    assert (model.counts_.sum(), model.n_steps_) == (served + 60, steps + 1)
    assert model.cluster_centers_.dtype == np.float64
