"""The sampler of partitions against all partitions of a few rows, listed.

With lambda integrated out, ``p(z | X) ~ (b + SSE(z))^-(a + n d / 2)`` over labels of k non-empty
clusters (Rigon, Herring & Dunson 2023); co-clustering, SSE and lambda then have known means.

All problems and faults: ``python -m pytest tests/calibration/test_partitions.py -m "slow or not
slow"``.
"""

import dataclasses
import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesclust.core.rows import Rows
from bayesclust.engines import partition_gibbs
from bayesclust.engines.partition_gibbs import Target
from bayesclust.kmeans import partition
from tests.problems import slowly

CHAINS, STEPS = 100, 500
FORMS = ["visit", "propose"]
PRIOR = (1.5, 20.0)
# Rows, features, clusters, and a copy of the first row where asked for.
PROBLEMS = {"plane": (7, 2, 3, False), "line": (8, 1, 2, False), "copies": (6, 3, 3, True)}


def rows_of(problem):
    n, d, k, copied = PROBLEMS[problem]
    rng = np.random.default_rng(3)
    X = 0.5 * rng.normal(size=(k, d))[np.arange(n) % k] + rng.normal(size=(n, d))
    if copied:
        X[-1] = X[0]
    return X, k


def sse_of(X, z, k):
    return sum(np.square(X[z == j] - X[z == j].mean(axis=0)).sum() for j in range(k))


def exact(X, k):
    """Means of SSE, lambda, squared sizes and of all pairs' co-clustering, ``(q,)``."""
    n, d = X.shape
    a, b = PRIOR
    labels = np.array([z for z in itertools.product(range(k), repeat=n) if len(set(z)) == k])
    sse = np.array([sse_of(X, z, k) for z in labels])
    log_p = -(a + n * d / 2) * np.log(b + sse)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    squares = sum((labels == j).sum(axis=1) ** 2 for j in range(k))
    scalars = [p @ sse, p @ ((a + n * d / 2) / (b + sse)), p @ squares]
    i, j = np.triu_indices(n, 1)
    return np.concatenate([scalars, p @ (labels[:, i] == labels[:, j])])


def pairs_of(X, state):
    """Co-clustering of a state, whose sums tell which rows each cluster holds."""
    n = X.shape[0]
    subsets = np.array(list(itertools.product([0.0, 1.0], repeat=n)))
    sums = state.partition.counts[:, None] * state.partition.mean
    gap = jnp.sum(jnp.square(sums[:, None] - subsets @ X), axis=2)
    member = jnp.take(jnp.asarray(subsets), jnp.argmin(gap, axis=1), axis=0)
    i, j = np.triu_indices(n, 1)
    return jnp.sum(member[:, i] * member[:, j], axis=0)


@functools.partial(jax.jit, static_argnames=("k", "form", "step"))
def sampled(X, keys, *, k, form, step):
    """Means over each chain of SSE, lambda, squared sizes and co-clustering ``(c, q)``."""
    n, d = X.shape
    target = Target(PRIOR[0] + n * d / 2, jnp.asarray(PRIOR[1], X.dtype))
    rows = Rows(X.T[None], jnp.ones((1, n), X.dtype), 0, 1)
    labels = jnp.arange(n, dtype=jnp.int32)[None] % k

    def chain(key):
        begin = partition_gibbs.init(key, target, rows, labels, k)
        if form == "propose":
            begin = dataclasses.replace(begin, labels=None)

        def body(state, _):
            state = step(target, rows, X.T, state)
            found = state.partition
            scalars = jnp.stack([found.sse, state.temperature, jnp.sum(found.counts**2)])
            return state, jnp.concatenate([scalars, pairs_of(X, state)])

        found = jax.lax.scan(body, begin, None, length=STEPS)[1]
        return jnp.mean(found[STEPS // 5 :], axis=0)

    return jax.vmap(chain)(keys)


def z_scores(problem, form, step=partition_gibbs.step, chains=CHAINS):
    """Standardised differences from the exact means, chains being a sample of independent ones."""
    X, k = rows_of(problem)
    truth = exact(X, k)
    keys = jax.random.split(jax.random.key(1), chains)
    found = np.asarray(sampled(jnp.asarray(X), keys, k=k, form=form, step=step))
    if problem == "copies":  # sums do not tell copies apart
        found, truth = found[:, :3], truth[:3]
    error = found.std(axis=0, ddof=1) / np.sqrt(chains)
    return (found.mean(axis=0) - truth) / error


def planted(function, line, wrong):
    """A step whose sweep has one line wrong."""
    source = inspect.getsource(getattr(partition, function))
    assert source.count(line) == 1
    namespace = {**vars(partition)}
    exec(source.replace(line, wrong), namespace)

    def step(target, rows, pilot, state):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(partition, function, namespace[function])
            return partition_gibbs.step(target, rows, pilot, state)

    return step


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64():
        yield


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("problem", slowly(PROBLEMS, {"plane"}))
def test_both_sweeps_have_the_posterior_of_all_partitions(problem, form):
    assert np.abs(z_scores(problem, form)).max() < 4.5


FAULTS = {
    "a distance to a mean that does not move": (
        "visit", "temperature * counts / (counts + 1) *", "temperature *"),
    "a row that counts in its own mean": (
        "visit", "counts = carry[0] - own", "counts = carry[0]"),
    "a last row that may leave": (
        "visit", "jnp.where(jnp.min(counts) > 0, drawn, label)", "drawn"),
    "all proposals accepted": (
        "propose", "jnp.log(u) < remainder(counts) - remainder(partition.counts)",
        "jnp.all(counts > 0)"),
    "a tilt taken back twice": (
        "propose", "jnp.log(counts) - tilt * counts", "jnp.log(counts) - 2 * tilt * counts"),
    "centres of half the spread": (
        "propose", "jnp.sqrt(2 * temperature", "2 * jnp.sqrt(2 * temperature"),
}  # fmt: skip
QUICK = {"a distance to a mean that does not move", "all proposals accepted"}


@pytest.mark.parametrize("fault", slowly(FAULTS, QUICK))
def test_a_wrong_sweep_is_caught(fault):
    function, line, wrong = FAULTS[fault]
    step = planted(function, line, wrong)
    chains = CHAINS if fault in QUICK else 4 * CHAINS
    assert np.abs(z_scores("plane", function, step, chains)).max() > 5


@pytest.mark.slow
def test_a_temperature_without_its_prior_is_caught():
    def step(target, rows, pilot, state):
        wrong = Target(target.shape - PRIOR[0], target.rate)
        return partition_gibbs.step(wrong, rows, pilot, state)

    assert np.abs(z_scores("plane", "visit", step)).max() > 8
