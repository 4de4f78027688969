"""K-means as an engine: memberships of the generalised posterior, temperature learned."""

import jax
import numpy as np
import pytest

from bayesclust import kmeans
from bayesclust.core.units import standard_units
from bayesclust.datasets import load_old_faithful
from bayesclust.engines import Lloyd
from bayesclust.families import SphericalGaussian
from bayesclust.mixture import Mixture
from tests.problems import KEY, blobs

FAITHFUL = load_old_faithful().to_numpy()


def memberships(draws, mixture, X):
    with jax.enable_x64():
        params = {p: v[0, 0] for p, v in draws.params.items()}
        return np.asarray(mixture.responsibilities(params, draws.log_weights[0, 0], X))


def softmax(scores):
    mass = np.exp(scores - scores.max(axis=1, keepdims=True))
    return mass / mass.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("prior", [(0.0, 0.0), (3.0, 500.0)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("problem", ["faithful", "blobs"])
def test_memberships_are_softmax_at_the_learned_temperature(problem, weighted, prior):
    X, k = (FAITHFUL, 2) if problem == "faithful" else (blobs(300, 12, 4, separation=0.8)[0], 4)
    n, d = X.shape
    weight = np.random.default_rng(0).integers(0, 3, n).astype(float) if weighted else None
    mixture = Mixture(SphericalGaussian(), k)
    draws = Lloyd(shape=prior[0], rate=prior[1]).run(KEY, mixture, X, sample_weight=weight)
    found = kmeans.fit(KEY, X, k, sample_weight=weight)
    np.testing.assert_allclose(draws.params["mean"][0, 0], found.centers, rtol=1e-12)

    w = np.ones(n) if weight is None else weight
    d2 = np.square(X[:, None] - found.centers).sum(axis=2)
    sse = w @ d2.min(axis=1)
    temperature = (prior[0] + w.sum() * d / 2) / (prior[1] + sse)
    np.testing.assert_allclose(draws.stats["temperature"][0, 0], temperature, rtol=1e-10)
    np.testing.assert_allclose(draws.stats["inertia"][0, 0], sse, rtol=1e-10)
    expected = softmax(-temperature * d2)
    np.testing.assert_allclose(memberships(draws, mixture, X), expected, atol=1e-9)
    assert 0.01 < 1 - expected.max(axis=1).min()  # somewhere it is not certain


def test_memberships_do_not_depend_on_the_units_of_the_data():
    mixture = Mixture(SphericalGaussian(), 2)
    a = Lloyd().run(KEY, mixture, FAITHFUL)
    moved = 1e-5 * FAITHFUL + 1e-3
    b = Lloyd().run(KEY, mixture, moved)
    np.testing.assert_allclose(
        memberships(b, mixture, moved), memberships(a, mixture, FAITHFUL), atol=1e-7
    )
    np.testing.assert_allclose(b.stats["temperature"] * 1e-10, a.stats["temperature"], rtol=1e-7)


def test_in_standard_units_distances_are_those_of_standard_columns():
    mixture, units = Mixture(SphericalGaussian(), 2), standard_units(FAITHFUL)
    draws = Lloyd().run(KEY, mixture, FAITHFUL, units=units)
    Z = units.inward(FAITHFUL)
    centers = (draws.params["mean"][0, 0] - units.shift) / units.scale
    d2 = np.square(Z[:, None] - centers).sum(axis=2)
    sse = d2.min(axis=1).sum()
    np.testing.assert_allclose(draws.stats["inertia"][0, 0], sse, rtol=1e-10)
    np.testing.assert_allclose(draws.stats["temperature"][0, 0], len(Z) / sse, rtol=1e-10)


def test_perfect_partitions_keep_a_finite_temperature():
    X = np.repeat([[0.0, 0.0], [3.0, 4.0]], 8, axis=0)
    for rows in (X, X[:1].repeat(16, axis=0)):
        for dtype in ("float32", "float64"):
            mixture = Mixture(SphericalGaussian(), 2)
            draws = Lloyd().run(KEY, mixture, rows.astype(dtype))
            assert np.isfinite(draws.stats["temperature"]).all()
            assert all(np.isfinite(v).all() for v in draws.params.values())
            resp = memberships(draws, mixture, rows)
            np.testing.assert_allclose(resp.sum(axis=1), 1)
            if rows is X:
                np.testing.assert_allclose(resp.max(axis=1), 1)
                assert not bool(draws.flags["short"][0, 0])
            else:  # one cluster stays empty, and inactive
                assert bool(draws.flags["short"][0, 0])
                assert np.isneginf(draws.log_weights[0, 0]).sum() == 1


def test_inside_a_program_it_is_the_same():
    X, _ = blobs(96, 2, 3, separation=2.0)
    mixture = Mixture(SphericalGaussian(), 3)
    host = Lloyd().run(KEY, mixture, X, start=X[:3])
    with jax.enable_x64():
        inside = jax.jit(lambda X: Lloyd().run(KEY, mixture, X, start=X[:3]))(X)
    for a, b in zip(jax.tree.leaves(inside.params), jax.tree.leaves(host.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    np.testing.assert_allclose(inside.log_weights, host.log_weights, rtol=1e-9)
    np.testing.assert_allclose(inside.stats["temperature"], host.stats["temperature"], rtol=1e-9)
