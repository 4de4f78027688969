"""K-means: whole fits at the same start and iterations, and seeding."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest
import sklearn.cluster

from bayesclust import KMeans
from bayesclust.core.rows import pack_host
from bayesclust.core.units import natural_units
from bayesclust.kmeans.lloyd import lloyd_block
from bayesclust.kmeans.restarts import seed_program
from tests.benchmarks.conftest import Report, data, start_rows, timed

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

CELLS = [
    (10_000, 2, 3),
    (100_000, 16, 10),
    (100_000, 50, 100),
    (1_000_000, 2, 8),
    (1_000_000, 16, 10),
    (1_000_000, 16, 100),
    (200_000, 128, 256),
    (50_000, 784, 10),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_lloyd_whole_fit(report: Report, cell: tuple[int, int, int], dtype: str) -> None:
    n, d, k = cell
    X = data(n, d, k, np.dtype(dtype))
    steps = 20 if n * d * k < 5e8 else 8
    settings = {
        "n_clusters": k, "init": start_rows(X, k), "n_init": 1, "max_iter": steps, "tol": 0.0
    }  # fmt: skip

    def fit(make: type) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(**settings).fit(X)

    ours, theirs = fit(KMeans), fit(sklearn.cluster.KMeans)
    gap = abs(ours.inertia_ / theirs.inertia_ - 1)
    assert gap < 1e-3
    assert ours.n_iter_ == theirs.n_iter_ or theirs.n_iter_ < steps
    report.ratio(
        f"Lloyd, {dtype}, {cell}, whole fit of {ours.n_iter_} steps",
        lambda: timed(lambda: fit(KMeans))[0],
        lambda: timed(lambda: fit(sklearn.cluster.KMeans))[0],
        f"inertia agrees to {gap:.0e}",
    )


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_seeding(report: Report, cell: tuple[int, int, int]) -> None:
    n, d, k = cell
    X = data(n, d, k)
    units = natural_units(X)
    rows = pack_host(X, shift=units.shift, scale=units.scale, block=lloyd_block(n, k, d, X.dtype))
    seeds = iter(range(10_000))

    def inertia(centers: np.ndarray) -> float:
        sample = X[:: max(1, n // 5000)]
        return float(((sample[:, None] - centers) ** 2).sum(-1).min(1).sum()) if k < 50 else 0.0

    from bayesclust.kmeans.seeding import greedy

    def ours() -> np.ndarray:
        key = jax.random.key(next(seeds))
        return units.outward(np.asarray(seed_program(greedy, key, rows, k, False)))

    def theirs() -> np.ndarray:
        return sklearn.cluster.kmeans_plusplus(X, k, random_state=next(seeds))[0]

    own = np.median([inertia(ours()) for _ in range(5)])
    peer = np.median([inertia(theirs()) for _ in range(3)])
    quality = f"sampled inertia {own / peer:.3f} of theirs" if k < 50 else ""
    assert k >= 50 or own < 1.15 * peer
    report.ratio(
        f"k-means++, {cell}",
        lambda: timed(ours)[0],
        lambda: timed(theirs)[0],
        quality,
        repeats=3,
    )


@pytest.mark.parametrize("n", [150, 2000])
def test_small_fit(report: Report, n: int) -> None:
    X = data(n, 4, 3)

    def fit(make: type) -> object:
        return make(3, n_init=10, random_state=0).fit(X)

    ratio = fit(KMeans).inertia_ / fit(sklearn.cluster.KMeans).inertia_
    assert ratio < 1.01
    report.ratio(
        f"KMeans(3, n_init=10).fit, n = {n}, d = 4",
        lambda: timed(lambda: fit(KMeans))[0],
        lambda: timed(lambda: fit(sklearn.cluster.KMeans))[0],
        f"inertia {ratio:.4f} of theirs",
        repeats=9,
    )
