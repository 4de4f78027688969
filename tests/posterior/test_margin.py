"""Margins against closed forms and against a search over a fine grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from bayesclust import GaussianMixture, KMeans
from tests.problems import blobs


@pytest.mark.parametrize("standardize", [False, True])
def test_kmeans(X: np.ndarray, standardize: bool) -> None:
    km = KMeans(3, random_state=0, standardize=standardize).fit(X)
    scale = X.std(axis=0) if standardize else np.ones(2)
    centers = km.cluster_centers_ / scale
    square = ((X[:, None] / scale - centers) ** 2).sum(axis=2)
    own, second = np.argsort(square, axis=1).T[:2]

    def bisector(other: np.ndarray) -> np.ndarray:
        apart = np.linalg.norm(centers[own] - centers[other], axis=1)
        i = np.arange(len(X))
        gap = (square[i, other] - square[i, own]) / (2 * np.where(apart > 0, apart, 1))
        return np.where(own == other, 0, gap)

    np.testing.assert_allclose(km.membership(X)["margin"], bisector(second), atol=1e-9)
    for to in range(3):
        answer = km.membership(X, to=to)["margin"]
        np.testing.assert_allclose(answer, bisector(np.full(60, to)), atol=1e-9)


def boundary(model: GaussianMixture, i: int, j: int, span: np.ndarray) -> np.ndarray:
    """Points of a fine grid's edges where clusters i and j are equally probable."""
    x, y = np.meshgrid(span, span, indexing="ij")
    grid = np.stack([x, y], axis=-1)
    gap = np.log(model.weights_[i] / model.weights_[j])
    gap = gap + multivariate_normal(model.means_[i], model.covariances_[i]).logpdf(grid)
    gap = gap - multivariate_normal(model.means_[j], model.covariances_[j]).logpdf(grid)
    found = []
    for axis in (0, 1):
        a, b = np.moveaxis(gap, axis, 0)[:-1], np.moveaxis(gap, axis, 0)[1:]
        p, q = np.moveaxis(grid, axis, 0)[:-1], np.moveaxis(grid, axis, 0)[1:]
        crosses = a * b <= 0
        share = (a / np.where(a == b, 1, a - b))[crosses][:, None]
        found.append(p[crosses] + share * (q - p)[crosses])
    return np.concatenate(found)


@pytest.fixture(scope="module")
def mixture() -> tuple[GaussianMixture, np.ndarray]:
    X = blobs(60, separation=2.0, seed=3)[0]
    return GaussianMixture(3, random_state=0).fit(X), X


@pytest.mark.parametrize("to", [None, 0, 1, 2])
def test_full_covariances(mixture: tuple[GaussianMixture, np.ndarray], to: int | None) -> None:
    model, X = mixture
    span = np.linspace(-30, 30, 1501)
    answer = model.membership(X, to=to)
    label = answer["label"].values
    p = answer["probability"].values.copy()
    p[np.arange(60), label] = -1
    other = p.argmax(axis=1) if to is None else np.full(60, to)
    checked = 0
    for i in range(3):
        for j in range(3):
            rows = np.flatnonzero((label == i) & (other == j))
            if not len(rows):
                continue
            if i == j:
                assert (answer["margin"].values[rows] == 0).all()
                continue
            edge = boundary(model, i, j, span)
            nearest = np.linalg.norm(X[rows, None] - edge, axis=2).min(axis=1)
            np.testing.assert_allclose(answer["margin"].values[rows], nearest, rtol=0.01, atol=0.02)
            checked += len(rows)
    assert checked >= 20


def test_never_farther_than_straight_to_the_boundary() -> None:
    """Margins of random mixtures are reached by some point of equal probability, and least."""
    X = blobs(60, separation=2.0, seed=11)[0]
    model = GaussianMixture(3, random_state=0).fit(X)
    rows = np.random.default_rng(0).uniform(-6, 6, (60, 2))
    answer = model.membership(rows)
    label = answer["label"].values
    p = answer["probability"].values.copy()
    p[np.arange(60), label] = -1
    other = p.argmax(axis=1)
    span = np.linspace(-40, 40, 1501)
    edges = {(i, j): boundary(model, i, j, span) for i in range(3) for j in range(3) if i != j}
    nearest = [
        np.linalg.norm(x - edges[i, j], axis=1).min()
        for x, i, j in zip(rows, label, other, strict=True)
    ]
    np.testing.assert_allclose(answer["margin"], nearest, rtol=0.01, atol=0.03)


def test_one_column_is_a_root(X: np.ndarray) -> None:
    rows = X[:, :1]
    model = GaussianMixture(2, random_state=0).fit(rows)
    answer = model.membership(rows)
    sign = np.where(answer["label"] == 0, 1, -1)
    for step in (-1, 1):
        moved = rows + step * answer["margin"].values[:, None]
        if step == 1:
            up = model.predict_proba(moved)
        else:
            down = model.predict_proba(moved)
    even = np.minimum(abs(up[:, 0] - 0.5), abs(down[:, 0] - 0.5))
    np.testing.assert_allclose(even, 0, atol=1e-4)
    assert set(sign) == {1, -1}


def test_units_of_the_user(X: np.ndarray) -> None:
    for make in (KMeans, GaussianMixture):
        near = make(3, random_state=0).fit(X).membership(X)["margin"]
        far = make(3, random_state=0).fit(X * 1024.0).membership(X * 1024.0)["margin"]
        np.testing.assert_allclose(far, near * 1024.0, rtol=1e-6)


def test_draws_keep_the_margin_of_the_point_fit(models: Any, frame: pd.DataFrame) -> None:
    a = models["kmeans"].membership(frame)["margin"]
    b = models["kmeans-drawn"].membership(frame)["margin"]
    np.testing.assert_array_equal(a, b)
