"""One label per row: of the fit, of `predict`, scorecard, membership and tree, drawn or not."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from bayesclust import (
    BayesianMixture,
    GaussianMixture,
    Gibbs,
    KMeans,
    MiniBatchKMeans,
    load,
)
from tests.problems import blobs, slowly

GIBBS = Gibbs(30, 10, 2)
MODELS: dict[str, Any] = {
    "kmeans": KMeans(3),
    "kmeans, bootstrap": KMeans(3, uncertainty="bootstrap", num_draws=8),
    "kmeans, gibbs": KMeans(3, uncertainty="gibbs", num_draws=8),
    "kmeans, standardized": KMeans(3, standardize=True),
    "minibatch": MiniBatchKMeans(3),
    "minibatch, bootstrap": MiniBatchKMeans(3, uncertainty="bootstrap", num_draws=8),
    "mixture": GaussianMixture(3),
    "mixture, bootstrap": GaussianMixture(3, uncertainty="bootstrap", num_draws=8),
    "bayes": BayesianMixture(3, engine=GIBBS),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", slowly(MODELS, {"kmeans, bootstrap", "mixture, bootstrap"}))
@pytest.mark.filterwarnings("ignore:.*of the draws do not match:UserWarning")
def test_one_label(name: str, dtype: str, tmp_path: Any) -> None:
    X = blobs(200, separation=1.0, seed=3)[0].astype(dtype)
    model = MODELS[name].set_params(random_state=0).fit(X)
    label = model.labels_
    assert label.dtype == np.int32
    answer = model.membership(X)
    model.save(tmp_path / "model.nc")
    again = load(tmp_path / "model.nc")
    for found in (
        model.predict(X),
        model.fit_predict(X),
        answer["label"],
        model.scorecard(X)["cluster"],
        model.posterior_["membership"]["label"],
        model.clustering_.labels,
        again.predict(X),
        again.membership(X)["label"],
        pickle.loads(pickle.dumps(model)).labels_,
    ):
        np.testing.assert_array_equal(found, label)
    p = model.predict_proba(X)
    best = p.argmax(axis=1)
    if "kmeans" in name or "minibatch" in name:
        nearest = model.transform(X).argmin(axis=1)
        np.testing.assert_array_equal(label, nearest)
        if model.uncertainty is None:
            np.testing.assert_array_equal(label, best)
        assert (label == best).mean() > 0.8
    else:
        np.testing.assert_array_equal(label, best)
    # The probability that a scorecard shows is that of the label it shows.
    card = model.scorecard(X)
    own = answer["probability"].values[np.arange(200), label]
    np.testing.assert_array_equal(card["probability"], own)


def test_clusters_of_unlike_sizes_are_cut_in_the_middle() -> None:
    """One row at 0, a thousand at 10: sizes must not move the boundary that k-means draws."""
    X = np.concatenate([[[0.0]], np.tile([[9.9], [10.1]], (500, 1))])
    model = KMeans(2, random_state=0).fit(X)
    row = np.array([[4.8], [5.2]])
    assert model.predict(row).tolist() == [0, 1]
    assert model.scorecard(row)["cluster"].tolist() == [0, 1]
    p = model.predict_proba(row)
    assert p.argmax(axis=1).tolist() == [0, 1]
    # softmax(-lambda d^2) at lambda = n d / 2 / SSE
    gap = model.temperature_ * (4.8**2 - 5.2**2)
    np.testing.assert_allclose(p[0], [1 / (1 + np.exp(gap)), 1 / (1 + np.exp(-gap))], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0, 1 / 3])
def test_the_first_of_several_nearest_centres(dtype: str, offset: float) -> None:
    """Rows half-way between centres on a lattice, seen by the fit with no weight."""
    centers = np.array([[0, 0], [4, 0], [0, 4], [4, 4]]) + offset
    ties = np.array([[2, 0], [0, 2], [2, 2], [4, 2], [2, 4], [2, 100], [100, 2]]) + offset
    X = np.concatenate([centers, ties]).astype(dtype)
    weight = np.repeat([1.0, 0.0], [4, 7])
    model = KMeans(4, init=centers, n_init=1).fit(X, sample_weight=weight)
    label = model.labels_
    np.testing.assert_array_equal(model.predict(X), label)
    np.testing.assert_array_equal(model.scorecard(X)["cluster"], label)
    np.testing.assert_array_equal(model.posterior_["membership"]["label"], label)
    if offset == 0:
        assert label.tolist() == [0, 1, 2, 3, 0, 0, 0, 1, 2, 2, 1]
        np.testing.assert_array_equal(model.predict_proba(X).argmax(axis=1), label)


def test_rows_far_away_in_single_precision() -> None:
    X = blobs(200, separation=2.0, seed=3)[0].astype(np.float32)
    model = KMeans(3, random_state=0).fit(X)
    rows = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    for scale in (1e2, 1e4, 1e7):
        far = rows * np.float32(scale)
        label = model.predict(far)
        np.testing.assert_array_equal(model.scorecard(far)["cluster"], label)
        p = model.predict_proba(far)
        np.testing.assert_array_equal(p[np.arange(600), label], p.max(axis=1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_rows_have_their_exact_nearest_centre(dtype: str) -> None:
    """In whatever company they are asked about: a product's rounding decides no tie."""
    rng = np.random.default_rng(0)
    half = rng.integers(-3, 4, size=(5, 16))
    centers = np.concatenate([half, -half])  # their mean is zero, so that all is exact
    i, j = rng.integers(10, size=(2, 3000))
    rows = np.concatenate([(centers[i] + centers[j]) / 2, rng.integers(-3, 4, size=(600, 16))])
    distance = np.square(2 * rows[:, None, :] - 2 * centers).sum(axis=2).astype(np.int64)
    exact = distance.argmin(axis=1)
    tied = (distance == distance.min(axis=1, keepdims=True)).sum(axis=1) > 1
    assert tied.sum() > 300
    model = KMeans(10, init=centers, n_init=1).fit(centers.astype(dtype))
    np.testing.assert_array_equal(model.cluster_centers_, centers)
    rows = rows.astype(dtype)
    np.testing.assert_array_equal(model.predict(rows), exact)
    few = np.concatenate([model.predict(rows[a : a + 7]) for a in range(0, 70, 7)])
    np.testing.assert_array_equal(few, exact[:70])
    # A row that is in doubt and overflows is told by its place among all.
    far = rows.astype(np.float64)
    far[1234, 5] = 1e300
    with pytest.raises(ValueError, match="row 1234 of X"):
        model.predict(far)
