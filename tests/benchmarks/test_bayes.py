"""Bayesian engines: Gibbs beside NUTS and EM, CAVI beside scikit-learn, large fits and scoring."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.mixture import BayesianGaussianMixture

from bayesclust import BayesianMixture, FullGaussian, Mixture
from bayesclust.engines import CAVI, EM, NUTS, Gibbs, Given
from bayesclust.families import NormalInverseWishart
from bayesclust.posterior import diagnostics
from bayesclust.weights import Dirichlet
from tests.benchmarks.conftest import Report, data, start_rows, timed

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

QUANTITIES = ["log_likelihood", "log_posterior", "weight_entropy", "weight_sum_of_squares"]


def blobs(n: int, d: int, k: int) -> np.ndarray:
    """Clusters that touch but do not swap."""
    rng = np.random.default_rng(0)
    centers = np.stack([4.0 * np.arange(k), np.tile([0.0, 3.0], k)[:k]], axis=1)
    return (centers[np.arange(n) % k] + rng.normal(size=(n, d))).astype(np.float32)


def after_warmup(engine: Any, X: np.ndarray, k: int, seed: int) -> tuple[float, Any]:
    """Seconds from the end of the warm-up to the end, compilation and start apart."""
    marks: dict[int, float] = {}

    def watch(done: int, total: int) -> None:
        marks[done] = time.perf_counter()

    draws = engine.run(jax.random.key(seed), Mixture(FullGaussian(), k), X, progress=watch)
    return max(marks.values()) - marks[engine.num_warmup], draws


def ess_per_second(engine: Any, X: np.ndarray, k: int, seed: int) -> float:
    seconds, draws = after_warmup(engine, X, k, seed)
    table = diagnostics.table({n: draws.stats[n] for n in QUANTITIES})
    assert table["r_hat"].max() < 1.1
    return float(table["ess_bulk"].min()) / seconds


@pytest.mark.parametrize("n", [1000, 10_000])
def test_gibbs_beside_nuts(report: Report, n: int) -> None:
    X = blobs(n, 2, 3)
    repeats = 3 if n == 1000 else 2
    pairs = []
    for seed in range(repeats):
        own = ess_per_second(Gibbs(500, 1000, 4), X, 3, seed)
        peer = ess_per_second(NUTS(300, 300 if n == 1000 else 100, 4), X, 3, seed)
        pairs.append((own, peer))
    own, peer = np.median(pairs, axis=0)
    ratios = sorted(o / p for o, p in pairs)
    report.note(
        f"| Gibbs beside NUTS, effective draws per second, 3 components, d = 2, n = {n} | "
        f"{own:.3g}/s | {peer:.3g}/s (NUTS) | {np.median(ratios):.1f} "
        f"({ratios[0]:.1f} to {ratios[-1]:.1f}) | least of {len(QUANTITIES)} quantities |"
    )


@pytest.mark.parametrize("n", [1000, 10_000])
def test_sweep_beside_em(report: Report, n: int) -> None:
    X = blobs(n, 2, 3)
    start = Given(
        {"mean": start_rows(X - X.mean(0), 3), "cov": np.tile(np.eye(2, dtype="f"), (3, 1, 1))},
        np.log(np.full(3, 1 / 3, "f")),
    )
    mixture = Mixture(FullGaussian(), 3)
    steps = 2000 if n == 1000 else 500

    def sweep() -> float:
        return after_warmup(Gibbs(100, steps, 1), X, 3, 0)[0] / steps

    def iteration() -> float:
        def fit(max_iter: int) -> Any:
            engine = EM(tol=-1.0, max_iter=max_iter)
            draws = engine.run(jax.random.key(0), mixture, X, start=start)
            return int(draws.stats["n_steps"][0, 0])

        fit(2), fit(2 + steps)
        # What does not grow with iterations is subtracted; the least of some is free of hiccups.
        short, first = min(timed(lambda: fit(2)) for _ in range(5))
        long, second = min(timed(lambda: fit(2 + steps)) for _ in range(3))
        return (long - short) / max(second - first, 1)

    pairs = [(sweep(), iteration()) for _ in range(5)]
    ratios = sorted(s / i for s, i in pairs)
    own, peer = np.median(pairs, axis=0)
    report.note(
        f"| Gibbs sweep over EM iteration, full, n = {n}, d = 2, k = 3 | {own * 1e3:.3g} | "
        f"{peer * 1e3:.3g} (our EM) | {np.median(ratios):.2f} times "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | one chain |"
    )


@pytest.mark.parametrize("n", [10_000, 100_000])
def test_cavi(report: Report, n: int) -> None:
    d, k, steps = 2, 8, 30
    X = data(n, d, k, np.float64)
    X -= X.mean(0)
    prior = NormalInverseWishart(np.zeros(d), 0.5, d + 2.0, np.eye(d))
    params = {"mean": start_rows(X, k), "cov": np.tile(np.eye(d), (k, 1, 1))}
    log_weights = np.log(np.full(k, 1 / k))
    mixture = Mixture(FullGaussian(prior=prior), k, Dirichlet(1.0))
    engine = CAVI(tol=0.0, max_iter=steps + 1, num_draws=1)

    def ours() -> Any:
        start = Given(params, log_weights)
        return engine.run(jax.random.key(0), mixture, X, start=start)

    with jax.enable_x64(True):
        resp = np.asarray(Mixture(FullGaussian(), k).responsibilities(params, log_weights, X))

    def theirs() -> Any:
        model = BayesianGaussianMixture(
            n_components=k, covariance_prior=prior.scale, mean_prior=prior.mean,
            mean_precision_prior=0.5, degrees_of_freedom_prior=d + 2.0,
            weight_concentration_prior_type="dirichlet_distribution",
            weight_concentration_prior=1.0, reg_covar=0, tol=0, max_iter=steps,
        )  # fmt: skip
        model._initialize_parameters = lambda X, *a, **kw: model._initialize(X, resp)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(X)

    report.ratio(
        f"CAVI, whole fit of {steps} steps, full, float64, ({n}, {d}, {k})",
        lambda: timed(ours)[0],
        lambda: timed(theirs)[0],
        "same start and prior",
        repeats=5 if n < 50_000 else 3,
    )


PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
"""
"""Greatest memory of this program; what `resource` tells goes back to the one that began it."""

