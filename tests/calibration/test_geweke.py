"""Geweke's joint test of the Gibbs sampler: alternating parameters and data keeps the prior.

J. Geweke (2004), Getting it right, J. Am. Stat. Assoc. 99, 799-804. A chain that draws data given
parameters and then makes one sweep has the prior as its marginal, if the sweep is right.

All families and faults: ``python -m pytest tests/calibration -m "slow or not slow"``.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesclust.core.rows import pack
from bayesclust.engines import gibbs
from bayesclust.families import (
    Gamma,
    IndependentNormalGamma,
    IndependentNormalWishart,
    NormalInverseGamma,
    NormalInverseWishart,
    Wishart,
)
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet
from tests.problems import FAMILIES, slowly

K, D, N = 2, 2, 6
CHAINS, STEPS = 64, 400
WISHART = NormalInverseWishart(np.array([0.5, -1.0]), 1.5, 9.0, np.array([[2.0, 0.5], [0.5, 1.0]]))
COLUMNS = NormalInverseGamma(np.array([0.5, -1.0]), 1.5, 5.0, np.array([2.0, 1.0]))
SPHERES = dataclasses.replace(COLUMNS, rate=2.0)
PRIORS = {"full": WISHART, "tied": WISHART, "diag": COLUMNS, "spherical": SPHERES}
COV = np.array([[1.0, 0.3], [0.3, 2.0]])
APART = IndependentNormalWishart(WISHART.mean, COV, 9.0, WISHART.scale)
LEARNT = dataclasses.replace(APART, scale=Wishart(6.0, WISHART.scale / 6))
APART_COLUMNS = IndependentNormalGamma(COLUMNS.mean, np.array([1.0, 2.0]), 5.0, COLUMNS.rate)
LEARNT_COLUMNS = dataclasses.replace(APART_COLUMNS, rate=Gamma(4.0, np.array([2.0, 4.0])))
APART_SPHERES = dataclasses.replace(APART_COLUMNS, rate=2.0)
LEARNT_SPHERES = dataclasses.replace(APART_COLUMNS, rate=Gamma(4.0, 2.0))
INDEPENDENT = {
    ("full", "apart"): APART,
    ("full", "learnt"): LEARNT,
    ("tied", "apart"): APART,
    ("tied", "learnt"): LEARNT,
    ("diag", "apart"): APART_COLUMNS,
    ("diag", "learnt"): LEARNT_COLUMNS,
    ("spherical", "apart"): APART_SPHERES,
    ("spherical", "learnt"): LEARNT_SPHERES,
}
WEIGHTS = {
    "fixed": Dirichlet(1.5),
    "by component": Dirichlet(np.array([1.5, 1.5])),
    "unknown": Dirichlet(Gamma(4.0, 2.0)),
}


def quantities(params, log_weights, weights, hyper):
    """What is compared: first and second moments of everything."""
    spread = params["cov"] if "cov" in params else params["var"]
    size = jnp.linalg.slogdet(spread)[1] if "cov" in params else jnp.log(spread)
    mean = params["mean"]
    out = [jnp.mean(mean, 0), jnp.mean(jnp.tanh(mean) ** 2, 0), jnp.mean(size)[None]]
    if "cov" in params:
        out.append(jnp.mean(jnp.tanh(spread[..., 0, 1]))[None])
    out += [jnp.mean(jnp.tanh(size))[None], jnp.sum(jnp.exp(2 * log_weights))[None]]
    out += [jnp.mean(jnp.maximum(log_weights, -5.0))[None]]
    out += [jnp.log(v)[None] for v in weights.values()]
    for v in hyper.values():
        diagonal = jnp.diagonal(v) if v.ndim == 2 else jnp.atleast_1d(v)
        out += [jnp.log(diagonal)] + ([jnp.tanh(v[0, 1])[None]] if v.ndim == 2 else [])
    return jnp.concatenate(out)


def prior_draw(mixture, key):
    key_params, key_weights = jax.random.split(key)
    params, hyper = mixture.family.from_prior(key_params, K)
    log_weights, state = mixture.weights.from_prior(key_weights, K, jnp.float64)
    return params, log_weights, state, hyper


@functools.partial(jax.jit, static_argnames="steps")
def successive(truth, kernel, weight, key, steps):
    """Quantities ``(steps, q)`` of a chain that begins at a prior draw."""
    key_prior, key_chain = jax.random.split(key)
    state = gibbs.GibbsState(key_chain, jnp.int32(0), *prior_draw(truth, key_prior))

    def body(state, i):
        key = jax.random.fold_in(jax.random.fold_in(key_prior, 1), i)
        X, _ = truth.sample(key, state.params, state.log_weights, N)
        rows = pack(X, jnp.full(N, weight), block=16)
        # Weights here are a fault that is planted in the sums, not a number of rows.
        constants = kernel.family.constants(rows)
        state, _ = gibbs.step(kernel, constants, rows, state, weighted=False)
        return state, quantities(state.params, state.log_weights, state.weights, state.family)

    return jax.lax.scan(body, state, jnp.arange(steps))[1]


def z_scores(truth, kernel, weight=1.0, chains=CHAINS, steps=STEPS):
    """Standardised differences of successive-conditional and prior means."""
    keys = jax.random.split(jax.random.key(1), chains)
    found = jax.vmap(lambda key: successive(truth, kernel, weight, key, steps))(keys)
    # Chains are independent and begin at the prior, so their means are a sample.
    chain_means = np.asarray(found.mean(axis=1))
    draws = jax.vmap(lambda key: quantities(*prior_draw(truth, key)))
    prior = np.asarray(jax.jit(draws)(jax.random.split(jax.random.key(2), 100_000)))
    error = chain_means.var(axis=0, ddof=1) / chains + prior.var(axis=0) / len(prior)
    return (chain_means.mean(axis=0) - prior.mean(axis=0)) / np.sqrt(error)


def mixture(family, weights="fixed"):
    return Mixture(FAMILIES[family](prior=PRIORS[family]), K, WEIGHTS[weights])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64():
        yield


@pytest.mark.parametrize("family", slowly(FAMILIES, set()))
def test_the_sampler_keeps_the_prior(family):
    model = mixture(family)
    assert np.abs(z_scores(model, model)).max() < 4.5


@pytest.mark.parametrize("family, form", slowly(INDEPENDENT, {("spherical", "learnt")}))
def test_the_sampler_keeps_independent_priors(family, form):
    prior = INDEPENDENT[family, form]
    model = Mixture(FAMILIES[family](prior=prior), K, WEIGHTS["fixed"])
    assert np.abs(z_scores(model, model)).max() < 4.5


@pytest.mark.parametrize("weights", slowly(["by component", "unknown"], set()))
def test_the_sampler_keeps_the_prior_of_the_weights(weights):
    model = mixture("diag", weights)
    assert np.abs(z_scores(model, model)).max() < 4.5


@pytest.mark.slow
def test_a_hyperprior_counted_twice_is_caught():
    twice = dataclasses.replace(LEARNT_COLUMNS, rate=Gamma(8.0, np.array([2.0, 4.0])))
    model = Mixture(FAMILIES["diag"](prior=LEARNT_COLUMNS), K)
    kernel = Mixture(FAMILIES["diag"](prior=twice), K)
    assert np.abs(z_scores(model, kernel)).max() > 6


FAULTS = {
    "a scale taken for its inverse": lambda m: dataclasses.replace(
        m, family=FAMILIES["full"](prior=dataclasses.replace(
            WISHART, scale=np.linalg.inv(WISHART.scale)))
    ),
    "degrees of freedom off by one": lambda m: dataclasses.replace(
        m, family=FAMILIES["full"](prior=dataclasses.replace(WISHART, df=10.0))
    ),
    "a weight prior off by one": lambda m: dataclasses.replace(m, weights=Dirichlet(2.5)),
}  # fmt: skip


@pytest.mark.parametrize("fault", slowly(FAULTS, {"degrees of freedom off by one"}))
def test_a_wrong_kernel_is_caught(fault):
    model = mixture("full")
    assert np.abs(z_scores(model, FAULTS[fault](model))).max() > 6


def test_a_halved_likelihood_is_caught():
    model = mixture("full")
    assert np.abs(z_scores(model, model, weight=0.5)).max() > 6
