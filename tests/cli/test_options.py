"""Options without effect are refused, notes speak of options, the model holds what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import bayesclust
from bayesclust.cli import app

GEYSER = Path(__file__).parents[2] / "examples" / "data" / "old_faithful.csv"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def text(values: np.ndarray) -> str:
    return pd.DataFrame(values, columns=["a", "b"]).to_csv(index=False)


NO_EFFECT = {
    "kmeans": [
        ["--covariance", "diag"],
        ["--engine", "nuts"],
        ["--engine", "gibbs"],  # given, even if it is what would be taken
        ["--prior", "hierarchical"],
        ["--chains", "3"],
        ["--warmup", "100"],
        ["--draws", "50"],
        ["--level", "0.5"],
    ],
    "gmm": [
        ["--engine", "nuts"],
        ["--prior", "conjugate"],
        ["--chains", "3"],
        ["--warmup", "100"],
        ["--draws", "50"],
        ["--level", "0.5"],
        ["--uncertainty", "gibbs"],
    ],
    "bayes": [
        ["--uncertainty", "bootstrap"],
        ["--init", "random"],
        ["--starts", "3"],
        ["--max-iter", "100"],
        ["--max-iter", "100", "--engine", "nuts"],
        ["--chains", "3", "--engine", "svi"],
        ["--chains", "3", "--engine", "cavi"],
        ["--warmup", "100", "--engine", "cavi"],
        ["--prior", "hierarchical", "--engine", "cavi"],
    ],
}


@pytest.mark.parametrize(
    ("model", "options"), [(m, o) for m, some in NO_EFFECT.items() for o in some]
)
def test_without_effect(model: str, options: list[str], text: str, refuse: Any) -> None:
    line = refuse(text, "--model", model, *options)
    assert any(o in line for o in options if o.startswith("--"))


def test_several_without_effect(text: str, refuse: Any) -> None:
    """The command of the report."""
    options = ["--prior", "hierarchical", "--engine", "nuts", "--chains", "3"]
    assert "--model bayes" in refuse(text, "--model", "gmm", *options)


@pytest.mark.parametrize(
    ("model", "init"), [("kmeans", "kmeans"), ("gmm", "x"), ("gmm", "kmeans,x"), ("gmm", "")]
)
def test_unknown_starts(model: str, init: str, text: str, refuse: Any) -> None:
    assert "--init" in refuse(text, "--model", model, "--init", init)


def test_level_needs_draws_when_scoring(text: str, fit: Any, tmp_path: Path) -> None:
    _, out = fit(text)
    target = tmp_path / "s.csv"
    result = run("score", out / "model.nc", out / "scores.csv", "--out", target, "--level", 0.5)
    assert result.exit_code == 2
    assert "--level" in result.stderr
    result = run("score", out / "model.nc", out / "scores.csv", "--out", target, "--to", 7)
    assert result.exit_code == 2
    assert "--to 7" in result.stderr


def test_starts_are_counted(text: str, fit: Any) -> None:
    for model, kinds in (("kmeans", ["k-means++", "random"]), ("gmm", ["random_from_data"])):
        for kind in kinds:
            options = ["--model", model, "--init", kind, "--starts", "3", "--force"]
            printed, _ = fit(text, *options)
            found = re.search(r"starts: (\d) of 3 reached the best objective", printed)
            assert found is not None
            assert 1 <= int(found[1]) <= 3
    printed, _ = fit(text, "--starts", "1", "--force")
    assert "starts:" not in printed


def test_notes_name_options(values: np.ndarray, fit: Any) -> None:
    wide = pd.DataFrame(values * [1, 1000], columns=["a", "b"]).to_csv(index=False)
    printed, _ = fit(wide)
    assert "note:" in printed
    assert "--standardize" in printed
    assert "standardize=True" not in printed
    printed, _ = fit(wide, "--standardize", "--max-iter", "1", "--init", "random", "--force")
    assert "raise --max-iter" in printed
    assert "max_iter" not in printed
    again, _ = fit(wide, "--standardize", "--model", "gmm", "--max-iter", "1", "--force")
    assert "--max-iter" in again
    assert not re.search(r"max_iter|n_init|n_components", again)


def test_few_draws_name_options(text: str, fit: Any) -> None:
    options = ["--model", "bayes", "--draws", "40", "--warmup", "20"]
    printed, _ = fit(text, *options, "--chains", "2")
    assert "raise --draws" in printed
    assert "num_draws" not in printed
    single, _ = fit(text, *options, "--chains", "1", "--force")
    assert "one chain" in single
    assert "nan" not in single


def test_rows_stay_out_of_the_model(text: str, values: np.ndarray, fit: Any) -> None:
    printed, out = fit(text)
    assert "no rows of the data" in printed
    assert not _holds(out / "model.nc", values)
    size = (out / "model.nc").stat().st_size
    printed, out = fit(text, "--keep-rows", "--force")
    assert "the rows of the data too" in printed
    assert _holds(out / "model.nc", values)
    assert (out / "model.nc").stat().st_size > size
    assert pd.read_csv(out / "scores.csv").shape[0] == 60


def _holds(path: Path, values: np.ndarray) -> bool:
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        arrays = [np.asarray(v) for node in tree.subtree for v in node.dataset.values()]
    columns = [a for a in arrays if 60 in a.shape and a.dtype.kind == "f"]
    return any(a.shape == values.shape and np.allclose(a, values) for a in columns)


def test_scores_need_no_rows(text: str, fit: Any, tmp_path: Path) -> None:
    """Ranks and tail probabilities among them."""
    _, out = fit(text)
    target, source = tmp_path / "again.csv", tmp_path / "source.csv"
    source.write_text(text)
    result = run("score", out / "model.nc", source, "--out", target)
    assert result.exit_code == 0, result.output
    assert target.read_bytes() == (out / "scores.csv").read_bytes()


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"bayesclust {bayesclust.__version__}\n"


def test_kmeans_shows_shares_and_no_minus_zero(values: np.ndarray, fit: Any) -> None:
    uneven = np.concatenate([values, values[:30] + 0.01])  # 60 against 30
    printed, out = fit(pd.DataFrame(uneven, columns=["a", "b"]).to_csv(index=False))
    assert "weight" not in printed
    head, *lines = printed.split("rows\n\n")[1].splitlines()
    assert head.split()[:4] == ["cluster", "size", "share", "membership"]
    assert [line.split()[1:3] for line in lines[1:3]] == [["60", "0.667"], ["30", "0.333"]]
    assert not re.search(r"(^|,)-0(\.0)?(,|$)", (out / "scores.csv").read_text(), re.M)


def test_a_row_unlike_any_cluster(fit: Any) -> None:
    """Sure of its cluster, and yet far from it: it is said."""
    rng = np.random.default_rng(5)
    rows = np.repeat([[0.0, 0.0], [8.0, 0.0]], 300, axis=0) + rng.normal(size=(600, 2))
    rows = np.vstack([rows, [[8.0, 40.0]]])
    names = [f"r{i}" for i in range(600)] + ["stray"]
    frame = pd.DataFrame({"who": names, "a": rows[:, 0], "b": rows[:, 1]})
    options = ["--model", "gmm", "--covariance", "tied", "--starts", "1"]
    printed, out = fit(frame.to_csv(index=False), *options)
    found = re.search(r"1 row is unlike any cluster\n\n.*\n.*\n\s*(\w+)", printed)
    assert found is not None
    assert found[1] == "stray"
    last = pd.read_csv(out / "scores.csv").iloc[-1]
    assert last["probability"] > 0.99
    assert last["tail_probability"] < 1e-4
    # And so it is of new rows.
    source = out / "new.csv"
    frame.iloc[-3:].to_csv(source, index=False)
    target = out / "scored.csv"
    result = run("score", out / "model.nc", source, "--out", target)
    assert result.exit_code == 0, result.output
    assert "1 row is unlike any cluster" in result.stdout
