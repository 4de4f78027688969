"""Diagnostics of chains: what only rounding moves is constant, and nothing is divided by zero."""

from __future__ import annotations

import numpy as np
import pytest

from bayesclust.posterior.diagnostics import doubts, modes, table

RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(4, 500))


@pytest.mark.parametrize("level", [0.1, 1e6, -3e-9, 0.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_is_no_movement(level: float, dtype: type) -> None:
    steps = RNG.integers(-3, 4, size=(4, 500))
    wobbling = (level * (1 + steps * np.finfo(dtype).eps)).astype(dtype)
    assert list(table({"wobbling": wobbling, "mixed": MIXED}).index) == ["mixed"]
    assert doubts({"wobbling": wobbling, "mixed": MIXED}) == []


@pytest.mark.parametrize("offset", [1e3, 1e9])
def test_movement_is_seen_beside_a_large_level(offset: float) -> None:
    """The figures are those without the level, which no R-hat and no effective size depends on."""
    away, here = table({"x": MIXED + offset}).loc["x"], table({"x": MIXED}).loc["x"]
    assert away["r_hat"] == pytest.approx(here["r_hat"], rel=1e-3)
    assert away["ess_bulk"] == pytest.approx(here["ess_bulk"], rel=1e-2)


def test_chains_that_stand_still_apart() -> None:
    """Without movement inside chains R-hat, between over within, is infinite."""
    still = np.repeat([[0.1], [0.1], [0.3], [0.3]], 500, axis=1)
    still = still * (1 + RNG.integers(-1, 2, size=still.shape) * np.finfo(float).eps)
    found = table({"still": still, "mixed": MIXED})
    assert found.loc["still", "r_hat"] == np.inf
    assert found.loc["still", "ess_bulk"] == 4
    assert found.loc["mixed", "r_hat"] < 1.02
    assert modes({"still": still, "mixed": MIXED}) == [[0, 1], [2, 3]]
    assert "different modes" in doubts({"still": still, "mixed": MIXED})[0]
