"""Weighted-likelihood bootstrap: draws that spread as the estimate does."""

import jax
import numpy as np
import pytest

from bayesclust.engines import EM, Bootstrap, Lloyd, SeededStart
from bayesclust.families import FullGaussian, SphericalGaussian
from bayesclust.mixture import Mixture
from tests.problems import FAMILIES, KEY, blobs

X, Z = blobs(300, 2, 3, seed=3, separation=9.0)
BASES = {"em": EM(), "lloyd": Lloyd()}


@pytest.fixture(scope="module", params=BASES)
def fitted(request):
    """Engine, mixture, point fit, draws."""
    mixture = Mixture(SphericalGaussian(), 3)
    base = BASES[request.param]
    start = X[Z.argsort(kind="stable")[[0, 100, 200]]] if base is BASES["lloyd"] else SeededStart()
    point = base.run(KEY, mixture, X, start=start)
    engine = Bootstrap(base, num_draws=200)
    return engine, mixture, point, engine.run(KEY, mixture, X, start=point)


def flat(draws):
    return draws.params["mean"].reshape(-1, 3, 2)


def test_draws_are_laid_out_as_chains(fitted):
    _, _, _, draws = fitted
    assert draws.shape == (4, 50)
    assert draws.k == 3
    assert draws.params["mean"].shape == (4, 50, 3, 2)
    assert draws.params["var"].shape == (4, 50, 3)
    for value in (*draws.stats.values(), *draws.flags.values()):
        assert value.shape == (4, 50)
    np.testing.assert_allclose(np.exp(draws.log_weights).sum(axis=-1), 1, rtol=1e-9)
    assert draws.flags["converged"].all()


def test_one_key_one_answer(fitted):
    engine, mixture, point, draws = fitted
    again = engine.run(KEY, mixture, X, start=point)
    other = engine.run(jax.random.key(1), mixture, X, start=point)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(draws), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.abs(flat(other) - flat(draws)) > 0).all()
    assert len(np.unique(flat(draws)[:, 0, 0])) == 200


def test_draws_lie_around_the_point_fit_as_the_mean_of_a_cluster_does(fitted):
    _, _, point, draws = fitted
    mean = point.params["mean"][0, 0]
    owner = np.square(X[:, None] - mean).sum(axis=2).argmin(axis=1)
    for j in range(3):
        rows = X[owner == j]
        error = rows.std(axis=0) / np.sqrt(len(rows))
        drawn = flat(draws)[:, j]
        np.testing.assert_allclose(drawn.std(axis=0), error, rtol=0.25)
        np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - mean[j]), 5 * error / 200**0.5)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_component_spreads_by_the_standard_error(name):
    rows = X[:, :1] * [1.0, 5.0] + np.random.default_rng(0).normal(size=(300, 2))
    draws = Bootstrap(EM(), num_draws=400).run(KEY, Mixture(FAMILIES[name](), 1), rows)
    spread = draws.params["mean"].reshape(-1, 2).std(axis=0)
    np.testing.assert_allclose(spread, rows.std(axis=0) / np.sqrt(300), rtol=0.15)


def test_sample_weights_narrow_the_spread_and_zero_is_absence():
    mixture, engine = Mixture(FullGaussian(), 1), Bootstrap(EM(), num_draws=400)
    rows = np.random.default_rng(0).normal(size=(280, 2))
    four = engine.run(KEY, mixture, rows, sample_weight=np.full(280, 4.0))
    np.testing.assert_allclose(
        four.params["mean"].std(axis=(0, 1))[0], rows.std(axis=0) / np.sqrt(1120), rtol=0.15
    )
    # The same draws of the weights, for the rows are in the same places of the same bucket.
    far = np.concatenate([rows, np.full((5, 2), 1e9)])
    weight = np.concatenate([np.ones(280), np.zeros(5)])
    with_far = engine.run(KEY, mixture, far, sample_weight=weight)
    without = engine.run(KEY, mixture, rows, sample_weight=np.ones(280))
    for a, b in zip(jax.tree.leaves(with_far), jax.tree.leaves(without), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_weights_of_components_spread_as_shares_do():
    mixture = Mixture(SphericalGaussian(), 3)
    draws = Bootstrap(EM(), num_draws=200).run(KEY, mixture, X, start=SeededStart())
    share = np.exp(draws.log_weights).reshape(-1, 3)
    np.testing.assert_allclose(share.mean(axis=0), 1 / 3, atol=0.01)
    np.testing.assert_allclose(share.std(axis=0), np.sqrt(2 / 9 / 300), rtol=0.25)


def test_any_number_of_draws_and_progress_is_told(fitted):
    _, mixture, point, _ = fitted
    told = []
    draws = Bootstrap(Lloyd(), num_draws=7).run(
        KEY, mixture, X, start=point, progress=lambda done, total: told.append((done, total))
    )
    assert draws.shape == (1, 7)
    assert told[-1] == (7, 7)
    assert told == sorted(told)


def test_draws_are_in_the_units_of_the_data(fitted):
    engine, mixture, point, draws = fitted
    moved = 1024.0 * X + 2.0**20
    scaled = {"mean": 1024.0 * point.params["mean"] + 2.0**20, "var": 2.0**20 * point.params["var"]}
    start = type(point)(scaled, point.log_weights, point.stats, point.trace, point.flags)
    found = engine.run(KEY, mixture, moved, start=start)
    np.testing.assert_allclose((flat(found) - 2.0**20) / 1024, flat(draws), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.params["var"] / 2.0**20, draws.params["var"], rtol=1e-6)
    if "log_likelihood" in draws.stats:
        shift = 300 * 2 * np.log(1024)
        np.testing.assert_allclose(
            found.stats["log_likelihood"] + shift, draws.stats["log_likelihood"], rtol=1e-6
        )
    else:
        for name, power in (("inertia", 2.0**-20), ("temperature", 2.0**20)):
            np.testing.assert_allclose(found.stats[name] * power, draws.stats[name], rtol=1e-6)
