"""EM, per iteration, at the same start and the same number of iterations."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.mixture

from bayesclust import GaussianMixture
from tests.benchmarks.conftest import Report, data, start_rows, timed

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

CELLS = [(10_000, 2, 3), (100_000, 2, 8), (100_000, 16, 10), (1_000_000, 8, 10)]
WIDE = [(100_000, 50, 20), (20_000, 100, 5)]


def options(X: np.ndarray, k: int, kind: str) -> dict[str, Any]:
    variance = X.var(axis=0, dtype=np.float64)
    precisions = {
        "full": np.tile(np.diag(1 / variance), (k, 1, 1)),
        "tied": np.diag(1 / variance),
        "diag": np.tile(1 / variance, (k, 1)),
        "spherical": np.full(k, 1 / variance.mean()),
    }[kind]
    return {
        "n_components": k,
        "covariance_type": kind,
        "means_init": start_rows(X, k).astype(np.float64),
        "weights_init": np.full(k, 1 / k),
        "precisions_init": precisions.astype(X.dtype).astype(np.float64),
        "tol": 0.0,
        "reg_covar": 0.0,
    }


def per_iteration(make: Any, X: np.ndarray, settings: dict[str, Any], steps: int) -> Any:
    """Marginal seconds per iteration: a long fit less a short one."""

    def once() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            short, first = timed(lambda: make(**settings, max_iter=2).fit(X))
            long, second = timed(lambda: make(**settings, max_iter=2 + steps).fit(X))
        return (long - short) / max(second.n_iter_ - first.n_iter_, 1)

    return once


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["full", "diag", "spherical", "tied"])
@pytest.mark.parametrize("cell", CELLS + WIDE, ids=str)
def test_em_iteration(report: Report, cell: tuple[int, int, int], kind: str, dtype: str) -> None:
    n, d, k = cell
    X = data(n, d, k, np.dtype(dtype))
    settings = options(X, k, kind)
    work = n * k * d * (d if kind == "full" else 1)
    steps = int(np.clip(1e9 / work, 6, 40))  # few would drown in the noise of what is left out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = GaussianMixture(**settings, max_iter=4).fit(X)
        theirs = sklearn.mixture.GaussianMixture(**settings, max_iter=4).fit(X)
    gap = float(np.abs(ours.means_ - theirs.means_).max() / np.abs(theirs.means_).max())
    assert gap < (2e-2 if dtype == "float32" else 1e-8)
    report.ratio(
        f"EM {kind}, {dtype}, {cell}, per iteration",
        per_iteration(GaussianMixture, X, settings, steps),
        per_iteration(sklearn.mixture.GaussianMixture, X, settings, steps),
        f"means agree to {gap:.0e}",
        repeats=5 if work < 3e8 else 3,
    )
