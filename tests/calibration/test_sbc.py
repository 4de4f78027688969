"""Simulation-based calibration: among draws given its data, the truth ranks anywhere alike.

Parameters from the prior, rows from the parameters, draws given the rows: the rank of any quantity
of the former among the latter is uniform. Only quantities that no relabelling changes are ranked,
ties at random; a band holds the whole empirical distribution of ranks.

All of them: ``python -m pytest tests/calibration/test_sbc.py -m "slow or not slow"``.

References
----------
S. Talts, M. Betancourt, D. Simpson, A. Vehtari and A. Gelman (2018), Validating Bayesian inference
    algorithms with simulation-based calibration, arXiv:1804.06788.
T. Säilynoja, P.-C. Bürkner and A. Vehtari (2022), Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison, Stat. Comput. 32, 32.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesclust.core.rows import pack
from bayesclust.engines import NUTS, SVI, chains, gibbs
from bayesclust.engines.record import label_free
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet, Gamma
from tests.calibration.test_geweke import INDEPENDENT, PRIORS, prior_draw
from tests.problems import FAMILIES

K, D, N = 2, 2, 40
DRAWS, WARMUP = 199, 200
SHORT = {"simulations": 200, "thinning": 4}
LONG = {"simulations": 500, "thinning": 10}
CELLS = 20
POINTS = np.array([[0.5, -1.0], [1.5, 0.0]])
LEARNT_WEIGHTS = Dirichlet(Gamma(4.0, 2.0))


def quantities(mixture, X, params, log_weights, stats):
    """Scalars of a draw that no relabelling changes."""
    share = jnp.exp(log_weights)
    spread = params["cov"] if "cov" in params else params["var"]
    if "cov" in params:
        spread = jnp.diagonal(spread, axis1=-2, axis2=-1)
    column = spread[..., 0] if spread.ndim == 2 or "cov" in params else spread
    mean = jnp.sum(share * params["mean"][:, 0])
    square = jnp.sum(share * (column + params["mean"][:, 0] ** 2))
    density = mixture.log_density(params, log_weights, POINTS)
    pair = mixture.responsibilities(params, log_weights, X[:2])
    return {
        **{n: v.astype(X.dtype) for n, v in stats.items() if n != "weight_entropy"},
        "largest weight": jnp.max(share),
        "mean": mean,
        "variance": square - mean**2,
        "density here": density[0],
        "density there": density[1],
        "together": jnp.sum(pair[0] * pair[1]),
    }


def simulated(truth, kernel, key, n=N):
    """Quantities of a prior draw, as `kernel` sees them, rows from it, and another prior draw."""
    key_prior, key_rows = jax.random.split(key)
    two = jax.vmap(lambda key: prior_draw(truth, key))(jax.random.split(key_prior))
    params, log_weights, weights, hyper = jax.tree.map(lambda v: v[0], two)
    other = jax.tree.map(lambda v: v[1], two)
    X, z = truth.sample(key_rows, params, log_weights, n)
    likelihood = jnp.sum(truth.log_density(params, log_weights, X))
    scalars = label_free(kernel, params, log_weights, likelihood, weights, hyper)
    scalars["occupied"] = jnp.sum(jnp.zeros(K).at[z].set(1.0))
    return quantities(kernel, X, params, log_weights, scalars), X, other


def ranked(key, truth, draws):
    """Draws below the truth, by quantity; ties fall on either side at random."""
    names = sorted(truth)
    truth = jnp.stack([truth[n] for n in names])
    draws = jnp.stack([draws[n] for n in names], axis=1)
    below, ties = jnp.sum(draws < truth, axis=0), jnp.sum(draws == truth, axis=0)
    u = jax.random.uniform(key, truth.shape)
    return dict(zip(names, below + jnp.floor(u * (ties + 1)).astype(int), strict=True))


@functools.partial(jax.jit, static_argnames=("simulations", "thinning"))
def gibbs_ranks(truth, kernel, weight, key, *, simulations, thinning):
    """Ranks ``(simulations,)`` of every quantity, by chains of `kernel`."""

    def one(key):
        key_truth, key_chain, key_rank = jax.random.split(key, 3)
        told, X, start = simulated(truth, kernel, key_truth)
        rows = pack(X, jnp.full(N, weight), block=64)
        constants = kernel.family.constants(rows)

        def step(state):
            state, record = gibbs.step(kernel, constants, rows, state)
            return state, quantities(kernel, X, *record)

        state = gibbs.GibbsState(key_chain, jnp.int32(0), *start)
        gaps = jnp.full(DRAWS, thinning).at[0].add(WARMUP)
        _, draws = chains.advance(step, state, gaps)
        return ranked(key_rank, told, draws)

    return jax.lax.map(one, jax.random.split(key, simulations), batch_size=100)


# -- whether ranks are uniform -------------------------------------------------------------------


def rarity(counts):
    """Least pointwise probability of the empirical distribution at the ends of cells.

    Parameters
    ----------
    counts : (.., CELLS) int array
    """
    total = int(counts.sum(axis=-1).flat[0])
    upto = np.cumsum(counts, axis=-1)[..., :-1]
    p = np.arange(1, CELLS) / CELLS
    at = np.arange(total + 1)[:, None]
    tail = np.minimum(stats.binom.cdf(at, total, p), stats.binom.sf(at - 1, total, p))
    return tail[upto, np.arange(CELLS - 1)].min(axis=-1)


@functools.cache
def limit(total, level=1e-4, samples=200_000):
    """What the rarity of `total` uniform ranks falls below with probability `level`."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(total, np.full(CELLS, 1 / CELLS), size=samples)
    return np.quantile(rarity(counts), level)


