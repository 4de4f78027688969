"""The Gaussian families against NumPyro, SciPy and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist
from scipy import stats

from bayesclust.core.linalg import cholesky
from bayesclust.core.loop import _sweep
from bayesclust.families import (
    DiagonalGaussian,
    FullGaussian,
    SphericalGaussian,
    TiedGaussian,
    gaussian,
)
from tests.problems import (
    FAMILIES,
    algorithm_at,
    assert_close,
    blobs,
    covariances,
    packed,
    plain,
    random_params,
    slowly,
)

K = 3
DIMS = [1, 2, 3, 4, 5, 8, 35]  # 35: wide enough for strips that differ in width
RNG = np.random.default_rng(0)


def prepared_and_scores(name, params, X):
    family = FAMILIES[name]()
    prepared = family.prepare(params)
    return family, prepared, family.score(prepared, X.T)


def m_step(name, data, *, params=None, ridge=0.0, spread=1.0, k=K):
    """One M-step by the family's own statistics, responsibilities random but fixed."""
    family = FAMILIES[name](ridge, spread)
    n, d = data.shape
    params = random_params(name, k, d) if params is None else params
    resp = np.random.default_rng(5).dirichlet(np.ones(k), n).T
    prepared = family.prepare(params)
    rows = packed(data, block=n)
    x = jnp.asarray(data.T)
    found = family.maximise(params, family.stats(prepared, x, resp), family.constants(rows))
    return found, family.floored(found), resp


@pytest.mark.parametrize("d", slowly(DIMS, {1, 3, 35}))
def test_log_density_is_that_of_numpyro(name, d):
    params = random_params(name, K, d)
    X = 3 * RNG.normal(size=(20, d))
    expected = dist.MultivariateNormal(params["mean"], covariances(name, params, K, d)).log_prob(
        X[:, None]
    )
    found = FAMILIES[name]().log_prob(params, X)
    assert found.shape == (20, K)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("d", slowly(DIMS, {1, 3, 35}))
def test_m_step_is_the_weighted_mean_and_covariance(name, d):
    X = 2 * RNG.normal(size=(48, d)) + 1
    params, floored, resp = m_step(name, X)
    count = resp.sum(axis=1)
    mean = resp @ X / count[:, None]
    gap = X - mean[:, None]
    cov = np.einsum("kn,kni,knj->kij", resp, gap, gap) / count[:, None, None]
    expected = {
        "full": cov,
        "tied": np.broadcast_to(np.einsum("k,kij->ij", count, cov) / len(X), cov.shape),
        "diag": cov * np.eye(d),
        "spherical": (np.trace(cov, axis1=1, axis2=2) / d)[:, None, None] * np.eye(d),
    }[name]
    np.testing.assert_allclose(params["mean"], mean, atol=1e-12)
    np.testing.assert_allclose(covariances(name, params, K, d), expected, rtol=1e-9, atol=1e-12)
    assert not np.asarray(floored).any()


def test_m_step_raises_the_weighted_objective_above_every_neighbour(name):
    X = RNG.normal(size=(48, 2)) * [1, 3]
    params, _, resp = m_step(name, X)

    def objective(params):
        return float(np.sum(resp.T * np.asarray(FAMILIES[name]().log_prob(params, X))))

    best = objective(params)
    assert best > objective(random_params(name, K, 2))
    for parameter in params:
        for i in range(6):
            way = np.random.default_rng(i).normal(size=params[parameter].shape)
            if parameter == "cov":
                way = way + way.swapaxes(-1, -2)
            for step in (1e-3, -1e-3):
                moved = {**params, parameter: params[parameter] + step * way}
                assert objective(moved) < best


@pytest.mark.parametrize("d", [2, 4, 5])
def test_statistics_are_additive(name, d):
    X, w = 3 * RNG.normal(size=(64, d)), RNG.uniform(size=64)

    def stats_of(rows):
        algorithm, state = algorithm_at(name, rows)
        return _sweep(algorithm, state, rows)

    whole = stats_of(packed(X, w, block=64))
    parts = [stats_of(packed(X[i], w[i], block=64)) for i in (slice(25), slice(25, None))]
    assert_close(jax.tree.map(jnp.add, *parts), whole, 1e-13)


def test_with_one_column_all_families_but_tied_are_one():
    X = 3 * RNG.normal(size=(48, 1))
    found = {
        name: m_step(name, X, params=_one_column(name), ridge=0.01)[0]
        for name in ("full", "diag", "spherical")
    }
    var = {name: np.ravel(covariances(name, p, K, 1)) for name, p in found.items()}
    np.testing.assert_allclose(var["diag"], var["full"], rtol=1e-10)
    np.testing.assert_allclose(var["spherical"], var["full"], rtol=1e-10)
    scores = [FAMILIES[name]().log_prob(p, X) for name, p in found.items()]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-9)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-9)


