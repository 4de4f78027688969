"""A forked child of a process that has used JAX says at once that it cannot compute."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from bayesclust import (
    EM,
    BayesianMixture,
    Bootstrap,
    FullGaussian,
    GaussianMixture,
    Gibbs,
    KMeans,
    MiniBatchKMeans,
    Mixture,
    kmeans,
)

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes do not fork here"
)
X = np.random.default_rng(0).normal(size=(60, 2))


def tries(fitted: GaussianMixture, means: KMeans) -> dict[str, Any]:
    key = jax.random.key(0)
    mixture = Mixture(FullGaussian(), 2)
    return {
        "predict": lambda: fitted.predict(X),
        "predict_proba": lambda: fitted.predict_proba(X),
        "scorecard": lambda: fitted.scorecard(X),
        "score": lambda: fitted.score(X),
        "icl": lambda: fitted.icl(X),
        "sample": lambda: fitted.sample(3),
        "posterior_": lambda: fitted.posterior_,
        "transform": lambda: means.transform(X),
        "summary": lambda: means.summary(),
        "label_draws": lambda: means.clustering_.label_draws(X),
        "log_likelihood": lambda: means.clustering_.log_likelihood(X),
        "KMeans.fit": lambda: KMeans(2).fit(X),
        "MiniBatchKMeans.partial_fit": lambda: MiniBatchKMeans(2).partial_fit(X),
        "GaussianMixture.fit": lambda: GaussianMixture(2).fit(X),
        "BayesianMixture.fit": lambda: BayesianMixture(2).fit(X),
        "kmeans.fit": lambda: kmeans.fit(key, X, 2),
        "kmeans.assign": lambda: kmeans.assign(X, X[:2]),
        "EM": lambda: EM().run(key, mixture, X),
        "Bootstrap": lambda: Bootstrap(EM()).run(key, mixture, X),
        "Gibbs": lambda: Gibbs().run(key, mixture, X),
    }


def answer(calls: dict[str, Any], out: Any) -> None:
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            out.send((name, type(error).__name__, str(error)))
        else:
            out.send((name, "answered", ""))
    out.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_are_told_at_once() -> None:
    calls = tries(GaussianMixture(2, random_state=0).fit(X), KMeans(2, random_state=0).fit(X))
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(calls, there))
    child.start()
    there.close()
    try:
        for name in calls:
            assert here.poll(60), f"{name} waits for ever"
            found, kind, text = here.recv()
            assert (found, kind) == (name, "RuntimeError")
            assert "spawn" in text and "forkserver" in text
    finally:
        child.kill()
        child.join()
    assert GaussianMixture(2, random_state=0).fit(X).predict(X).shape == (60,)  # here all is well


def test_a_child_of_a_process_that_has_only_loaded_the_package_computes() -> None:
    script = """
import os
import numpy as np
import bayesclust
child = os.fork()
if child:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
X = np.array([[0.0], [0.2], [9.8], [10.0]])
assert bayesclust.KMeans(2, random_state=0).fit(X).predict(X).tolist() == [0, 0, 1, 1]
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_jax_tells_whether_it_has_been_used() -> None:
    """Else every forked child would be refused."""
    from jax._src import xla_bridge

    assert xla_bridge.backends_are_initialized() in (True, False)