def counted(ranks):
    return np.bincount(np.asarray(ranks) * CELLS // (DRAWS + 1), minlength=CELLS)


def margins(ranks):
    """Log rarity over the limit, by quantity: below zero the ranks leave the band."""
    total = len(next(iter(ranks.values())))
    found = {n: np.maximum(rarity(counted(r)), 1e-300) for n, r in ranks.items()}
    return {n: float(np.log(v / limit(total))) for n, v in found.items()}


def mixture(family, prior, weights=LEARNT_WEIGHTS):
    return Mixture(FAMILIES[family](prior=prior), K, weights)


def by_gibbs(truth, kernel=None, weight=1.0, run=SHORT):
    return margins(gibbs_ranks(truth, kernel or truth, weight, jax.random.key(0), **run))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64():
        yield


# -- Gibbs ---------------------------------------------------------------------------------------

LEARNT = INDEPENDENT["spherical", "learnt"]
EVERY = {(name, "conjugate"): prior for name, prior in PRIORS.items()} | INDEPENDENT


@pytest.mark.slow
def test_gibbs_is_calibrated():
    found = by_gibbs(mixture("spherical", LEARNT))
    assert {"concentration", "log_prior_rate", "occupied", "together"} <= set(found)
    assert min(found.values()) > 0, found


FAULTS = {
    "a hyperprior counted twice": {"rate": Gamma(8.0, 2.0)},
    "variances of another shape": {"shape": 7.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_prior_is_caught(fault):
    kernel = mixture("spherical", dataclasses.replace(LEARNT, **FAULTS[fault]))
    assert min(by_gibbs(mixture("spherical", LEARNT), kernel).values()) < 0


@pytest.mark.slow
def test_a_halved_likelihood_is_caught():
    assert min(by_gibbs(mixture("spherical", LEARNT), weight=0.5).values()) < 0


@pytest.mark.slow
@pytest.mark.parametrize("family, form", EVERY)
def test_gibbs_is_calibrated_under_every_prior(family, form):
    found = by_gibbs(mixture(family, EVERY[family, form]), run=LONG)
    assert min(found.values()) > 0, found


# -- engines that run from the host ----------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="n")
def problem(truth, key, n):
    """Quantities of a prior draw, and rows from it."""
    told, X, _ = simulated(truth, truth, key, n)
    told.pop("occupied")  # no engine but Gibbs draws labels
    return told, X


@jax.jit
def drawn(truth, X, params, log_weights):
    """The same quantities of draws ``(s, ..)``."""

    def one(draw):
        likelihood = jnp.sum(truth.log_density(*draw, X))
        return quantities(truth, X, *draw, label_free(truth, *draw, likelihood, {}, {}))

    return jax.lax.map(one, (params, log_weights))


def by_engine(engine, truth, n, simulations=200):
    found = []
    for key in jax.random.split(jax.random.key(0), simulations):
        key_truth, key_run, key_rank = jax.random.split(key, 3)
        told, X = problem(truth, key_truth, n)
        draws = engine.run(key_run, truth, np.asarray(X))
        params = {name: v[0] for name, v in draws.params.items()}
        found.append(ranked(key_rank, told, drawn(truth, X, params, draws.log_weights[0])))
    return margins({name: np.array([f[name] for f in found]) for name in found[0]})


@pytest.mark.slow
def test_nuts_is_calibrated():
    truth = mixture("diag", PRIORS["diag"], Dirichlet(1.5))
    found = by_engine(NUTS(300, DRAWS, 1, thinning=3), truth, N)
    assert min(found.values()) > 0, found


@pytest.mark.slow
def test_svi_is_calibrated_where_labels_are_sure():
    """There the posterior is nearly the normal distribution that the guide is; elsewhere not."""
    engine = SVI(num_draws=DRAWS)
    apart = dataclasses.replace(PRIORS["diag"], strength=1e-3)
    found = by_engine(engine, mixture("diag", apart, Dirichlet(10.0)), 100)
    assert min(found.values()) > 0, found
    overlap = mixture("diag", PRIORS["diag"], Dirichlet(1.5))
    assert min(by_engine(engine, overlap, N).values()) < 0
