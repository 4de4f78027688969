"""Independent priors: densities are SciPy's, conditional modes climb, defaults follow the data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesclust.families import (
    Gamma,
    IndependentNormalGamma,
    IndependentNormalWishart,
    Wishart,
)
from tests.problems import FAMILIES, assert_close, packed

K, D = 3, 2
MEAN, COV = np.array([0.5, -1.0]), np.array([[1.0, 0.3], [0.3, 2.0]])
SCALE = np.array([[2.0, 0.5], [0.5, 1.0]])
WISHART = IndependentNormalWishart(MEAN, COV, 9.0, SCALE)
COLUMNS = IndependentNormalGamma(MEAN, np.array([1.0, 2.0]), 5.0, np.array([2.0, 1.0]))
SPHERES = dataclasses.replace(COLUMNS, rate=2.0)
PRIORS = {"full": WISHART, "tied": WISHART, "diag": COLUMNS, "spherical": SPHERES}
HYPER = {
    "full": Wishart(6.0, SCALE / 6),
    "tied": Wishart(6.0, SCALE / 6),
    "diag": Gamma(4.0, np.array([2.0, 4.0])),
    "spherical": Gamma(4.0, 2.0),
}
RNG = np.random.default_rng(0)


def learnt(name):
    """The prior with a hyperprior on its scale."""
    field = "scale" if name in ("full", "tied") else "rate"
    return dataclasses.replace(PRIORS[name], **{field: HYPER[name]})


def points(name, seed=0):
    """Means and spreads of the family's shapes."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(K, D))
    spread = {
        "full": stats.invwishart(8, np.eye(2)).rvs(K, random_state=seed),
        "tied": stats.invwishart(8, np.eye(2)).rvs(random_state=seed),
        "diag": rng.gamma(3, size=(K, D)),
        "spherical": rng.gamma(3, size=K),
    }[name]
    return mean, spread


def expected_log_prob(name, mean, spread, scale):
    normal = sum(stats.multivariate_normal(MEAN, COV).logpdf(m) for m in mean)
    if name in ("full", "tied"):
        each = spread if name == "full" else [spread]
        return normal + sum(stats.invwishart(9, scale).logpdf(c) for c in each)
    normal = stats.norm(MEAN, np.sqrt([1.0, 2.0])).logpdf(mean).sum()
    return normal + stats.invgamma(5.0, scale=scale).logpdf(spread).sum()


def test_the_density_is_scipys(name):
    mean, spread = points(name)
    scale = {"full": SCALE, "tied": SCALE, "diag": np.array([2.0, 1.0]), "spherical": 2.0}[name]
    found = PRIORS[name].log_prob(mean, spread, {}).sum()
    np.testing.assert_allclose(found, expected_log_prob(name, mean, spread, scale), rtol=1e-9)


def test_the_density_under_a_hyperprior_is_scipys(name):
    mean, spread = points(name)
    prior = learnt(name)
    if name in ("full", "tied"):
        scale = stats.wishart(6, SCALE / 6).rvs(random_state=3)
        own, state = stats.wishart(6, SCALE / 6).logpdf(scale), {"prior_scale": scale}
    else:
        rate = np.array([2.0, 4.0]) if name == "diag" else 2.0
        scale = np.full(np.shape(rate), 1.7)
        own, state = stats.gamma(4.0, scale=1 / rate).logpdf(scale).sum(), {"prior_rate": scale}
    found = prior.log_prob(mean, spread, jax.tree.map(jnp.asarray, state)).sum()
    expected = expected_log_prob(name, mean, spread, scale) + own
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def seen_by(name, z):
    """Statistics of labelled rows."""
    family = FAMILIES[name](prior=PRIORS[name])
    X = np.random.default_rng(1).normal(size=(len(z), D)) + 1
    params = family.located(jnp.asarray(X[:K]))
    moments = family.stats(family.prepare(params), jnp.asarray(X.T), jnp.eye(K)[z].T)
    return family, X, params, moments, family.constants(packed(X, block=len(X)))


