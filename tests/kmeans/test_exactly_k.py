"""Exactly k non-empty clusters whenever there are k distinct rows, from any start."""

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bayesclust import kmeans
from bayesclust.core import rows
from tests.problems import KEY

N, K = 12, 4


def grids(n, most):
    """Rows on a small grid, so that duplicates and ties abound."""
    return arrays(np.float32, (n, 2), elements=st.integers(0, most).map(float))


def starts(k):
    """Good and bad centres: on rows, all in one place, far from every row."""
    far = st.sampled_from([1e4, -1e3]).map(lambda v: np.full((k, 2), v, np.float32))
    apart = far.map(lambda c: c * np.arange(1, k + 1, dtype=np.float32)[:, None])
    return st.one_of(far, apart, arrays(np.float32, (k, 2), elements=st.integers(0, 3).map(float)))


def check(found, X, k, weight):
    present = X[weight > 0]
    distinct = len(np.unique(present, axis=0))
    for name in ("centers", "counts", "inertia", "objectives"):
        assert np.isfinite(getattr(found, name)).all(), name
    gap = np.square(X[:, None].astype(float) - found.centers).sum(axis=2)
    own = gap[np.arange(len(X)), found.labels]
    np.testing.assert_allclose(own, gap.min(axis=1), atol=1e-3)
    np.testing.assert_allclose(found.inertia, weight @ own, rtol=1e-4, atol=1e-3)
    mass = np.bincount(found.labels, weight, minlength=k)
    np.testing.assert_allclose(found.counts, mass)
    assert (mass > 0).sum() == min(k, distinct)
    assert bool(found.short) == (distinct < k)
    trace = found.trace[np.isfinite(found.trace)]
    assert len(trace) == found.n_steps
    assert (np.diff(trace) <= 1e-4 * np.abs(trace[:-1]) + 1e-4).all()


SQUARE = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 3, np.float32)


@given(grids(N, 3), starts(K), arrays(np.float32, N, elements=st.integers(0, 2).map(float)))
@example(SQUARE, np.full((K, 2), 1e4, np.float32), np.ones(N, np.float32))
@example(np.zeros((N, 2), np.float32), np.zeros((K, 2), np.float32), np.ones(N, np.float32))
def test_given_centres(X, init, weight):
    weight[0] += 1  # some row is present
    check(kmeans.fit(KEY, X, K, init=init, sample_weight=weight), X, K, weight)


@given(grids(N, 2), st.sampled_from([kmeans.greedy, kmeans.random_rows]), st.integers(0, 2**31))
def test_seeded_centres(X, seeding, seed):
    found = kmeans.fit(jax.random.key(seed), X, K, init=seeding)
    check(found, X, K, np.ones(N))
    # Numbered by the first column; rounding alone decides between equal ones.
    assert (np.diff(found.centers[:, 0]) >= -1e-6).all()


@given(grids(6, 4))
def test_as_many_clusters_as_rows(X):
    found = kmeans.fit(KEY, X, 6)
    check(found, X, 6, np.ones(6))
    np.testing.assert_allclose(found.inertia, 0, atol=1e-6)
    np.testing.assert_allclose(found.centers[found.labels], X, atol=1e-6)


@pytest.mark.parametrize("init", [np.full((K, 2), 50.0), np.arange(8.0).reshape(K, 2) * 1e3])
@pytest.mark.parametrize("distinct", [3, 4, 9])
def test_exactly_k_when_all_cores_share_the_rows(init, distinct, monkeypatch):
    monkeypatch.setattr(rows, "MAX_BLOCK", 256)
    monkeypatch.setattr(rows, "PARALLEL_WORK", 1)
    monkeypatch.setattr(rows, "cores", lambda: 2)
    i = np.arange(700)
    X = np.column_stack([i % distinct, (i % distinct) ** 2]).astype(np.float32)
    check(kmeans.fit(KEY, X, K, init=init), X, K, np.ones(700))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inside_a_program_too(dtype):
    with jax.enable_x64(dtype == "float64"):
        X, weight = SQUARE.astype(dtype), np.ones(N, dtype)
        init = np.full((K, 2), 9.0, dtype)
        fit = jax.jit(lambda X, w: kmeans.fit(KEY, X, K, init=init, sample_weight=w))
        check(jax.device_get(fit(X, weight)), X, K, weight)
        weight[2::4] = 0
        check(jax.device_get(fit(X, weight)), X, K, weight)
        check(jax.device_get(fit(0 * X, weight)), 0 * X, K, weight)
