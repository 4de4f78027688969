"""Gibbs and NUTS draw from one posterior; NUTS from the one that posteriordb publishes.

They share densities but neither the conditional draws nor the program's transforms. All cases:
``python -m pytest tests/oracles -m "slow or not slow"``.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from arviz_stats.base import array_stats
from numpyro import distributions as dist

from bayesclust.engines import NUTS, Gibbs
from bayesclust.engines.program import row_sites
from bayesclust.families import SphericalGaussian
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet, Gamma
from tests.calibration.test_geweke import INDEPENDENT, PRIORS
from tests.problems import FAMILIES, KEY

K = 2
LEARNT = INDEPENDENT["diag", "learnt"]
QUANTILES = (0.1, 0.5, 0.9)
POINTS = np.array([[0.5, -1.0], [1.5, -2.0], [-0.5, 0.5]])
SHORT = Gibbs(100, 1000, 4), NUTS(200, 250, 4)
LONG = Gibbs(500, 5000, 4), NUTS(500, 1500, 4)


def rows(n=40):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 2)) * [0.6, 0.4] + [0.5, -1.0]
    X[: n // 3] += [1.2, -0.8]
    return X


def found(engine, name, prior, concentration):
    """Label-free scalars of each draw, ``(c, s)`` by name."""
    model = Mixture(FAMILIES[name](prior=prior), K, Dirichlet(concentration))
    draws = engine.run(KEY, model, rows())
    with jax.enable_x64():
        density = jax.vmap(jax.vmap(lambda params, w: model.log_density(params, w, POINTS)))
        at = np.asarray(jax.jit(density)(draws.params, draws.log_weights))
    stats = {n: v for n, v in draws.stats.items() if n != "occupied"}
    return {**stats, **{f"density {i}": at[..., i] for i in range(len(POINTS))}}


def z_scores(a, b):
    """Differences of means and quantiles, over the Monte Carlo error of both."""
    scores = {}
    axes = {"chain_axis": 0, "draw_axis": 1}
    for name in a.keys() & b.keys():
        pair = [np.asarray(v[name]) for v in (a, b)]
        error = [array_stats.mcse(v, **axes) for v in pair]
        scores[name, "mean"] = (pair[0].mean() - pair[1].mean()) / np.hypot(*error)
        for q in QUANTILES:
            error = [array_stats.mcse(v, method="quantile", prob=q, **axes) for v in pair]
            at = [np.quantile(v, q) for v in pair]
            scores[name, q] = (at[0] - at[1]) / np.hypot(*error)
    return scores


def worst(scores):
    return max(scores.items(), key=lambda item: abs(item[1]))


@pytest.fixture(scope="module")
def nuts():
    """One run of NUTS: it compiles for long."""
    return found(SHORT[1], "diag", LEARNT, 1.5)


def against(nuts, prior, weights):
    return z_scores(found(SHORT[0], "diag", prior, weights), nuts)


@pytest.mark.slow
def test_gibbs_is_nuts(nuts):
    scores = against(nuts, LEARNT, 1.5)
    assert {"log_likelihood", "log_posterior", "log_prior_rate"} <= {n for n, _ in scores}
    name, z = worst(scores)
    assert abs(z) < 4.5, name


@pytest.mark.parametrize(
    "prior, weights",
    [(LEARNT, 8.0), (dataclasses.replace(LEARNT, shape=8.0), 1.5)],
    ids=["weights", "variances"],
)
def test_another_prior_is_caught(nuts, prior, weights):
    scores = against(nuts, prior, weights)
    assert max(abs(z) for (name, _), z in scores.items() if name != "log_posterior") > 6


CASES = {f"{name} conjugate": (name, PRIORS[name]) for name in FAMILIES}
CASES |= {f"{name} {form}": (name, prior) for (name, form), prior in INDEPENDENT.items()}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gibbs_is_nuts_at_length(case):
    runs = [found(engine, *CASES[case], Gamma(4.0, 2.0)) for engine in LONG]
    name, z = worst(z_scores(*runs))
    assert abs(z) < 4.5, name


# -- a posterior that others have published ------------------------------------------------------


def low_dim_gauss_mix(X):
    """The model of that name, with deterministic sites of the names that scoring needs."""
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    # Two independent normals, sorted, are the ordered vector of the Stan program.
    mean = numpyro.deterministic("mean", jnp.sort(mu)[:, None])
    var = numpyro.deterministic("var", jnp.square(sigma))
    weights = numpyro.deterministic("weights", jnp.stack([theta, 1 - theta]))
    params = {"mean": mean, "var": var}
    row_sites(Mixture(SphericalGaussian(), 2), params, jnp.log(weights), X)


REFERENCE = {  # posteriordb's reference posterior: mean and sd
    "mu[1]": (-2.7335, 0.0420),
    "mu[2]": (2.8698, 0.0546),
    "sigma[1]": (1.0281, 0.0314),
    "sigma[2]": (1.0238, 0.0405),
    "theta": (0.6215, 0.0155),
}


def far_from_reference(X):
    """By how many reference sds means are off, and by which factor sds, at most."""
    engine = NUTS(300, 500, 4, model=low_dim_gauss_mix)
    draws = engine.run(KEY, Mixture(SphericalGaussian(), 2), X)
    mu, sigma = draws.params["mean"][..., 0], np.sqrt(draws.params["var"])
    theta = np.exp(draws.log_weights[..., :1])
    found = np.concatenate([mu, sigma, theta], axis=-1).reshape(-1, 5)
    mean, sd = np.array(list(REFERENCE.values())).T
    return np.abs(found.mean(axis=0) - mean) / sd, np.abs(found.std(axis=0) / sd - 1)


@pytest.mark.slow
def test_posteriordb_low_dim_gauss_mix():
    y = np.loadtxt(Path(__file__).with_name("low_dim_gauss_mix.csv"), skiprows=2)
    off, spread = far_from_reference(y[:, None])
    assert off.max() < 0.15
    assert spread.max() < 0.1
    # A third of the rows left out is another posterior.
    _, spread = far_from_reference(y[333:, None])
    assert spread.max() > 0.15