def _one_column(name):
    full = random_params("full", K, 1)
    var = full["cov"][:, :, 0]
    return {
        "full": full,
        "diag": {"mean": full["mean"], "var": var},
        "spherical": {"mean": full["mean"], "var": var[:, 0]},
    }[name]


@pytest.mark.parametrize("d", [2, 5])
def test_tied_with_one_component_is_full_with_one(d):
    X = RNG.normal(size=(48, d)) @ RNG.normal(size=(d, d))
    full, *_ = m_step("full", X, k=1, ridge=0.1)
    tied, *_ = m_step("tied", X, k=1, ridge=0.1)
    np.testing.assert_allclose(tied["mean"], full["mean"], atol=1e-12)
    np.testing.assert_allclose(tied["cov"], full["cov"][0], rtol=1e-10)


def test_samples_have_the_moments_of_their_component(name):
    params, n = random_params(name, K, 3), 60_000
    z = jnp.arange(n) % K
    X = np.asarray(FAMILIES[name]().sample(jax.random.key(1), params, z))
    assert X.shape == (n, 3)
    cov = covariances(name, params, K, 3)
    for j in range(K):
        rows = X[j::K]
        sd = np.sqrt(np.diagonal(cov[j]) / len(rows))
        np.testing.assert_array_less(np.abs(rows.mean(axis=0) - params["mean"][j]), 4.5 * sd)
        np.testing.assert_allclose(np.cov(rows.T), cov[j], atol=0.05 * np.trace(cov[j]))


@pytest.mark.parametrize("d", [2, 5])
def test_units_round_trip_and_change_of_variables(name, d):
    family, params = FAMILIES[name](), random_params(name, K, d)
    shift = 100 * RNG.normal(size=d)
    scale = np.full(d, 4.0) if name == "spherical" else RNG.uniform(0.1, 9, d)
    outer = family.in_units(params, shift, scale)
    assert_close(family.in_units(outer, -shift / scale, 1 / scale), params, 1e-11)
    draws = {n: np.stack([[v, 2 * v, v]]) for n, v in params.items()}  # (1, 3, ..)
    behind = {n: v[0, 0] for n, v in family.in_units(draws, shift, scale).items()}
    assert_close(behind, outer, 1e-12)
    X = 3 * RNG.normal(size=(10, d))
    np.testing.assert_allclose(
        family.log_prob(outer, X * scale + shift),
        family.log_prob(params, X) - np.log(scale).sum(),
        rtol=1e-7,
        atol=1e-7,
    )


@pytest.mark.parametrize("d", slowly(DIMS, {1, 3, 35}))
def test_tail_probability_is_that_of_chi_square(name, d):
    params = random_params(name, K, d)
    X = 3 * RNG.normal(size=(20, d))
    family, prepared, _ = prepared_and_scores(name, params, X)
    found = family.tail_probability(prepared, X.T)
    gap = X - params["mean"][:, None]
    inverse = np.linalg.inv(covariances(name, params, K, d))
    distance = np.einsum("kni,kij,knj->kn", gap, inverse, gap)
    np.testing.assert_allclose(found, stats.chi2.sf(distance, d), rtol=1e-6, atol=1e-12)
    at_mean = family.tail_probability(prepared, params["mean"].T)
    np.testing.assert_allclose(np.diagonal(at_mean), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "count"),
    [(FullGaussian, 27), (TiedGaussian, 15), (DiagonalGaussian, 18), (SphericalGaussian, 12)],
)
def test_free_parameters(family, count):
    assert family().n_parameters(3, 3) == count


