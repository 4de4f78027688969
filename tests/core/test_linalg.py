"""Linear algebra of blocks, written out for few columns or not, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesclust.core import linalg
from bayesclust.core.simplex import entropy, log_normalize
from tests.problems import slowly

DIMS = [1, 2, 3, 4, 5, 8, 16, 17, 40]
RNG = np.random.default_rng(0)
factorise, invert = jax.jit(linalg.cholesky), jax.jit(linalg.inverse_lower)


def covariances(d, k=3):
    a = RNG.normal(size=(k, d, d))
    return a @ a.swapaxes(1, 2) + 0.1 * np.eye(d)


@pytest.mark.parametrize("d", slowly(DIMS, {1, 3, 17}))
def test_cholesky_and_its_inverse(d):
    with jax.enable_x64():
        a = covariances(d)
        factor = factorise(a)
        np.testing.assert_allclose(factor, np.linalg.cholesky(a), atol=1e-13)
        inverse = invert(factor)
        np.testing.assert_allclose(inverse, np.linalg.inv(np.asarray(factor)), atol=1e-11)
        np.testing.assert_array_equal(np.triu(inverse, 1), 0)


@pytest.mark.parametrize("d", slowly(DIMS, {1, 3, 17}))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_matrices_still_have_a_factor(d, dtype):
    v = RNG.normal(size=(d, 1))
    bad = np.stack([v @ v.T, np.zeros((d, d)), 1e-30 * np.ones((d, d)), covariances(d)[0]])
    with jax.enable_x64(dtype == "float64"):
        a = bad.astype(dtype)
        factor = np.asarray(factorise(a))
        assert np.isfinite(factor).all()
        assert (np.diagonal(factor, axis1=1, axis2=2) > 0).all()
        assert np.isfinite(invert(factor)).all()
        # The factor is that of the matrix, but for a small rise of the diagonal.
        rise = factor @ factor.swapaxes(1, 2) - a
        size = np.abs(a).max(axis=(1, 2), keepdims=True)
        size = np.where(size > 0, size, 1)
        np.testing.assert_array_less(np.abs(rise) / size, 300 * np.finfo(dtype).eps)
        # A good matrix beside bad ones is left as it is.
        np.testing.assert_array_equal(factor[3], np.asarray(factorise(a[3:]))[0])


def test_large_inverses_call_no_library_that_starts_threads():
    text = invert.lower(np.eye(40, dtype=np.float32)[None]).as_text()
    operands = [line for line in text.splitlines() if "trsm" in line or "triangular_solve" in line]
    assert operands  # the blocks on the diagonal are solved by it
    assert not any("40x40" in line or "48x48" in line for line in operands)


@pytest.mark.parametrize("d", [2, 5, 20])
def test_slopes_of_the_inverse(d):
    with jax.enable_x64():
        lower, way = np.linalg.cholesky(covariances(d, 2)), np.tril(RNG.normal(size=(2, d, d)))
        found, slope = jax.jvp(jax.vmap(linalg.inverse_lower), (lower,), (way,))
        # d(L^-1) = -L^-1 dL L^-1
        np.testing.assert_allclose(slope, -found @ way @ found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_slopes_of_the_factor(d):
    with jax.enable_x64():
        a = covariances(d, 1)[0]
        way = RNG.normal(size=(d, d))
        way = way + way.T
        _, slope = jax.jvp(linalg.cholesky, (a,), (way,))
        step = 1e-6
        expected = linalg.cholesky(a + step * way) - linalg.cholesky(a - step * way)
        np.testing.assert_allclose(slope, expected / (2 * step), rtol=1e-6, atol=1e-7)
        up = RNG.normal(size=(d, d))
        back = jax.grad(lambda a: jnp.sum(up * linalg.cholesky(a)))(a)
        np.testing.assert_allclose(np.sum(back * way), np.sum(up * slope), rtol=1e-10)


@pytest.mark.parametrize("d", [1, 3, 8, 9])
def test_distances(d):
    x, centers = RNG.normal(size=(d, 20)), RNG.normal(size=(4, d))
    with jax.enable_x64():
        expected = np.square(centers[:, :, None] - x).sum(axis=1)
        np.testing.assert_allclose(linalg.squared_distance(x, jnp.asarray(centers)), expected)
        for direct in (True, False):
            half = linalg.half_squared_distance(x, jnp.asarray(centers), direct=direct)
            gap = 2 * np.asarray(half) - expected + (0 if direct else np.square(x).sum(axis=0))
            np.testing.assert_allclose(gap, 0, atol=1e-12)


def test_outer_sum():
    a, b = RNG.normal(size=(3, 20)), RNG.normal(size=(2, 20))
    with jax.enable_x64():
        np.testing.assert_allclose(linalg.outer_sum(a, b), a @ b.T)


def test_log_normalize_keeps_inactive_components():
    log_p = jnp.array([[-jnp.inf, 1000.0, 1000.0], [-2000.0, -jnp.inf, -jnp.inf]])
    np.testing.assert_allclose(np.exp(log_normalize(log_p)), [[0, 0.5, 0.5], [1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_normalize(jnp.zeros((3, 2)), axis=0)), 1 / 3, rtol=1e-6)


def test_entropy():
    p = jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
    np.testing.assert_allclose(entropy(p), [np.log(2), 0, 1.5 * np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(entropy(jnp.full((4, 2), 0.25), axis=0), np.log(4), rtol=1e-6)


@pytest.mark.parametrize("k, d", [(3, 2), (40, 5), (40, 13), (40, 16), (20, 130), (5, 130)])
def test_rows_are_added_to_the_sums_of_their_labels(k, d):
    """By one product and row by row, widened to whole vectors and not."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, d, 50)), rng.exponential(size=(2, 50))
    label = rng.integers(0, k, (2, 50))
    found = linalg.no_tally(k, d, np.float32)
    for own in zip(x.astype(np.float32), weight.astype(np.float32), label, strict=True):
        found = linalg.tally(found, *own)
    sums, counts = linalg.tallied(found, d)
    wanted = np.zeros((k, d)), np.zeros(k)
    for own, w, z in zip(x, weight, label, strict=True):
        np.add.at(wanted[0], z, (w * own).T)
        np.add.at(wanted[1], z, w)
    np.testing.assert_allclose(sums, wanted[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(counts, wanted[1], rtol=1e-5)
