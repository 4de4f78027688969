"""Variational inference: scikit-learn's updates, a bound that climbs, mini-batches that agree."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import BayesianGaussianMixture

from bayesclust import BayesianMixture
from bayesclust.engines import CAVI, Given, KMeansStart
from bayesclust.engines.base import pose
from bayesclust.engines.em import numbers_per_row
from bayesclust.engines.record import informed
from bayesclust.families import (
    IndependentNormalWishart,
    NormalInverseGamma,
    NormalInverseWishart,
)
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet
from tests.families.test_conjugate import PRIORS
from tests.problems import FAMILIES, KEY, blobs, packed, plain, random_params

K, D = 3, 2
X = blobs(200, D, K, separation=2.0)[0]


@pytest.fixture
def double_precision():
    with jax.enable_x64():
        yield


def state_of(engine, mixture, start):
    """The fitted posterior itself, in the units of the rows."""
    problem = pose(X, None, plain(D), numbers_per_row(mixture.k, D))
    model = informed(mixture, problem)
    return engine._fit(KEY, model, problem, start)[0]


def peer(prior, concentration, resp, max_iter):
    """scikit-learn's fit from the same responsibilities."""
    model = BayesianGaussianMixture(
        n_components=K,
        covariance_prior=np.asarray(prior.scale),
        mean_prior=prior.mean,
        mean_precision_prior=prior.strength,
        degrees_of_freedom_prior=float(prior.df),
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=concentration,
        reg_covar=0,
        tol=0,
        max_iter=max_iter,
    )
    model._initialize_parameters = lambda X, *args, **kwargs: model._initialize(X, resp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X)


