"""Fits are functions: they live inside the user's own jit, vmap and grad, in either precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesclust import kmeans
from bayesclust.engines import EM, Bootstrap, Lloyd, SeededStart
from bayesclust.mixture import Mixture
from tests.problems import FAMILIES, KEY, assert_close, blobs, random_params, slowly

N, K, D = 120, 3, 2
KEYS = jax.random.split(KEY, 3)
SETS = np.stack([blobs(N, D, K, seed=s, separation=2.0)[0] for s in range(3)])


def found_by_kmeans(key, X, weight=None):
    found = kmeans.fit(key, X, K, sample_weight=weight, n_init=2, max_iter=50)
    names = ("centers", "labels", "counts", "inertia", "n_steps", "converged", "trace")
    return {name: getattr(found, name) for name in names}


def found_by_em(key, X, weight=None, name="full"):
    mixture = Mixture(FAMILIES[name](), K)
    engine = EM(max_iter=50, n_init=2)
    draws = engine.run(key, mixture, X, sample_weight=weight, start=SeededStart())
    return {**draws.params, "log_weights": draws.log_weights, **draws.stats, "trace": draws.trace}


FITS = {"kmeans": found_by_kmeans, "em": found_by_em}


JITTED = {name: jax.jit(call) for name, call in FITS.items()}


@pytest.fixture(params=slowly(FITS, {"em"}))
def fits(request):
    """A fit, and the same jitted by the user, in double precision."""
    with jax.enable_x64():
        yield FITS[request.param], JITTED[request.param]


def test_jit_gives_what_the_host_gives(fits):
    call, jitted = fits
    for X in SETS[:2]:
        assert_close(jax.device_get(jitted(KEY, X)), call(KEY, X), 1e-9)


def test_jit_takes_weights(fits):
    call, jitted = fits
    weight = np.arange(N) % 4.0
    inside = jax.device_get(jitted(KEY, SETS[0], weight))
    assert_close(inside, call(KEY, SETS[0], weight), 1e-9)
    plain = jitted(KEY, SETS[0])
    key = "centers" if "centers" in plain else "mean"
    assert np.abs(plain[key] - inside[key]).max() > 1e-3


def test_vmap_over_keys_is_a_loop(fits):
    call, jitted = fits
    many = jax.jit(jax.vmap(call, in_axes=(0, None)))(KEYS, SETS[0])
    loop = jax.tree.map(lambda *v: np.stack(v), *[jitted(key, SETS[0]) for key in KEYS])
    assert_close(many, loop, 1e-9)


def test_vmap_over_keys_takes_rows_of_the_host(fits):
    call, _ = fits
    many = jax.vmap(lambda key: call(key, SETS[0]))(KEYS)
    loop = jax.tree.map(lambda *v: np.stack(v), *[call(key, SETS[0]) for key in KEYS])
    assert_close(many, loop, 1e-9)


def test_vmap_over_data_sets_is_a_loop(fits):
    call, jitted = fits
    many = jax.jit(jax.vmap(call, in_axes=(None, 0)))(KEY, SETS)
    loop = jax.tree.map(lambda *v: np.stack(v), *[jitted(KEY, X) for X in SETS])
    assert_close(many, loop, 1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_of_the_log_density_is_its_slope(name):
    with jax.enable_x64():
        mixture = Mixture(FAMILIES[name](), K)
        params = random_params(name, K, D)
        log_weights = np.log([0.2, 0.5, 0.3])
        X = SETS[0][:5]

        @jax.jit
        def total(params, log_weights, X):
            return jnp.sum(mixture.log_density(params, log_weights, X))

        args = (params, log_weights, X)
        slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*args)
        step = 1e-6
        for i, slope in enumerate(jax.tree.leaves(slopes)):
            leaves, tree = jax.tree.flatten(args)
            way = np.random.default_rng(i).normal(size=leaves[i].shape)
            if leaves[i].ndim > 1 and leaves[i].shape[-2:] == (D, D) and i == 0:
                way = way + way.swapaxes(-1, -2)  # a covariance stays symmetric

            def at(t, leaves=leaves, tree=tree, way=way, i=i):
                moved = [*leaves[:i], leaves[i] + t * way, *leaves[i + 1 :]]
                return float(total(*jax.tree.unflatten(tree, moved)))

            expected = (at(step) - at(-step)) / (2 * step)
            np.testing.assert_allclose(np.sum(slope * way), expected, rtol=1e-6, atol=1e-6)


def test_a_whole_fit_has_a_forward_derivative_in_its_data():
    # A partition is constant near almost every data set; its means move with their rows.
    with jax.enable_x64():
        X = jnp.asarray(SETS[0])
        labels = np.asarray(kmeans.fit(KEY, X, K).labels)
        way = np.random.default_rng(0).normal(size=X.shape)
        _, slope = jax.jvp(lambda X: kmeans.fit(KEY, X, K).centers, (X,), (jnp.asarray(way),))
        expected = [way[labels == j].mean(axis=0) for j in range(K)]
        np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_a_whole_fit_has_no_reverse_derivative():
    # Its loop runs until it is done, so it cannot be run backwards; the pages say so.
    with pytest.raises(ValueError, match="Reverse-mode differentiation"):
        jax.grad(lambda X: kmeans.fit(KEY, X, K).inertia)(jnp.asarray(SETS[0], jnp.float32))


# ------------------------------------------------------------------------------------ precision


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_leaves_the_precision_switch_alone(dtype):
    assert not jax.config.jax_enable_x64
    X = SETS[0].astype(dtype)
    mixture = Mixture(FAMILIES["spherical"](), K)
    kmeans.fit(KEY, X, K)
    kmeans.assign(X, X[:K])
    EM(max_iter=5).run(KEY, mixture, X)
    Bootstrap(Lloyd(), num_draws=4).run(KEY, mixture, X)
    assert not jax.config.jax_enable_x64
    assert jnp.zeros(1).dtype == jnp.float32


def test_the_dtype_of_a_clustering_is_that_of_its_rows():
    for dtype in ("float32", "float64"):
        found = kmeans.fit(KEY, SETS[0].astype(dtype), K, history=True)
        for name in ("centers", "counts", "inertia", "objectives", "trace", "history"):
            assert getattr(found, name).dtype == dtype, name
        assert found.labels.dtype == np.int32


def test_double_precision_in_gives_double_precision_out():
    X = SETS[0]
    found = kmeans.fit(KEY, X, K, tol=0)
    means = np.stack([X[found.labels == j].mean(axis=0) for j in range(K)])
    np.testing.assert_allclose(found.centers, means, rtol=0, atol=1e-14)
    exact = np.square(X - means[found.labels]).sum()
    np.testing.assert_allclose(found.inertia, exact, rtol=1e-14)

    draws = EM(max_iter=20).run(KEY, Mixture(FAMILIES["full"](0.0), 1), X)
    np.testing.assert_allclose(draws.params["mean"][0, 0, 0], X.mean(axis=0), atol=1e-14)
    covariance = np.cov(X.T, bias=True)
    np.testing.assert_allclose(draws.params["cov"][0, 0, 0], covariance, rtol=1e-13)


@pytest.mark.slow
def test_single_precision_agrees_with_double_to_single_precision():
    X, _ = blobs(N, D, K)
    seeds = X[:K]
    wide, narrow = (
        (
            kmeans.fit(KEY, rows, K, init=seeds).centers,
            EM().run(KEY, Mixture(FAMILIES["full"](), K), rows).params["cov"],
        )
        for rows in (X, X.astype(np.float32))
    )
    assert_close(narrow, wide, 1e-4)
    assert np.abs(narrow[1] - wide[1]).max() > 1e-12
