"""A mixture: its densities are NumPyro's, its probabilities sum to one, its samples follow it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist

from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet
from tests.problems import FAMILIES, KEY, covariances, random_params

K, D = 3, 2
X = 4 * np.random.default_rng(0).normal(size=(200, D))
LOG_WEIGHTS = np.log([0.2, 0.5, 0.3])


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def test_density_is_that_of_numpyro(name):
    with jax.enable_x64():
        params = random_params(name, K, D)
        components = dist.MultivariateNormal(params["mean"], covariances(name, params, K, D))
        expected = dist.MixtureSameFamily(dist.Categorical(logits=LOG_WEIGHTS), components)
        mixture = Mixture(FAMILIES[name](), K)
        found = mixture.log_density(params, LOG_WEIGHTS, X)
        np.testing.assert_allclose(found, expected.log_prob(X), rtol=1e-9)
        joint = mixture.log_joint(params, LOG_WEIGHTS, X)
        np.testing.assert_allclose(np.logaddexp.reduce(joint, axis=1), found, rtol=1e-12)
        resp = mixture.responsibilities(params, LOG_WEIGHTS, X)
        np.testing.assert_allclose(resp, np.exp(joint - found[:, None]), atol=1e-12)


@pytest.mark.parametrize("far", [1, 1e3, 1e6])
def test_responsibilities_sum_to_one_in_float32_however_far_the_row(name, far):
    params = random_params(name, K, D, dtype="float32")
    resp = Mixture(FAMILIES[name](), K).responsibilities(
        params, LOG_WEIGHTS.astype(np.float32), (far * X).astype(np.float32)
    )
    assert np.isfinite(resp).all()
    np.testing.assert_allclose(resp.sum(axis=1), 1, rtol=1e-6)


def test_an_inactive_component_is_as_if_absent(name):
    with jax.enable_x64():
        params = random_params(name, K, D)
        log_weights = np.array([np.log(0.4), -np.inf, np.log(0.6)])
        mixture = Mixture(FAMILIES[name](), K)
        dims = mixture.family.dims
        two = {p: v[[0, 2]] if dims[p][0] == "cluster" else v for p, v in params.items()}
        pair = Mixture(FAMILIES[name](), 2)
        np.testing.assert_allclose(
            mixture.log_density(params, log_weights, X),
            pair.log_density(two, log_weights[[0, 2]], X),
        )
        resp = mixture.responsibilities(params, log_weights, X)
        assert (resp[:, 1] == 0).all()
        np.testing.assert_allclose(
            resp[:, [0, 2]], pair.responsibilities(two, log_weights[[0, 2]], X)
        )
        _, z = mixture.sample(KEY, params, log_weights, 500)
        assert set(z.tolist()) == {0, 2}
        slope = jax.grad(lambda p: mixture.log_density(p, log_weights, X).sum())(params)
        assert all(np.isfinite(v).all() for v in slope.values())
        assert not np.asarray(slope["mean"][1]).any()


def test_samples_follow_weights_and_components(name):
    n = 30_000
    params = random_params(name, K, D, dtype="float32")
    mixture = Mixture(FAMILIES[name](), K)
    rows, z = mixture.sample(KEY, params, LOG_WEIGHTS.astype(np.float32), n)
    assert rows.shape == (n, D)
    share = np.bincount(z, minlength=K) / n
    p = np.exp(LOG_WEIGHTS)
    np.testing.assert_array_less(np.abs(share - p), 4.5 * np.sqrt(p * (1 - p) / n))
    for j in range(K):
        np.testing.assert_allclose(rows[z == j].mean(axis=0), params["mean"][j], atol=0.1)
    # A right density is calibrated: the average responsibility is the weight.
    resp = mixture.responsibilities(params, LOG_WEIGHTS.astype(np.float32), rows)
    np.testing.assert_allclose(resp.mean(axis=0), p, atol=0.02)


def test_log_prior_adds_family_and_weights():
    params = random_params("full", K, D, dtype="float32")
    flat, peaked = (Mixture(FAMILIES["full"](), K, Dirichlet(c)) for c in (1.0, 3.0))
    log_weights = jnp.asarray(LOG_WEIGHTS, jnp.float32)
    assert float(flat.log_prior(params, log_weights)) == 0
    np.testing.assert_allclose(
        peaked.log_prior(params, log_weights), 2 * LOG_WEIGHTS.sum(), rtol=1e-6
    )
