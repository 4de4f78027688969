"""Conjugate priors: densities are NumPyro's, draws have their moments, updates compose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist
from scipy import stats

from bayesclust.families import NormalInverseGamma, NormalInverseWishart
from bayesclust.families.prior import Summary, nothing
from tests.problems import FAMILIES, assert_close, packed

K, D = 3, 2
MEAN = np.array([0.5, -1.0])
SCALE = np.array([[2.0, 0.5], [0.5, 1.0]])
WISHART = NormalInverseWishart(np.array(MEAN), 1.5, 9.0, np.array(SCALE))
COLUMNS = NormalInverseGamma(np.array(MEAN), 1.5, 5.0, np.array([2.0, 1.0]))
SPHERES = NormalInverseGamma(np.array(MEAN), 1.5, 5.0, np.array(2.0))
PRIORS = {"full": WISHART, "tied": WISHART, "diag": COLUMNS, "spherical": SPHERES}
RNG = np.random.default_rng(0)


def summary_of(family, X, resp):
    rows = packed(X, block=len(X))
    params = family.located(jnp.asarray(RNG.normal(size=(K, D))))
    moments = family.stats(family.prepare(params), jnp.asarray(X.T), jnp.asarray(resp))
    return params, moments, family.constants(rows)


def test_density_of_a_full_covariance_is_scipys():
    mean = RNG.normal(size=(K, D))
    cov = stats.invwishart(8, np.eye(2)).rvs(K, random_state=0)
    expected = [
        stats.invwishart(9, SCALE).logpdf(c) + stats.multivariate_normal(MEAN, c / 1.5).logpdf(m)
        for m, c in zip(mean, cov, strict=True)
    ]
    np.testing.assert_allclose(WISHART.log_prob(mean, cov, {}), expected, rtol=1e-9)
    tied = stats.invwishart(9, SCALE).logpdf(cov[0]) + sum(
        stats.multivariate_normal(MEAN, cov[0] / 1.5).logpdf(m) for m in mean
    )
    np.testing.assert_allclose(WISHART.log_prob(mean, cov[0], {}).sum(), tied, rtol=1e-9)


def test_density_of_variances_is_numpyros():
    mean, var = RNG.normal(size=(K, D)), RNG.gamma(3, size=(K, D))
    normal = dist.Normal(MEAN, np.sqrt(var / 1.5)).log_prob(mean).sum(1)
    gamma = dist.InverseGamma(5.0, np.array([2.0, 1.0])).log_prob(var).sum(1)
    np.testing.assert_allclose(COLUMNS.log_prob(mean, var, {}), normal + gamma, rtol=1e-9)
    one = var[:, 0]
    normal = dist.Normal(MEAN, np.sqrt(one / 1.5)[:, None]).log_prob(mean).sum(1)
    gamma = dist.InverseGamma(5.0, 2.0).log_prob(one)
    np.testing.assert_allclose(SPHERES.log_prob(mean, one, {}), normal + gamma, rtol=1e-9)


def test_the_posterior_of_nothing_is_the_prior(name):
    prior = PRIORS[name]
    kind = {"spherical": "sphere"}.get(name, name)
    found = prior.posterior(nothing(K, prior.mean, kind))
    for own, post in zip(jax.tree.leaves(prior), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(post, np.broadcast_to(own, np.shape(post)), atol=1e-14)


def test_the_posterior_is_prior_times_likelihood(name):
    """log p(theta | X) - log p(theta) - log p(X | theta) is the same for every theta."""
    prior = PRIORS[name]
    family = FAMILIES[name](prior=prior)
    X = RNG.normal(size=(40, D)) + 1
    z = np.arange(40) % K
    resp = np.eye(K)[z].T
    post = family.posterior(*summary_of(family, X, resp))
    gaps = []
    for seed in range(5):
        params, _ = family.from_prior(jax.random.key(seed), K)
        data = np.asarray(family.log_prob(params, X))[np.arange(40), z].sum()
        before = float(family.log_prior(params).sum())
        gaps.append(log_posterior(name, post, params) - before - data)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-8)


def log_posterior(name, post, params):
    """Density of all components under posteriors of their own."""
    if name == "tied":
        df, scale = float(post.df), np.asarray(post.scale)
        total = stats.invwishart(df, scale).logpdf(np.asarray(params["cov"]))
        for j in range(K):
            cov = np.asarray(params["cov"]) / float(post.strength[j])
            total += stats.multivariate_normal(post.mean[j], cov).logpdf(params["mean"][j])
        return total
    total = 0.0
    for j in range(K):
        own = jax.tree.map(lambda v: v[j], post)  # noqa: B023
        spread = params["cov" if "cov" in params else "var"][j : j + 1]
        total += float(own.log_prob(params["mean"][j : j + 1], spread, {})[0])
    return total


def test_draws_have_the_moments_of_the_posterior(name):
    prior = PRIORS[name]
    family = FAMILIES[name](prior=prior)
    draw = jax.vmap(lambda key: family.from_prior(key, K)[0])
    found = jax.jit(draw)(jax.random.split(jax.random.key(0), 40_000))
    np.testing.assert_allclose(found["mean"].mean((0, 1)), MEAN, atol=0.02)
    if "cov" in found:
        cov = np.asarray(found["cov"]).reshape(-1, D, D)
        np.testing.assert_allclose(cov.mean(0), SCALE / (9 - D - 1), rtol=0.03)
        expected = stats.invwishart(9, SCALE).rvs(40_000, random_state=1)
        quantiles = [0.05, 0.5, 0.95]
        for i, j in ((0, 0), (1, 1), (0, 1)):
            np.testing.assert_allclose(
                np.quantile(cov[:, i, j], quantiles),
                np.quantile(expected[:, i, j], quantiles),
                atol=0.03,
            )
        spread = cov.mean(0)
    else:
        var = np.asarray(found["var"])
        rate = np.asarray(prior.rate)
        np.testing.assert_allclose(var.mean((0, 1)), rate / 4, rtol=0.03)
        spread = np.diag(np.broadcast_to(rate / 4, (D,)))
    # Marginally the mean has the expected spread over the strength.
    mean = np.asarray(found["mean"]).reshape(-1, D)
    np.testing.assert_allclose(np.cov(mean.T), spread / 1.5, atol=0.02)


def test_the_mode_is_the_greatest_of_the_posterior(name):
    prior = PRIORS[name]
    family = FAMILIES[name](prior=prior)
    X = RNG.normal(size=(60, D)) @ [[1, 0.4], [0, 1]]
    z = np.arange(60) % K
    params, moments, constants = summary_of(family, X, np.eye(K)[z].T)
    best = family.maximise(params, moments, constants)

    def objective(p):
        data = np.asarray(family.log_prob(p, X))[np.arange(60), z].sum()
        return data + float(family.log_prior(p).sum())

    top = objective(best)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        moved = {n: np.asarray(v) * np.exp(0.05 * rng.normal()) for n, v in best.items()}
        moved["mean"] = np.asarray(best["mean"]) + 0.05 * rng.normal(size=(K, D))
        assert objective(moved) < top


def test_units_change_the_prior_as_they_change_the_data(name):
    prior = PRIORS[name]
    family = FAMILIES[name](prior=prior)
    common = name == "spherical"
    shift, scale = np.array([3.0, -2.0]), np.array([2.0, 2.0]) if common else np.array([2.0, 0.5])
    moved = family.in_prior_units(shift, scale)
    X = RNG.normal(size=(30, D))
    resp = np.eye(K)[np.arange(30) % K].T
    own = family.posterior(*summary_of(family, X, resp)).in_units(shift, scale)
    other = moved.posterior(*summary_of(moved, X * scale + shift, resp))
    assert_close(own, other, 1e-9)


def test_the_default_is_weak_and_as_wide_as_the_data(name):
    spread = np.array([2.0, 5.0])
    family = FAMILIES[name]().scaled_to(spread).informed(4)
    prior = family.prior
    assert float(prior.strength) == pytest.approx(0.01)
    expected = np.square(spread) / 4.0
    if name in ("full", "tied"):
        np.testing.assert_allclose(np.diag(prior.scale) / (prior.df - D - 1), expected)
    else:
        own = np.mean(expected) if name == "spherical" else expected
        np.testing.assert_allclose(prior.rate / (prior.shape - 1), own)
    assert_close(family.informed(9).prior, prior, 0)


def test_a_summary_holds_the_scatter_about_its_mean():
    family = FAMILIES["full"](prior=WISHART)
    X = RNG.normal(size=(50, D)) + 5
    resp = RNG.dirichlet(np.ones(K), 50).T
    found = family.summary(*summary_of(family, X, resp))
    assert isinstance(found, Summary)
    mean = resp @ X / resp.sum(1)[:, None]
    gap = X - mean[:, None]
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(
        found.scatter, np.einsum("kn,kni,knj->kij", resp, gap, gap), rtol=1e-8, atol=1e-10
    )