@pytest.mark.parametrize("ridge", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_and_collinear_columns_stay_finite_and_are_counted(name, ridge, dtype):
    column = np.random.default_rng(0).normal(size=(48, 1))
    degenerate = {
        "constant": np.hstack([column, np.zeros((48, 1))]),
        "collinear": np.hstack([column, 2 * column]),
        "one point": np.zeros((48, 2)),
    }
    counted = {
        "full": {"constant", "collinear", "one point"},
        "tied": {"constant", "collinear", "one point"},
        "diag": {"constant", "one point"},
        "spherical": {"one point"},
    }[name]
    with jax.enable_x64(dtype == "float64"):
        start = random_params(name, K, 2, dtype=dtype)
        start["mean"] = np.zeros_like(start["mean"])
        for what, X in degenerate.items():
            params, floored, _ = m_step(name, X.astype(dtype), params=start, ridge=ridge)
            family = FAMILIES[name](ridge)
            for value in (*jax.tree.leaves(params), family.log_prob(params, X.astype(dtype))):
                assert np.isfinite(value).all(), what
            if ridge:
                assert bool(np.all(floored)) == (what in counted), what
            if name in ("full", "tied"):
                assert (np.linalg.eigvalsh(np.asarray(params["cov"], float)) >= -1e-6).all()


def test_the_floor_is_relative_to_the_spread_of_each_column():
    X = np.zeros((48, 2))
    spread = np.array([2.0, 30.0])
    for name in FAMILIES:
        params, floored, _ = m_step(name, X, ridge=0.01, spread=spread)
        cov = covariances(name, params, K, 2)
        own = np.array([0.04, 9.0]) if name != "spherical" else np.full(2, 4.52)
        np.testing.assert_allclose(np.diagonal(cov[0]), own, rtol=1e-9)
        assert np.asarray(floored).all()


def test_a_component_without_rows_stays_where_it_was(name):
    family, params = FAMILIES[name](), random_params(name, K, 2)
    X = RNG.normal(size=(48, 2))
    resp = np.zeros((K, 48))
    resp[0] = 1
    moments = family.stats(family.prepare(params), jnp.asarray(X.T), resp)
    found = family.maximise(params, moments, family.constants(packed(X)))
    np.testing.assert_allclose(found["mean"][0], X.mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(found["mean"][1:], params["mean"][1:])
    if name != "tied":
        np.testing.assert_allclose(
            covariances(name, found, K, 2)[1:], covariances(name, params, K, 2)[1:], rtol=1e-9
        )


def test_components_located_at_centres_are_as_wide_as_the_data(name):
    spread = np.array([2.0, 5.0])
    family = FAMILIES[name]().scaled_to(spread)
    assert float(family.ridge) == 1e-6
    centers = jnp.asarray(RNG.normal(size=(K, 2)))
    params = family.located(centers)
    assert set(params) == set(family.dims)
    assert all(v.ndim == len(family.dims[p]) for p, v in params.items())
    expected = np.diag([4.0, 25.0]) if name != "spherical" else 14.5 * np.eye(2)
    cov = covariances(name, params, K, 2)
    np.testing.assert_allclose(cov, np.broadcast_to(expected, cov.shape))
    np.testing.assert_array_equal(params["mean"], centers)
    np.testing.assert_array_equal(family.log_prior(params), np.zeros(K))


def test_cancellation_says_how_much_of_a_row_rounding_takes(name):
    params = random_params(name, K, 2)
    family = FAMILIES[name]()
    near, far = (
        family.cancellation(params),
        family.cancellation({**params, "mean": params["mean"] + 1e5}),
    )
    assert float(far) > 1e3 * float(near)
    # In float32 the error of the score is of the size it says.
    with jax.enable_x64(False):
        moved = {p: np.float32(v) for p, v in params.items()}
        moved["mean"] = np.float32(params["mean"] + 300)
        X = (moved["mean"] + RNG.normal(size=(50, K, 2)).astype(np.float32)).reshape(-1, 2)
        rough = np.asarray(family.log_prob(moved, X), float)
        bound = np.finfo(np.float32).eps * float(family.cancellation(moved))
    exact = np.asarray(family.log_prob({p: v.astype(float) for p, v in moved.items()}, X * 1.0))
    close = np.abs(exact) < 50
    assert close.any()
    assert np.abs(rough - exact)[close].max() < 20 * bound + 1e-4


def test_a_thin_direction_counts_as_floored_whichever_way_it_points():
    # Nearly collinear, no column near constant.
    cov = jnp.array([[1.0, 1.0], [1.0, 1.0 + 1e-7]])
    assert float(cholesky(cov)[1, 1]) ** 2 < 2e-7
    X = np.random.default_rng(0).multivariate_normal([0, 0], cov, 48, method="svd")
    start = {"mean": np.zeros((K, 2)), "cov": np.broadcast_to(np.eye(2), (K, 2, 2))}
    _, floored, _ = m_step("full", X, params=start, ridge=1e-5)
    assert np.asarray(floored).all()
    _, free, _ = m_step("full", X, params=start, ridge=1e-10)
    assert not np.asarray(free).any()


def test_plain_units_change_nothing():
    X, _ = blobs(10)
    np.testing.assert_array_equal(plain(2).inward(X), X)


@pytest.mark.parametrize("d", [1, 2, 3, 8, 15, 32, 33])
def test_the_tail_is_that_of_chi_squared(d):
    square = np.concatenate([[0.0], np.geomspace(1e-3, 200, 60)])
    with jax.enable_x64():
        found = gaussian.chi2_tail(jnp.asarray(-0.5 * square)[None], jnp.zeros(1), d)[0]
    np.testing.assert_allclose(found, stats.chi2(d).sf(square), rtol=1e-9)
