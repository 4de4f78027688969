"""Engines against all labellings of a few rows, listed.

Given labels, rows of Gaussian components are t distributed once means and spreads are integrated
out, with rows of one component correlated; weights leave a Dirichlet-multinomial. So the evidence,
co-clustering and the number of occupied components are known exactly.

All families: ``python -m pytest tests/oracles -m "slow or not slow"``.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from bayesclust.engines import CAVI, Gibbs
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet
from tests.calibration.test_geweke import PRIORS
from tests.problems import FAMILIES, KEY

N, D, K = 7, 2, 3
CONCENTRATION = 1.5
ENGINE = Gibbs(num_warmup=100, num_draws=600, num_chains=32)
X = np.random.default_rng(3).normal(size=(N, D)) * [0.5, 0.4] + [0.5, -1.0]
X[:3] += [0.8, -0.6]


def mixture(name, prior_change=None, k=K, concentration=CONCENTRATION):
    prior = dataclasses.replace(PRIORS[name], **(prior_change or {}))
    return Mixture(FAMILIES[name](prior=prior), k, Dirichlet(concentration))


# -- the oracle: numpy and scipy, and only the numbers of the prior -------------------------------


def log_matrix_t(Y, rows, df, scale):
    """Log density of rows with covariance `rows` among them and IW(df, scale) among columns."""
    n, d = Y.shape
    inner = np.eye(n) + np.linalg.solve(rows, Y) @ np.linalg.solve(scale, Y.T)
    return (
        special.multigammaln((df + n) / 2, d)
        - special.multigammaln(df / 2, d)
        - n * d / 2 * np.log(np.pi)
        - d / 2 * np.linalg.slogdet(rows)[1]
        - n / 2 * np.linalg.slogdet(scale)[1]
        - (df + n) / 2 * np.linalg.slogdet(inner)[1]
    )


def log_marginal(name, prior, X, z):
    """Log density of rows given labels, as far as components share nothing but the spread."""
    Y = X - np.asarray(prior.mean)
    # A mean of its own makes the rows of a component correlated.
    rows = np.eye(len(X)) + (z[:, None] == z) / prior.strength
    if name in ("full", "tied"):
        return log_matrix_t(Y, rows, prior.df, np.asarray(prior.scale))
    df, scale = 2 * prior.shape, np.broadcast_to(prior.rate, X.shape[1]) / prior.shape
    if name == "diag":
        return sum(
            stats.multivariate_t.logpdf(y, shape=s * rows, df=df)
            for y, s in zip(Y.T, scale, strict=True)
        )
    shape = scale[0] * np.kron(rows, np.eye(X.shape[1]))
    return stats.multivariate_t.logpdf(Y.ravel(), shape=shape, df=df)


def log_joint(X, name, prior_change=None, k=K, concentration=CONCENTRATION):
    """All labellings ``(m, n)`` and the log density of each together with the rows ``(m,)``."""
    prior = dataclasses.replace(PRIORS[name], **(prior_change or {}))
    labels = np.array(list(itertools.product(range(k), repeat=len(X))))
    known = {}

    def block(members):
        if members not in known:
            i = np.array(members)
            known[members] = log_marginal(name, prior, X[i], np.zeros(len(i)))
        return known[members]

    def given(z):
        if name == "tied":  # the whole partition at once; its labels do not matter
            first = tuple(int(np.flatnonzero(z == v)[0]) for v in z)
            if first not in known:
                known[first] = log_marginal(name, prior, X, np.array(first))
            return known[first]
        return sum(block(tuple(np.flatnonzero(z == j))) for j in np.unique(z))

    a = np.broadcast_to(np.asarray(concentration, float), k)
    counts = np.stack([(labels == j).sum(axis=1) for j in range(k)], axis=1)
    prior_z = special.gammaln(a.sum()) - special.gammaln(a.sum() + len(X))
    prior_z = prior_z + (special.gammaln(a + counts) - special.gammaln(a)).sum(axis=1)
    return labels, prior_z + np.array([given(z) for z in labels])


def evidence(X, name, **kwargs):
    return special.logsumexp(log_joint(X, name, **kwargs)[1])


def exact(name, rows=X, **kwargs):
    """Co-clustering probability of every pair, and the mean number of occupied components."""
    labels, log_p = log_joint(rows, name, **kwargs)
    p = special.softmax(log_p)
    i, j = np.triu_indices(labels.shape[1], 1)
    occupied = np.array([len(np.unique(z)) for z in labels])
    return np.append(p @ (labels[:, i] == labels[:, j]), p @ occupied)


# -- what is held against it ----------------------------------------------------------------------


@functools.cache
def sampled(name, concentration=CONCENTRATION, n=N, k=K):
    """The same from draws of parameters, given which labels are independent; by chain."""
    rows = X[:n]
    model = mixture(name, k=k, concentration=np.asarray(concentration))
    draws = ENGINE.run(KEY, model, rows)
    flat = jax.vmap(jax.vmap(lambda params, w: model.responsibilities(params, w, rows)))
    with jax.enable_x64():
        p = np.asarray(jax.jit(flat)(draws.params, draws.log_weights))
    i, j = np.triu_indices(n, 1)
    pairs = np.einsum("csik,csjk->csij", p, p)[:, :, i, j]
    return np.concatenate([pairs, draws.stats["occupied"][..., None]], axis=-1).mean(axis=1)


def z_scores(found, truth):
    """Chains are independent, so their means are a sample."""
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    return (found.mean(axis=0) - truth) / error


@pytest.mark.parametrize("name", FAMILIES)
def test_gibbs_has_the_posterior_of_all_labellings(name):
    assert np.abs(z_scores(sampled(name), exact(name))).max() < 4.5


def test_there_may_be_more_components_than_rows():
    found = z_scores(sampled("spherical", n=3, k=6), exact("spherical", X[:3], k=6))
    assert np.abs(found).max() < 4.5


@pytest.mark.slow
def test_weights_by_component():
    a = (4.0, 1.0, 0.5)
    found = z_scores(sampled("diag", a), exact("diag", concentration=a))
    assert np.abs(found).max() < 4.5


FAULTS = {
    "degrees of freedom off by one": {"prior_change": {"df": 10.0}},
    "a prior mean worth half as much": {"prior_change": {"strength": 0.75}},
    "a flat weight prior": {"concentration": 1.0},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_posterior_is_caught(fault):
    assert np.abs(z_scores(sampled("full"), exact("full", **FAULTS[fault]))).max() > 6


@functools.partial(jax.jit, static_argnames="draws")
def likelihoods(model, X, key, draws):
    """Likelihoods of the rows under draws of the prior."""

    def one(key):
        key_params, key_weights = jax.random.split(key)
        params, _ = model.family.from_prior(key_params, model.k)
        log_weights, _ = model.weights.from_prior(key_weights, model.k, X.dtype)
        return jnp.exp(jnp.sum(model.log_density(params, log_weights, X)))

    return jax.lax.map(one, jax.random.split(key, draws), batch_size=10_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_evidence_is_the_mean_likelihood_under_the_prior(name):
    """A second way to the oracle's own number, through the library's prior and density."""
    few = X[2:5]
    with jax.enable_x64():
        found = np.asarray(likelihoods(mixture(name), few, KEY, 200_000))
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - np.exp(evidence(few, name))) < 4 * error
    if name == "full":
        wrong = np.exp(evidence(few, name, prior_change={"df": 10.0}))
        assert abs(found.mean() - wrong) > 6 * error


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_variational_bound_is_below_the_evidence(name):
    draws = CAVI(num_draws=2, n_init=4).run(KEY, mixture(name), X)
    gap = evidence(X, name) - draws.stats["bound"][0, 0]
    # It holds one of the k! labellings, and rows that overlap cost it more.
    assert 0 < gap < np.log(6) + 2.5


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_bound_is_short_of_the_evidence_by_the_relabellings_where_labels_are_sure(name):
    apart = np.concatenate([X[:4] * 0.3, X[:4] * 0.3 + 40.0])
    case = {"prior_change": {"strength": 1e-3}, "k": 2}
    draws = CAVI(tol=1e-12, num_draws=2, n_init=4).run(KEY, mixture(name, **case), apart)
    gap = evidence(apart, name, **case) - draws.stats["bound"][0, 0]
    assert abs(gap - np.log(2)) < 1e-6
