"""Gamma draws have the gamma distribution, at any shape and under any transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesclust.core.gamma import gamma, log_gamma

KEY = jax.random.key(0)
SHAPES = np.array([0.01, 0.3, 0.999, 1.0, 1.5, 7.0, 300.0, 1e6])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_have_the_distribution(dtype):
    with jax.enable_x64(dtype == "float64"):
        shape = jnp.asarray(np.tile(SHAPES, (20_000, 1)), dtype)
        found = np.asarray(jax.jit(log_gamma)(KEY, shape), np.float64)
    assert np.isfinite(found).all()
    for a, draws in zip(SHAPES, found.T, strict=True):
        # Of the log: that of a shape of 0.01 would underflow.
        assert stats.kstest(draws, stats.loggamma(a).cdf).pvalue > 1e-3, a
    assert abs(np.corrcoef(found.T) - np.eye(len(SHAPES))).max() < 0.05


def test_lanes_of_a_batch_are_those_of_a_loop():
    keys = jax.random.split(KEY, 5)
    shape = jnp.asarray(np.random.default_rng(0).uniform(0.1, 5, size=(5, 4)), jnp.float32)
    batch = jax.vmap(gamma)(keys, shape)
    np.testing.assert_allclose(batch, jnp.stack(list(map(gamma, keys, shape))), rtol=1e-5)
    assert gamma(KEY, jnp.float32(2.0)).shape == ()


def test_what_is_no_shape_gives_nan_and_ends():
    found = gamma(jax.random.key(0), jnp.array([np.nan, -1.0, 0.0, np.inf, 2.0]))
    assert np.isnan(found).tolist() == [True, True, True, True, False]
