"""Outputs of the command line: nothing of the user's is lost, and nothing is half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bayesclust.cli import app

GEYSER = Path(__file__).parents[1] / "examples" / "data" / "old_faithful.csv"
FIT = ["fit", str(GEYSER), "--model", "kmeans", "-k", "2", "--standardize", "--out"]


def run(arguments: list[str], code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("name", ["scores.csv", "model.nc"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_directory_is_never_replaced(tmp_path: Path, name: str, force: list[str]) -> None:
    taken = tmp_path / "out" / name
    taken.mkdir(parents=True)
    (taken / "mine").write_text("keep")
    assert f"{taken} is a directory" in run([*FIT, str(tmp_path / "out"), *force], 2)
    assert (taken / "mine").read_text() == "keep"
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]


def test_a_file_that_appears_during_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bayesclust.estimators import KMeans

    out = tmp_path / "out"
    real = KMeans.fit

    def slow(self, X):
        fitted = real(self, X)
        out.mkdir()
        (out / "model.nc").write_text("of another run")
        return fitted

    monkeypatch.setattr(KMeans, "fit", slow)
    assert "model.nc exists already" in run([*FIT, str(out)], 2)
    assert {p.name: p.read_text() for p in out.iterdir()} == {"model.nc": "of another run"}


def test_links_and_modes_are_respected(tmp_path: Path) -> None:
    out, real = tmp_path / "out", tmp_path / "elsewhere.csv"
    out.mkdir()
    real.write_text("")
    real.chmod(0o640)
    (out / "scores.csv").symlink_to(real)
    run([*FIT, str(out), "--force"])
    assert (out / "scores.csv").is_symlink()
    assert len(pd.read_csv(real)) == 272
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk(tmp_path: Path) -> None:
    """One line, exit code 2, nothing left, for the model and for the table."""
    program = [sys.executable, "-m", "bayesclust.cli"]
    limited = ["bash", "-c", 'ulimit -f 12; exec "$@"', "bash", *program]
    # Programs that cannot be kept either are nobody's concern.
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}
    out = tmp_path / "out"
    done = subprocess.run(
        [*limited, *FIT, str(out)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"bayesclust: cannot write {out}")
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()
