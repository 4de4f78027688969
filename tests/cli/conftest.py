"""Two clusters of sixty rows, and what the command line makes of a file that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bayesclust.cli import app

N = 60


@pytest.fixture(scope="session")
def values() -> np.ndarray:
    """Rows ``(60, 2)`` with three decimals: thirty near (0, 0), then thirty near (8, 8)."""
    rng = np.random.default_rng(0)
    centres = np.repeat([0.0, 8.0], N // 2)[:, None]
    return (centres + rng.normal(size=(N, 2))).round(3)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., tuple[str, Path]]:
    """Run `bayesclust fit` on a file's bytes or text: what it prints, and where it writes."""

    def run(data: bytes | str, *options: str, name: str = "rows.csv") -> tuple[str, Path]:
        source, out = tmp_path / name, tmp_path / "out"
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        arguments = ["fit", source, "-k", "2", "--model", "kmeans", "--out", out, *options]
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout, out

    return run


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., str]:
    """Run `bayesclust fit` on what it must refuse: its one line, nothing written."""

    def run(data: bytes | str, *options: str, name: str = "rows.csv") -> str:
        source, out = tmp_path / name, tmp_path / "out"
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        arguments = ["fit", source, "-k", "2", "--out", out, *options]
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        line = result.stderr
        assert line.count("\n") == 1, line
        assert line.startswith("bayesclust: ")
        assert not out.exists()
        return line

    return run


def halves(scores: pd.DataFrame, cluster: str = "cluster") -> None:
    """Both halves of the rows found, none of them lost, doubled or out of order."""
    assert list(scores[cluster]) == [0] * (N // 2) + [1] * (N // 2)
