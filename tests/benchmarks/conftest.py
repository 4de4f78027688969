"""Benchmarks beside scikit-learn in one run: interleaved, medians, quality recorded.

Run them with ``python -m pytest tests/benchmarks -m benchmark -q -s``. They assert the quality of
the results only; the figures are printed, and collected into the table of docs/benchmarks.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest


def data(n: int, d: int, k: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Overlapping blobs: iterations do not end early."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d)) * 2.0 / np.sqrt(d) * 1.5
    X = rng.normal(size=(n, d)).astype(dtype)
    X += centers[rng.integers(0, k, n)].astype(dtype)
    return X


def start_rows(X: np.ndarray, k: int, seed: int = 1) -> np.ndarray:
    """Distinct rows to begin at."""
    return X[np.random.default_rng(seed).choice(len(X), k, replace=False)].copy()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call."""
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


class Report:
    """Rows of the figures table."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def ratio(
        self,
        what: str,
        ours: Callable[[], float],
        theirs: Callable[[], float],
        quality: str = "",
        repeats: int = 5,
    ) -> float:
        """Time both in turn; the median of the pairwise ratios theirs / ours."""
        ours()
        theirs()
        pairs = [(ours(), theirs()) for _ in range(repeats)]
        ratios = sorted(t / o for o, t in pairs)
        middle = statistics.median(ratios)
        own = statistics.median(o for o, _ in pairs)
        peer = statistics.median(t for _, t in pairs)
        row = (
            f"| {what} | {own * 1e3:.3g} | {peer * 1e3:.3g} | {middle:.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {quality} |"
        )
        self.rows.append(row)
        print(row, flush=True)
        return middle

    def note(self, row: str) -> None:
        """A figure that is no ratio of times."""
        self.rows.append(row)
        print(row, flush=True)


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """The table, printed whole at the end."""
    found = Report()
    yield found
    print("\n| what | ours, ms | scikit-learn, ms | ratio (range) | quality |")
    print("|---|---|---|---|---|")
    print("\n".join(found.rows))
