"""K-means against scikit-learn at the same start, and against numbers known of classic data."""

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans

from bayesclust import kmeans
from bayesclust.core import rows
from bayesclust.core.units import standard_units
from bayesclust.datasets import load_iris, load_old_faithful
from bayesclust.kmeans import KMeansState, LloydStep
from bayesclust.kmeans.lloyd import total_square
from tests.problems import KEY, blobs, packed

FAITHFUL = load_old_faithful().to_numpy()
IRIS = load_iris().to_numpy()


def peer(X, seeds, weight=None, *, tol=1e-4, max_iter=300):
    model = KMeans(len(seeds), init=seeds, n_init=1, tol=tol, max_iter=max_iter)
    return model.fit(X, sample_weight=weight)


PROBLEMS = {
    "overlapping": blobs(300, 2, 3, separation=1.5)[0],
    "wide": blobs(300, 2, 3, separation=8.0)[0] * [1.0, 30.0] + [500.0, -3.0],
    "many columns": blobs(300, 12, 5, separation=1.0)[0],
    "one column": blobs(300, 1, 4, separation=3.0)[0],
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_same_clustering_as_scikit_learn_in_double_precision(problem, weighted):
    X = PROBLEMS[problem]
    k = {12: 5, 1: 4, 2: 3}[X.shape[1]]
    weight = np.random.default_rng(0).uniform(0.1, 3, len(X)) if weighted else None
    for tol in (0, 1e-4, 1e-2):
        theirs = peer(X, X[:k], weight, tol=tol)
        ours = kmeans.fit(KEY, X, k, sample_weight=weight, init=X[:k], tol=tol)
        # scikit-learn relabels after its last update; so do we.
        np.testing.assert_array_equal(ours.labels, theirs.labels_)
        np.testing.assert_allclose(ours.centers, theirs.cluster_centers_, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-10)
        assert ours.n_steps == theirs.n_iter_
        assert bool(ours.converged)
        mass = np.bincount(ours.labels, weight, minlength=k)
        np.testing.assert_allclose(ours.counts, mass, rtol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_same_clustering_as_scikit_learn_in_single_precision(problem):
    X = PROBLEMS[problem].astype(np.float32)
    k = {12: 5, 1: 4, 2: 3}[X.shape[1]]
    theirs = peer(X, X[:k])
    ours = kmeans.fit(KEY, X, k, init=X[:k])
    assert ours.centers.dtype == np.float32
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    scale = X.std()
    np.testing.assert_allclose(ours.centers, theirs.cluster_centers_, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-5)
    assert ours.n_steps == theirs.n_iter_


def test_max_iter_stops_where_scikit_learn_does():
    X = PROBLEMS["overlapping"]
    for max_iter in (1, 3):
        theirs = peer(X, X[:3], tol=0, max_iter=max_iter)
        ours = kmeans.fit(KEY, X, 3, init=X[:3], tol=0, max_iter=max_iter)
        assert ours.n_steps == max_iter
        assert not bool(ours.converged)
        np.testing.assert_allclose(ours.centers, theirs.cluster_centers_, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_old_faithful(dtype):
    found = kmeans.fit(KEY, FAITHFUL.astype(dtype), 2, n_init=4)
    tol = 1e-5 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(found.inertia, 8901.768720947213, rtol=tol)
    assert found.counts.tolist() == [100, 172]
    assert np.bincount(found.labels).tolist() == [100, 172]
    np.testing.assert_allclose(
        found.centers, [[2.09433, 54.75], [4.297930232558, 80.284883720930]], rtol=1e-6
    )


def test_iris():
    found = kmeans.fit(KEY, IRIS, 3, n_init=10)
    np.testing.assert_allclose(found.inertia, 78.851441426146, rtol=1e-10)
    assert sorted(found.counts.tolist()) == [38, 50, 62]


def test_standard_units_are_the_clustering_of_standardised_columns():
    units = standard_units(FAITHFUL)
    found = kmeans.fit(KEY, FAITHFUL, 2, init=FAITHFUL[:2], units=units, tol=0)
    Z = units.inward(FAITHFUL)
    theirs = peer(Z, Z[:2], tol=0)
    np.testing.assert_array_equal(found.labels, theirs.labels_)
    np.testing.assert_allclose(found.inertia, theirs.inertia_, rtol=1e-12)
    np.testing.assert_allclose(found.centers, units.outward(theirs.cluster_centers_), rtol=1e-12)


@pytest.mark.parametrize(("n_init", "init"), [(1, "given"), (3, "greedy")])
def test_large_data_on_all_cores_give_what_one_program_gives(init, n_init, monkeypatch):
    with jax.enable_x64():
        X = blobs(1500, 2, 5, separation=2.0)[0]
        weight = np.random.default_rng(0).integers(0, 4, 1500).astype(float)
        settings = {"init": X[:5] if init == "given" else kmeans.greedy, "n_init": n_init}
        monkeypatch.setattr(rows, "MAX_BLOCK", 256)
        inside = kmeans.fit(KEY, X, 5, sample_weight=weight, **settings)
        monkeypatch.setattr(rows, "PARALLEL_WORK", 1)
        monkeypatch.setattr(rows, "cores", lambda: 2)
        driven = kmeans.fit(KEY, X, 5, sample_weight=weight, **settings)
    for name in ("labels", "counts", "n_steps", "converged", "short"):
        np.testing.assert_array_equal(getattr(driven, name), getattr(inside, name), name)
    for name in ("centers", "inertia", "objectives", "trace"):
        np.testing.assert_allclose(getattr(driven, name), getattr(inside, name), rtol=1e-11)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("k, d", [(3, 2), (40, 13)])
def test_the_objective_of_a_step_is_the_sum_of_squares(k, d, direct):
    X, weight = blobs(300, d, 3)[0], np.random.default_rng(0).exponential(size=300)
    data, centers = packed(X, weight, block=64), X[:k] + 0.1
    state = KMeansState.start(jax.numpy.asarray(centers, data.dtype))
    algorithm = LloydStep(np.float32(0), total_square(data), direct)
    found = jax.jit(lambda a, s, r: a.inertia(s.centers, a.sweep(s, r)))(algorithm, state, data)
    gaps = np.square(X[:, None] - centers).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(found, weight @ gaps, rtol=1e-4)


def test_history_is_the_path_of_single_steps():
    with jax.enable_x64():
        X = PROBLEMS["overlapping"]
        found = kmeans.fit(KEY, X, 3, init=X[:3], history=True, tol=0)
        assert found.history.shape == (found.n_steps + 1, 3, 2)
        data = packed(X)
        algorithm = LloydStep(np.float64(0), np.float64(0), direct=True)
        step = jax.jit(lambda state: algorithm.update(state, algorithm.sweep(state, data)))
        state = KMeansState.start(jax.numpy.asarray(X[:3]))
        for i, centers in enumerate(found.history):
            np.testing.assert_allclose(state.centers, centers, rtol=1e-12, err_msg=f"step {i}")
            inertia = np.square(X[:, None] - centers).sum(axis=2).min(axis=1).sum()
            if i < found.n_steps:
                np.testing.assert_allclose(found.trace[i], inertia, rtol=1e-12)
            state = step(state)
        np.testing.assert_allclose(found.history[-1], found.centers, rtol=1e-14)


def test_history_is_numbered_like_the_result_and_refused_inside_a_program():
    X = PROBLEMS["wide"]
    found = kmeans.fit(KEY, X, 3, history=True, n_init=2)
    np.testing.assert_allclose(found.history[-1], found.centers, rtol=1e-14)
    with pytest.raises(ValueError, match="history"):
        jax.jit(lambda X: kmeans.fit(KEY, X, 3, history=True).centers)(X.astype(np.float32))


def test_assign_takes_the_nearest_and_the_lowest_of_ties():
    X = PROBLEMS["wide"]
    found = kmeans.fit(KEY, X, 3)
    np.testing.assert_array_equal(kmeans.assign(X, found.centers), found.labels)
    line = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    assert kmeans.assign(line, [[2.0], [0.0], [4.0]]).tolist() == [1, 0, 0, 0, 2]
    units = standard_units(X)
    labels = kmeans.assign(X, found.centers, units=units)
    gap = (X[:, None] - found.centers) / units.scale
    np.testing.assert_array_equal(labels, np.square(gap).sum(axis=2).argmin(axis=1))
