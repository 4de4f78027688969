"""A second fit costs no compilation: only shapes, buckets and counts are part of a program."""

import jax
import numpy as np
import pytest

from bayesclust import kmeans
from bayesclust.core import rows
from bayesclust.core.loop import _sweep
from bayesclust.core.rows import bucket
from bayesclust.engines import (
    CAVI,
    EM,
    NUTS,
    SVI,
    Bootstrap,
    Gibbs,
    Given,
    Lloyd,
    PartitionGibbs,
    SeededStart,
)
from bayesclust.families import FullGaussian, NormalInverseGamma, SphericalGaussian
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet
from tests.problems import FAMILIES, KEY, algorithm_at, blobs, packed, slowly

TRACING = "/jax/core/compile/jaxpr_trace_duration"
COMPILING = "/jax/core/compile/backend_compile_duration"
_events = []


def _listen(event, duration, **kwargs):
    if event in (TRACING, COMPILING):
        _events.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


def programs_built(call):
    """How many programs JAX traced or compiled during the call, whatever their kind."""
    _events.clear()
    call()
    return len(_events)


X, _ = blobs(260, dtype="float32")
FEWER = X[:257]
OTHER_KEY = jax.random.key(7)


@pytest.fixture(autouse=True)
def same_bucket():
    assert bucket(len(X)) == bucket(len(FEWER)) == 288
    assert bucket(290) == bucket(300)


def test_the_counter_counts():
    assert programs_built(lambda: jax.jit(lambda x: x * 3.25 + 1)(np.float32(2))) > 0


@pytest.mark.parametrize("init", [kmeans.greedy, kmeans.random_rows, X[:3]])
@pytest.mark.parametrize("n_init", [1, 3])
def test_kmeans(init, n_init):
    def fit(key, X, **settings):
        kmeans.fit(key, X, 3, init=init, n_init=n_init, **settings)

    fit(KEY, X)
    again = {
        "the same": lambda: fit(KEY, X),
        "key": lambda: fit(OTHER_KEY, X),
        "rows": lambda: fit(KEY, FEWER),
        "tol": lambda: fit(KEY, X, tol=0.125),
        "max_iter": lambda: fit(KEY, X, max_iter=290),
        "weights": lambda: fit(KEY, X, sample_weight=np.arange(260.0, dtype=np.float32)),
    }
    assert {what: programs_built(call) for what, call in again.items()} == dict.fromkeys(again, 0)


def test_kmeans_on_all_cores(monkeypatch):
    monkeypatch.setattr(rows, "PARALLEL_WORK", 1)
    monkeypatch.setattr(rows, "MAX_BLOCK", 256)
    monkeypatch.setattr(rows, "cores", lambda: 2)
    big, _ = blobs(1500, dtype="float32")

    def fit(key, X, **settings):
        kmeans.fit(key, X, 3, n_init=2, **settings)

    fit(KEY, big)
    again = {
        "key": lambda: fit(OTHER_KEY, big),
        "rows": lambda: fit(KEY, big[:1400]),
        "tol": lambda: fit(KEY, big, tol=0.125),
        "max_iter": lambda: fit(KEY, big, max_iter=290),
    }
    assert {what: programs_built(call) for what, call in again.items()} == dict.fromkeys(again, 0)


def test_assigning_new_rows():
    kmeans.assign(X, X[:3])
    assert programs_built(lambda: kmeans.assign(FEWER, X[5:8])) == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_em(name):
    def fit(X, key=KEY, ridge=1e-6, concentration=1.0, weight=None, **settings):
        mixture = Mixture(FAMILIES[name](ridge), 3, Dirichlet(concentration))
        EM(**settings).run(key, mixture, X, start=SeededStart(), sample_weight=weight)

    fit(X)
    again = {
        "the same": lambda: fit(X),
        "key": lambda: fit(X, OTHER_KEY),
        "rows": lambda: fit(FEWER),
        "tol": lambda: fit(X, tol=0.5),
        "max_iter": lambda: fit(X, max_iter=490),
        "ridge": lambda: fit(X, ridge=0.25),
        "concentration": lambda: fit(X, concentration=2.5),
        "weights": lambda: fit(X, weight=np.arange(260.0, dtype=np.float32)),
    }
    assert {what: programs_built(call) for what, call in again.items()} == dict.fromkeys(again, 0)


def test_em_from_a_kmeans_start_and_from_given_parameters():
    mixture = Mixture(FullGaussian(), 3)
    given = [{"mean": X[i : i + 3]} for i in (0, 50)]
    for start in (lambda i: None, lambda i: Given(given[i], otherwise=SeededStart())):
        EM().run(KEY, mixture, X, start=start(0))
        assert programs_built(lambda: EM().run(OTHER_KEY, mixture, FEWER, start=start(1))) == 0  # noqa: B023


@pytest.mark.parametrize("base", [Lloyd, EM])
def test_bootstrap(base):
    mixture = Mixture(FAMILIES["spherical"](), 3)
    start = base().run(KEY, mixture, X)

    def fit(X, key=KEY, ridge=1e-6, concentration=1.0, **settings):
        mixture = Mixture(FAMILIES["spherical"](ridge), 3, Dirichlet(concentration))
        Bootstrap(base(**settings), num_draws=12).run(key, mixture, X, start=start)

    fit(X)
    again = {
        "the same": lambda: fit(X),
        "key": lambda: fit(X, OTHER_KEY),
        "rows": lambda: fit(FEWER),
        "tol": lambda: fit(X, tol=0.5),
        "ridge": lambda: fit(X, ridge=0.25),
        "concentration": lambda: fit(X, concentration=2.5),
    }
    assert {what: programs_built(call) for what, call in again.items()} == dict.fromkeys(again, 0)


def test_another_share_of_the_blocks_runs_the_same_program():
    whole = packed(X, block=32)
    algorithm, state = algorithm_at("full", whole)
    _sweep(algorithm, state, whole)
    part = type(whole)(whole.x, whole.weight, np.int32(2), np.int32(5))
    assert programs_built(lambda: _sweep(algorithm, state, part)) == 0


BAYESIAN = {
    "gibbs": Gibbs(10, 10, 2),
    "gibbs of partitions": PartitionGibbs(num_warmup=10, num_draws=10, num_chains=2),
    "cavi": CAVI(num_draws=10),
    "nuts": NUTS(10, 10, 2),
    "svi": SVI(num_steps=10, num_draws=10),
}


@pytest.mark.parametrize("name", slowly(BAYESIAN, {"gibbs"}))
def test_bayesian_engines(name):
    def fit(X, key=KEY, concentration=1.0, scale=2.0, weight=None):
        prior = NormalInverseGamma(shape=scale)
        mixture = Mixture(SphericalGaussian(prior=prior), 2, Dirichlet(concentration))
        BAYESIAN[name].run(key, mixture, X, sample_weight=weight)

    fit(X)
    if name == "gibbs":  # rows that count repeatedly have a program of their own
        fit(X, weight=np.full(260, 3))
    again = {
        "the same": lambda: fit(X),
        "key": lambda: fit(X, OTHER_KEY),
        "rows": lambda: fit(FEWER),
        "absent rows": lambda: fit(X, weight=np.arange(260) % 2),
        "concentration": lambda: fit(X, concentration=2.5),
        "prior": lambda: fit(X, scale=3.0),
    }
    if name != "gibbs of partitions":  # there a weight of two is another row
        again["weights"] = lambda: fit(X, weight=np.arange(260.0, dtype=np.float32))
    assert {what: programs_built(call) for what, call in again.items()} == dict.fromkeys(again, 0)
