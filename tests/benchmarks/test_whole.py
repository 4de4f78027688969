"""Whole jobs: small default fits, bootstrap, scoring, cold start, memory."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import sklearn.mixture

from bayesclust import GaussianMixture
from tests.benchmarks.conftest import Report, data, timed

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("n", [150, 2000])
def test_small_mixture(report: Report, n: int) -> None:
    X = data(n, 4, 3)
    ours, theirs = GaussianMixture(3, random_state=0), sklearn.mixture.GaussianMixture(3)
    theirs.set_params(random_state=0)
    gap = ours.fit(X).score(X) - theirs.fit(X).score(X)
    report.ratio(
        f"GaussianMixture(3).fit with default settings, n = {n}, d = 4",
        lambda: timed(lambda: ours.fit(X))[0],
        lambda: timed(lambda: theirs.fit(X))[0],
        f"mean log likelihood {gap:+.4f}; {ours.n_iter_} and {theirs.n_iter_} steps",
        repeats=9,
    )


def test_bootstrap(report: Report) -> None:
    X = data(1000, 2, 3)
    ours = GaussianMixture(3, uncertainty="bootstrap", num_draws=500, random_state=0)
    theirs = sklearn.mixture.GaussianMixture(3, random_state=0)
    ours.fit(X)
    pairs = [(timed(lambda: ours.fit(X))[0], timed(lambda: theirs.fit(X))[0]) for _ in range(7)]
    own, peer = np.median(pairs, axis=0)
    converged = float(np.mean(ours.clustering_.draws.flags["converged"]))
    report.note(
        f"| fit and 500 bootstrap refits, full, n = 1000, d = 2, k = 3 | {own * 1e3:.4g} | "
        f"{peer * 1e3:.3g} (one fit) | {own / peer:.1f} times one fit of theirs | "
        f"{converged:.0%} converged |"
    )


@pytest.mark.parametrize("n", [1_000_000])
def test_predict_proba(report: Report, n: int) -> None:
    X = data(n, 16, 10)
    ours = GaussianMixture(10, max_iter=3, random_state=0).fit(X[:20_000])
    theirs = sklearn.mixture.GaussianMixture(10)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(theirs, name, getattr(ours, name))
    ours_p, theirs_p = ours.predict_proba(X), theirs.predict_proba(X)
    gap = np.abs(ours_p - theirs_p).max()
    assert gap < 1e-3
    report.ratio(
        f"predict_proba, full, ({n}, 16, 10)",
        lambda: timed(lambda: ours.predict_proba(X))[0],
        lambda: timed(lambda: theirs.predict_proba(X))[0],
        f"largest difference {gap:.0e}",
        repeats=3,
    )


FIRST = """
import time; t = time.perf_counter()
import numpy as np
X = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
X[:50] += 4; X[50:100] -= 4
from {module} import {name}
{name}(3, random_state=0).fit(X)
print(time.perf_counter() - t)
"""


def first_result(module: str, name: str, cache: str) -> float:
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    env |= {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    code = FIRST.format(module=module, name=name)
    out = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return float(out.stdout)


@pytest.mark.parametrize("name", ["KMeans", "GaussianMixture"])
def test_first_result(report: Report, name: str, tmp_path: object) -> None:
    peer_module = "sklearn.cluster" if name == "KMeans" else "sklearn.mixture"
    warm_dir = str(tmp_path / "warm")
    first_result("bayesclust", name, warm_dir)
    rows = []
    for i in range(5):
        cold = first_result("bayesclust", name, str(tmp_path / f"cold{i}"))
        warm = first_result("bayesclust", name, warm_dir)
        rows.append((cold, warm, first_result(peer_module, name, warm_dir)))
    cold, warm, peer = np.median(rows, axis=0)
    report.note(
        f"| first {name} result in a new process, n = 150, cache warm / cold | "
        f"{warm * 1e3:.4g} / {cold * 1e3:.4g} | {peer * 1e3:.4g} | takes {warm / peer:.2f} / "
        f"{cold / peer:.2f} times theirs | |"
    )


MEMORY = """
import ctypes, gc, warnings; warnings.simplefilter("ignore")
import numpy as np
from bayesclust import {name}
def make(n):
    out = np.empty((n, 16), np.float32)
    rng = np.random.default_rng(0)
    for i in range(0, n, 10_000):
        out[i:i + 10_000] = rng.normal(size=(10_000, 16)) + rng.integers(0, 4, (10_000, 1))
    return out
X = make(1_000_000)
# Warm: what the compiler needs once is no part of it.
{name}(10, max_iter=3, random_state=0, n_init=1).fit(X)
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
now = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
resident = now()
open("/proc/self/clear_refs", "w").write("5")
{name}(10, max_iter=3, random_state=0, n_init=1).fit(X)
high = [l for l in open("/proc/self/status") if l.startswith("VmHWM")][0]
print((int(high.split()[1]) * 1024 - resident) / X.nbytes)
"""


@pytest.mark.parametrize("name", ["KMeans", "GaussianMixture"])
def test_memory(report: Report, name: str) -> None:
    out = subprocess.run(
        [sys.executable, "-c", MEMORY.format(name=name)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    report.note(
        f"| peak memory of a warm {name} fit beyond 1e6 x 16 float32 data | | | "
        f"{float(out.stdout):.2f} times the data | |"
    )
