"""Dirichlet weights: the mode is one, the density is NumPyro's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist

from bayesclust.weights import Dirichlet

COUNTS = np.array([3.0, 0.5, 12.0])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64():
        yield


def test_flat_prior_gives_the_shares():
    np.testing.assert_allclose(np.exp(Dirichlet().mode(COUNTS)), COUNTS / COUNTS.sum())


@pytest.mark.parametrize("concentration", [1.0, 2.5, 0.7, np.array([1.0, 5.0, 2.0])])
def test_mode_is_the_greatest_of_the_posterior(concentration):
    prior = Dirichlet(concentration)

    def posterior(log_weights):
        return float(COUNTS @ log_weights + prior.log_prior(log_weights))

    mode = prior.mode(COUNTS)
    np.testing.assert_allclose(np.exp(mode).sum(), 1)
    for seed in range(20):
        way = 0.05 * np.random.default_rng(seed).normal(size=3)
        assert posterior(jax.nn.log_softmax(mode + way)) < posterior(mode)


@pytest.mark.parametrize("concentration", [1.0, 2.5, np.array([0.3, 5.0, 2.0])])
def test_log_prior_is_that_of_numpyro_up_to_a_constant(concentration):
    prior, full = Dirichlet(concentration), np.broadcast_to(concentration, 3)
    w = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    gap = jax.vmap(prior.log_prior)(np.log(w)) - dist.Dirichlet(full).log_prob(w)
    np.testing.assert_allclose(gap, gap[0], atol=1e-10)


def test_below_one_the_mode_empties_components():
    mode = Dirichlet(0.2).mode(COUNTS)
    assert mode[1] == -jnp.inf
    np.testing.assert_allclose(np.exp(mode).sum(), 1)


def test_an_inactive_component_has_no_say_under_a_flat_prior():
    assert float(Dirichlet().log_prior(jnp.array([-jnp.inf, 0.0]))) == 0


def test_a_prior_that_would_empty_everything_is_left_out():
    counts = np.array([0.5, 0.4, 0.1])
    np.testing.assert_allclose(np.exp(Dirichlet(0.1).mode(counts)), counts)