@pytest.mark.parametrize("max_iter", [1, 20])
def test_steps_are_scikit_learns(max_iter, double_precision):
    """Of full covariances; its diagonal ones have degrees of freedom of a Wishart matrix."""
    prior = NormalInverseWishart(np.zeros(D), 0.5, 5.0, 1.3 * np.eye(D))
    params = random_params("full", K, D)
    log_weights = np.log(np.full(K, 1 / K))
    mixture = Mixture(FAMILIES["full"](prior=prior), K, Dirichlet(0.3))
    # The first of our sweeps makes the responsibilities that theirs begins with.
    engine = CAVI(tol=0.0, max_iter=max_iter + 1)
    state = state_of(engine, mixture, Given(params, log_weights))
    resp = np.asarray(mixture.responsibilities(params, log_weights, X))
    theirs = peer(prior, 0.3, resp, max_iter)
    np.testing.assert_allclose(state.hyper.mean, theirs.means_, atol=1e-6)
    np.testing.assert_allclose(state.params["cov"], theirs.covariances_, atol=1e-6)
    np.testing.assert_allclose(state.hyper.strength, theirs.mean_precision_, atol=1e-6)
    np.testing.assert_allclose(state.counts + 0.3, theirs.weight_concentration_, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_bound_climbs(name):
    mixture = Mixture(FAMILIES[name](prior=PRIORS[name]), K, Dirichlet(0.5))
    draws = CAVI(tol=0.0, max_iter=60, num_draws=4).run(KEY, mixture, X)
    trace = draws.trace[0]
    trace = trace[np.isfinite(trace)]
    assert len(trace) == 59
    assert (np.diff(trace) > -1e-12 * np.abs(trace[-1])).all()
    assert trace[-1] > trace[0]


def test_one_component_has_the_exact_evidence(double_precision):
    """Without labels nothing is approximated: the bound is the evidence."""
    rows = X[:12, :1]
    prior = NormalInverseGamma(np.array([0.3]), 0.7, 2.0, np.array([1.5]))
    mixture = Mixture(FAMILIES["diag"](prior=prior), 1)
    draws = CAVI(num_draws=2).run(KEY, mixture, rows)

    # The evidence as a chain of predictive densities, Student's t each.
    mean, strength, shape, rate, evidence = 0.3, 0.7, 2.0, 1.5, 0.0
    for x in rows[:, 0]:
        scale = np.sqrt(rate * (strength + 1) / (shape * strength))
        evidence += stats.t(2 * shape, mean, scale).logpdf(x)
        rate += 0.5 * strength * (x - mean) ** 2 / (strength + 1)
        mean = (strength * mean + x) / (strength + 1)
        strength, shape = strength + 1, shape + 0.5
    np.testing.assert_allclose(draws.stats["bound"][0, 0], evidence, rtol=1e-10)


@pytest.mark.slow
def test_draws_have_the_moments_of_the_posterior(double_precision):
    mixture = Mixture(FAMILIES["full"](prior=PRIORS["full"]), K, Dirichlet(0.5))
    engine = CAVI(num_draws=4000)
    draws = engine.run(KEY, mixture, X, units=plain(D))
    problem = pose(X, None, plain(D), numbers_per_row(K, D))
    key_fit, _ = jax.random.split(KEY)
    state, _, _ = engine._fit(key_fit, informed(mixture, problem), problem, KMeansStart())
    error = np.asarray(draws.params["mean"][0]).std(0) / np.sqrt(4000)
    gap = np.abs(np.asarray(draws.params["mean"][0]).mean(0) - state.hyper.mean)
    assert (gap < 5 * error).all()
    share = np.asarray(state.counts) + 0.5
    np.testing.assert_allclose(np.exp(draws.log_weights[0]).mean(0), share / share.sum(), atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_mini_batches_come_to_the_same_posterior(name):
    rows = blobs(1000, D, K, separation=5.0)[0]
    mixture = Mixture(FAMILIES[name](prior=PRIORS[name]), K)
    whole = CAVI(num_draws=2).run(KEY, mixture, rows)
    parts = CAVI(num_draws=2, batch_size=100, max_iter=40, tol=1e-7).run(KEY, mixture, rows)
    gap = (whole.stats["bound"] - parts.stats["bound"])[0, 0]
    assert -1e-6 < gap < 0.002 * len(rows)


def test_blends_move_natural_parameters_in_a_line(double_precision):
    """Half way between the posteriors of two sets lies that of half of each."""
    for name in FAMILIES:
        family = FAMILIES[name](prior=PRIORS[name])
        params = family.located(jnp.asarray(X[:K]))
        prepared = family.prepare(params)
        resp = jnp.eye(K)[np.arange(20) % K].T

        def posterior(rows, weight, family=family, params=params, prepared=prepared, resp=resp):
            constants = family.constants(packed(rows, np.full(20, weight), block=20))
            return family.posterior(
                params, family.stats(prepared, jnp.asarray(rows.T), weight * resp), constants
            )

        one, other = X[:20], X[20:40] + 1
        half = family.blend(posterior(one, 1.0), posterior(other, 1.0), 0.5)
        both = jax.tree.map(
            lambda a, b: a + b,
            family.stats(prepared, jnp.asarray(one.T), 0.5 * resp),
            family.stats(prepared, jnp.asarray(other.T), 0.5 * resp),
        )
        rows = np.concatenate([one, other])
        constants = family.constants(packed(rows, np.full(40, 0.5), block=40))
        expected = family.posterior(params, both, constants)
        for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.slow
def test_weight_two_is_the_row_twice():
    mixture = Mixture(FAMILIES["full"](prior=PRIORS["full"]), K)
    start = Given(random_params("full", K, D), np.log(np.full(K, 1 / K)))
    weight = 1.0 + (np.arange(len(X)) % 2)
    engine = CAVI(num_draws=2, tol=1e-10)
    one = engine.run(KEY, mixture, X, sample_weight=weight, start=start, units=plain(D))
    other = engine.run(KEY, mixture, np.concatenate([X, X[1::2]]), start=start, units=plain(D))
    np.testing.assert_allclose(one.stats["bound"], other.stats["bound"], rtol=1e-8)


def test_a_prior_that_is_not_conjugate_is_refused():
    mixture = Mixture(FAMILIES["full"](prior=IndependentNormalWishart()), 2)
    with pytest.raises(ValueError, match=r"CAVI cannot fit.*IndependentNormalWishart.*Gibbs"):
        CAVI().run(KEY, mixture, X)
    model = BayesianMixture(2, prior="hierarchical", engine="cavi")
    with pytest.raises(ValueError, match="use one of"):
        model.fit(X)
