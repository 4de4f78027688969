"""A row of weight w is w rows, each with a label of its own: samplers against all labellings.

Clusters overlap, so that one label for all copies would be seen.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import infer
from numpyro.infer.util import log_density
from scipy import special

from bayesclust.core.units import Units, natural_units
from bayesclust.engines import NUTS, Gibbs, GibbsKernel, PartitionGibbs, partition_gibbs
from bayesclust.engines.program import program
from bayesclust.engines.record import informed_prior
from bayesclust.families import SphericalGaussian
from bayesclust.mixture import Mixture
from tests.oracles.test_enumeration import D, log_joint, mixture, z_scores
from tests.problems import FAMILIES, KEY

ROWS = np.array([[0.9, -1.2], [0.1, -0.6], [-0.4, -1.3], [0.6, -0.9], [5.0, 5.0]])
WEIGHT = np.array([3, 1, 2, 1, 0])
COPIES = np.repeat(ROWS, WEIGHT, axis=0)
OF_ROW = np.repeat(np.arange(len(ROWS)), WEIGHT)
PAIRS = np.triu_indices(len(COPIES), 1)
ENGINE = Gibbs(num_warmup=100, num_draws=400, num_chains=16)


def exact(name):
    """Co-clustering of every pair of copies, and the mean number of occupied components."""
    labels, log_p = log_joint(COPIES, name)
    p = special.softmax(log_p)
    i, j = PAIRS
    occupied = np.array([len(np.unique(z)) for z in labels])
    return np.append(p @ (labels[:, i] == labels[:, j]), p @ occupied)


def together(model, params, log_weights):
    """Co-clustering of pairs of copies by chain: given parameters their labels are independent."""
    flat = jax.jit(jax.vmap(jax.vmap(lambda p, w: model.responsibilities(p, w, ROWS[OF_ROW]))))
    with jax.enable_x64():
        p = np.asarray(flat(params, log_weights))
    return np.einsum("csik,csjk->csij", p, p)[(..., *PAIRS)].mean(axis=1)


@functools.cache
def sampled(name, dtype="float64"):
    model = mixture(name)
    draws = ENGINE.run(KEY, model, ROWS.astype(dtype), sample_weight=WEIGHT)
    occupied = draws.stats["occupied"].mean(axis=1, keepdims=True)
    return np.hstack([together(model, draws.params, draws.log_weights), occupied])


@pytest.mark.parametrize("name", FAMILIES)
def test_gibbs_has_the_posterior_of_the_copies(name):
    assert np.abs(z_scores(sampled(name), exact(name))).max() < 4.5


@pytest.mark.slow
def test_gibbs_has_it_in_single_precision():
    assert np.abs(z_scores(sampled("full", "float32"), exact("full"))).max() < 4.5


def test_one_label_for_all_copies_would_be_seen():
    """Copies that share their label are another posterior, by far more than the sampler's error."""
    labels, log_p = log_joint(COPIES, "full")
    for first, last in itertools.pairwise(np.flatnonzero(np.diff(OF_ROW, prepend=-1, append=9))):
        log_p = np.where((labels[:, first:last] == labels[:, [first]]).all(axis=1), log_p, -np.inf)
    i, j = PAIRS
    wrong = special.softmax(log_p) @ (labels[:, i] == labels[:, j])
    assert np.abs(z_scores(sampled("full")[:, :-1], wrong)).max() > 6


@pytest.mark.slow
def test_the_kernel_has_it_too():
    model = mixture("full")
    mcmc = infer.MCMC(
        GibbsKernel(model),
        num_warmup=100,
        num_samples=600,
        num_chains=32,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(KEY, ROWS.astype("float32"), sample_weight=WEIGHT)
    sites = mcmc.get_samples(group_by_chain=True)
    log_weights = jnp.log(sites.pop("weights"))
    found = together(model, sites, log_weights)
    assert np.abs(z_scores(found, exact("full")[:-1])).max() < 4.5


@pytest.mark.slow
def test_nuts_has_it_too():
    model = mixture("diag")
    engine = NUTS(num_warmup=200, num_draws=300, num_chains=16)
    draws = engine.run(KEY, model, ROWS, sample_weight=WEIGHT)
    found = together(model, draws.params, draws.log_weights)
    assert np.abs(z_scores(found, exact("diag")[:-1])).max() < 4.5


def test_the_density_of_nuts_and_svi_is_that_of_the_copies():
    model = mixture("full")
    family = model.family
    with jax.enable_x64():
        params, _ = family.from_prior(KEY, model.k)
        sites = {**family.as_sites(params), "weights": jnp.array([0.5, 0.3, 0.2])}
        found, _ = log_density(program, (model, ROWS, WEIGHT.astype(float)), {}, sites)
        copied, _ = log_density(program, (model, COPIES), {}, sites)
    np.testing.assert_allclose(found, copied, rtol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_prior_is_that_of_the_copies(name):
    model = Mixture(FAMILIES[name](), 3)
    found = informed_prior(model, ROWS, WEIGHT, natural_units(ROWS, WEIGHT))
    copied = informed_prior(model, COPIES, None, natural_units(COPIES))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(copied), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


# -- partitions of k-means' generalised posterior -------------------------------------------------

SHAPE, RATE, K = 2.0, 3.0, 2


def exact_partition(rows=COPIES):
    """Means of the sum of squares and of the entropy of sizes, the temperature integrated out."""
    labels = np.array([z for z in itertools.product(range(K), repeat=len(rows)) if len({*z}) == K])
    parts = [[rows[z == j] for j in range(K)] for z in labels]
    sse = np.array([sum(np.square(v - v.mean(axis=0)).sum() for v in part) for part in parts])
    share = np.array([[len(v) / len(rows) for v in part] for part in parts])
    p = special.softmax(-(SHAPE + rows.size / 2) * np.log(RATE + sse))
    return p @ np.stack([sse, special.entr(share).sum(axis=1)], axis=1)


@pytest.mark.parametrize("most", [1000, pytest.param(0, marks=pytest.mark.slow)])
def test_partitions_of_weighted_rows_are_those_of_the_copies(most, monkeypatch):
    monkeypatch.setattr(partition_gibbs, "VISITED_ROWS", most)
    engine = PartitionGibbs(SHAPE, RATE, num_warmup=100, num_draws=300, num_chains=32, thinning=3)
    plain = Units(np.zeros(D), np.ones(D))
    model = Mixture(SphericalGaussian(), K)
    draws = engine.run(KEY, model, ROWS, sample_weight=WEIGHT, units=plain)
    found = np.stack([draws.stats[name].mean(axis=1) for name in ("inertia", "size_entropy")], -1)
    assert np.abs(z_scores(found, exact_partition())).max() < 4.5