def test_maximising_part_by_part_climbs_to_the_mode(name):
    z = np.arange(60) % K
    family, X, params, moments, constants = seen_by(name, z)
    seen = family.summary(params, moments, constants)
    spread = next(n for n in family.dims if n != "mean")

    def objective(mean, value):
        own = {"mean": mean, spread: value}
        data = np.asarray(family.log_prob(own, X))[np.arange(60), z].sum()
        return data + float(family.log_prior(own).sum())

    mean, value = jnp.asarray(params["mean"]), params[spread]
    heights = []
    for _ in range(40):
        mean, value = family.prior.maximise(seen, mean, value)
        heights.append(objective(mean, value))
    assert (np.diff(heights) > -1e-9 * np.abs(heights[-1])).all()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        moved = mean + 0.02 * rng.normal(size=(K, D))
        assert objective(moved, value * np.exp(0.02 * rng.normal())) < heights[-1]


def test_units_change_the_prior_as_they_change_the_data(name):
    mean, spread = points(name)
    common = name == "spherical"
    shift, scale = np.array([3.0, -2.0]), np.array([2.0, 2.0]) if common else np.array([2.0, 0.5])
    family = FAMILIES[name](prior=learnt(name))
    own = next(n for n in family.dims if n != "mean")
    moved = family.in_prior_units(shift, scale)
    params, other = ({"mean": mean, own: spread}, {"mean": mean + 0.3, own: spread * 1.4})

    def ratio(family, a, b):
        return float(family.log_prior(a).sum() - family.log_prior(b).sum())

    there = [family.in_units(p, shift, scale) for p in (params, other)]
    assert ratio(family, params, other) == pytest.approx(ratio(moved, *there), rel=1e-9)


def test_draws_have_the_means_of_the_prior(name):
    prior = learnt(name)
    kind = {"spherical": "sphere"}.get(name, name)
    draw = jax.jit(jax.vmap(lambda key: prior.from_prior(key, K, kind)))
    mean, spread, state = draw(jax.random.split(jax.random.key(0), 40_000))
    np.testing.assert_allclose(mean.mean((0, 1)), MEAN, atol=0.02)
    (scale,) = state.values()
    usual = {"full": SCALE, "tied": SCALE, "diag": [2.0, 1.0], "spherical": 2.0}[name]
    np.testing.assert_allclose(scale.mean(0), usual, rtol=0.03)
    if name in ("full", "tied"):
        value = np.asarray(spread).reshape(-1, D, D).mean(0)
        np.testing.assert_allclose(value, SCALE / (9 - D - 1), rtol=0.05)
    else:
        axes = (0, 1) if name in ("diag", "spherical") else 0
        np.testing.assert_allclose(spread.mean(axes), np.asarray(usual) / 4, rtol=0.05)


def test_what_is_open_is_set_for_the_data_and_what_is_given_is_kept(name):
    spread = jnp.array([2.0, 5.0])
    wishart = name in ("full", "tied")
    open_prior = IndependentNormalWishart(df=7.0) if wishart else IndependentNormalGamma(shape=7.0)
    found = FAMILIES[name](spread=spread, prior=open_prior).informed(4).prior
    assert float(found.df if wishart else found.shape) == 7.0
    wide = np.square(4 * np.asarray(spread))
    if wishart:
        np.testing.assert_allclose(found.cov, np.diag(wide))
        np.testing.assert_allclose(found.scale, np.diag(wide) / 25)
    else:
        np.testing.assert_allclose(found.var, wide)
        usual = wide.mean() / 50 if name == "spherical" else wide / 50
        np.testing.assert_allclose(found.rate, usual)
    again = FAMILIES[name](spread=spread, prior=found).informed(9).prior
    assert_close(again, found, 0)


def test_one_column_has_richardson_and_greens_hyperprior():
    """For one column Wishart(0.4, .) and IW(4, .) are Gamma(0.2, .) and IG(2, .)."""
    prior = IndependentNormalWishart(scale=Wishart()).informed(jnp.ones(1), 3, "full")
    assert float(prior.df) == 4.0
    assert float(prior.scale.df) == pytest.approx(0.4)
    column = IndependentNormalGamma(rate=Gamma()).informed(jnp.ones(1), 3, "diag")
    assert (float(column.shape), float(column.rate.shape)) == (2.0, 0.2)
    # E scale / 2 = E rate
    np.testing.assert_allclose(prior.scale.mean[0, 0] / 2, column.rate.mean[0])
    np.testing.assert_allclose(prior.scale.mean[0, 0] / 2, 0.2 * 16 / 10)
