"""Quantiles by bisection are NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bayesclust.core.quantile import quantiles

found = jax.jit(quantiles)
LEVELS = np.array([0.0, 0.05, 0.5, 0.95, 1.0])


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (7, 3), elements=st.floats(0, 1, width=32)),
)
def test_they_are_numpys(p):
    expected = np.quantile(p.astype(np.float64), LEVELS, axis=0)
    np.testing.assert_allclose(found(p, LEVELS.astype("float32")), expected, atol=5e-7)


@pytest.mark.parametrize("s", [2, 3, 1000])
def test_double_precision_keeps_small_probabilities(s):
    with jax.enable_x64():
        p = np.random.default_rng(s).beta(0.1, 0.1, size=(s, 2, 4)) * [1.0, 1e-30, 1.0, 1e-200]
        expected = np.quantile(p, LEVELS, axis=0)
        np.testing.assert_allclose(found(jnp.asarray(p), LEVELS), expected, rtol=1e-10, atol=1e-16)