LARGE = (
    PEAK
    + """
import time
import jax, numpy as np
from bayesclust import FullGaussian, Mixture
from bayesclust.engines import Gibbs
from tests.benchmarks.conftest import data
X = data(1_000_000, 8, 10)
Gibbs(2, 2, 2).run(jax.random.key(0), Mixture(FullGaussian(), 10), X[:4096])
before = peak()
begin = time.perf_counter()
draws = Gibbs(100, 400, 2).run(jax.random.key(0), Mixture(FullGaussian(), 10), X)
seconds = time.perf_counter() - begin
after = peak()
assert np.isfinite(draws.stats["log_posterior"]).all()
print(seconds, (after - before) / 1024, X.nbytes / 2**20)
"""
)


def test_a_million_rows(report: Report) -> None:
    out = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    seconds, extra, size = (float(v) for v in out.stdout.split())
    assert extra < 2 * size + 1024
    report.note(
        f"| Gibbs, 500 sweeps of 2 chains, (1e6, 8, 10) | {seconds * 1e3:.4g} | - | "
        f"{seconds / 500 * 1e3:.0f} ms per sweep of both | {extra:.0f} MB beyond {size:.0f} MB |"
    )


SCORING = (
    PEAK
    + """
import time
import numpy as np
from bayesclust import BayesianMixture
from bayesclust.engines import Gibbs
from tests.benchmarks.test_bayes import blobs
model = BayesianMixture(3, engine=Gibbs(200, 500, 2), random_state=0).fit(blobs(1000, 2, 3))
new = blobs(1_000_000, 2, 3)
model.membership(new[:20_000])
before = peak()
begin = time.perf_counter()
model.predict_proba(new)
middle = time.perf_counter()
model.membership(new)
end = time.perf_counter()
after = peak()
print(middle - begin, end - middle, (after - before) / 1024)
"""
)


def test_scoring_a_million_rows(report: Report) -> None:
    out = subprocess.run(
        [sys.executable, "-c", SCORING], capture_output=True, text=True, check=True
    )
    probability, everything, extra = (float(v) for v in out.stdout.split())
    assert extra < 2048
    report.note(
        f"| 1e6 rows x 1000 draws, d = 2, k = 3: `predict_proba` / `membership` | "
        f"{probability * 1e3:.4g} / {everything * 1e3:.4g} | - | - | {extra:.0f} MB extra |"
    )


def test_interface(report: Report) -> None:
    """What the estimator adds to the engine."""
    X = blobs(1000, 2, 3)
    model = BayesianMixture(3, random_state=0).fit(X)
    seconds, _ = timed(lambda: model.fit(X))
    report.note(
        f"| BayesianMixture(3).fit, default, n = 1000, d = 2 | {seconds * 1e3:.4g} | - | - | - |"
    )
