"""The command line: the main job, bad input, and outputs that appear whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bayesclust.cli import app, main

GEYSER = Path(__file__).parent.parent / "examples" / "data" / "old_faithful.csv"
run = CliRunner().invoke


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A mixture with bootstrap draws, fitted by the command line."""
    out = tmp_path_factory.mktemp("cli") / "fit"
    options = ["-k", "2", "--standardize", "--uncertainty", "bootstrap", "--draws", "20"]
    result = run(app, ["fit", str(GEYSER), *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, result.stdout


def refused(arguments, *words):
    """Exit code 2 and one line that holds the words."""
    result = run(app, [str(a) for a in arguments])
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_fit_prints_and_writes(fitted):
    out, printed = fitted
    assert "2 clusters of 272 rows" in printed
    assert "most doubtful rows" in printed
    assert "±" in printed
    scores = pd.read_csv(out / "scores.csv")
    assert len(scores) == 272
    assert {"eruptions", "waiting", "cluster", "probability", "lower"} <= set(scores.columns)
    assert (out / "model.nc").is_file()
    assert sorted(p.name for p in out.iterdir()) == ["model.nc", "scores.csv"]


def test_score_repeats_fit(fitted, tmp_path):
    out, _ = fitted
    again = tmp_path / "again.csv"
    result = run(app, ["score", str(out / "model.nc"), str(GEYSER), "--out", str(again)])
    assert result.exit_code == 0, result.output
    assert again.read_text() == (out / "scores.csv").read_text()


def test_same_seed_same_bytes(tmp_path):
    outs = []
    for name in ("a", "b"):
        arguments = ["fit", GEYSER, "--model", "kmeans", "-k", "3", "--standardize"]
        result = run(app, [*map(str, arguments), "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        outs.append((tmp_path / name / "scores.csv").read_bytes())
    assert outs[0] == outs[1]


def test_a_posterior_by_the_command_line(tmp_path):
    out = tmp_path / "out"
    options = ["-k", "2", "--standardize", "--model", "bayes", "--chains", "2", "--draws", "50"]
    result = run(app, ["fit", str(GEYSER), *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "±" in result.stdout
    assert "note: Only" in result.stdout  # fifty draws are few, and it says so
    scores = pd.read_csv(out / "scores.csv")
    assert (scores["upper"] >= scores["lower"]).all()
    again = tmp_path / "again.csv"
    result = run(app, ["score", str(out / "model.nc"), str(GEYSER), "--out", str(again)])
    assert result.exit_code == 0, result.output
    assert again.read_text() == (out / "scores.csv").read_text()
    other = ["--model", "bayes", "--uncertainty", "bootstrap", "--out", tmp_path / "other"]
    refused(["fit", GEYSER, "-k", "2", *other], "--uncertainty")


@pytest.mark.slow
def test_a_posterior_of_partitions_by_the_command_line(tmp_path):
    out = tmp_path / "out"
    options = ["-k", "2", "--standardize", "--uncertainty", "gibbs", "--draws", "50"]
    result = run(app, ["fit", str(GEYSER), *options, "--model", "kmeans", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "±" in result.stdout
    assert "note: Only" in result.stdout  # fifty draws of each chain are few
    scores = pd.read_csv(out / "scores.csv")
    assert (scores["upper"] > scores["lower"]).any()
    refused(["fit", GEYSER, *options, "--out", tmp_path / "other"], "--uncertainty gibbs")


def test_parquet_in_and_out(tmp_path):
    source = tmp_path / "rows.parquet"
    frame = pd.read_csv(GEYSER)
    frame["name"] = [f"e{i}" for i in range(len(frame))]
    frame.to_parquet(source)
    out = tmp_path / "out"
    options = ["--model", "kmeans", "-k", "2", "--standardize", "--out", str(out)]
    result = run(app, ["fit", str(source), *options])
    assert result.exit_code == 0, result.output
    assert "left out, not numeric: name" in result.stdout
    scores = pd.read_parquet(out / "scores.parquet")
    assert list(scores["name"]) == list(frame["name"])
    target = tmp_path / "scored.parquet"
    result = run(app, ["score", str(out / "model.nc"), str(source), "--out", str(target)])
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(pd.read_parquet(target), scores)


def test_nothing_is_overwritten_without_force(fitted, tmp_path):
    out, _ = fitted
    before = (out / "scores.csv").read_bytes()
    refused(["fit", GEYSER, "-k", "2", "--out", out], "exists", "--force")
    assert (out / "scores.csv").read_bytes() == before
    target = tmp_path / "s.csv"
    target.write_text("mine")
    refused(["score", out / "model.nc", GEYSER, "--out", target], "exists", "--force")
    assert target.read_text() == "mine"
    result = run(
        app, ["score", str(out / "model.nc"), str(GEYSER), "--out", str(target), "--force"]
    )
    assert result.exit_code == 0
    assert len(pd.read_csv(target)) == 272


BAD_TABLES = {
    "nan": ("a,b\n1,2\n3,\n4,5\n", ["1 row with", "b", "drop or impute"]),
    "inf": ("a,b\n1,inf\n3,4\n4,5\n", ["infinite", "b"]),
    "text": ("a,b\nx,y\nz,w\n", ["no numeric columns"]),
    "header_only": ("a,b\n", ["no rows"]),
    "empty": ("", ["is empty"]),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name, tmp_path):
    text, words = BAD_TABLES[name]
    source = tmp_path / f"{name}.csv"
    source.write_text(text)
    out = tmp_path / "out"
    refused(["fit", source, "-k", "2", "--out", out], *words)
    assert not out.exists()


def test_bad_options(tmp_path):
    out = tmp_path / "out"
    refused(["fit", tmp_path / "no.csv", "-k", "2", "--out", out], "no such file")
    refused(["fit", Path(__file__), "-k", "2", "--out", out], ".csv, .tsv", "or .parquet")
    refused(["fit", GEYSER, "-k", "0", "--out", out], "-k 0", "1 to 272")
    refused(["fit", GEYSER, "-k", "273", "--out", out], "-k 273", "1 to 272")
    refused(["fit", GEYSER, "-k", "2", "--columns", "a", "--out", out], "a", "waiting")
    refused(["fit", GEYSER, "-k", "2", "--level", "1.5", "--out", out], "--level")
    refused(["fit", GEYSER, "-k", "2", "--out", tmp_path / "no" / "out"], "no directory")
    refused(["fit", GEYSER, "-k", "2", "--out", GEYSER], "file")
    assert list(tmp_path.iterdir()) == []


def test_bad_scoring(fitted, tmp_path):
    out, _ = fitted
    model, target = out / "model.nc", tmp_path / "s.csv"
    refused(["score", tmp_path / "no.nc", GEYSER, "--out", target], "no saved model")
    refused(["score", GEYSER, GEYSER, "--out", target], "no saved model")
    cut = tmp_path / "cut.nc"
    cut.write_bytes(model.read_bytes()[:2000])
    refused(["score", cut, GEYSER, "--out", target], "truncated")
    other = tmp_path / "other.csv"
    pd.DataFrame({"eruptions": [1.0]}).to_csv(other, index=False)
    refused(["score", model, other, "--out", target], "waiting")
    pd.DataFrame({"eruptions": ["x"], "waiting": [1.0]}).to_csv(other, index=False)
    refused(["score", model, other, "--out", target], "eruptions", "not numeric")
    refused(["score", model, GEYSER, "--to", "9", "--out", target], "9", "no cluster")
    refused(["score", model, GEYSER, "--out", tmp_path / "s.xlsx"], "or .parquet")
    assert not target.exists()


def test_both_outputs_or_neither(tmp_path, monkeypatch):
    def broken(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", broken)
    out = tmp_path / "out"
    arguments = ["fit", GEYSER, "--model", "kmeans", "-k", "2", "--standardize", "--out", out]
    refused(arguments, "No space left")
    assert not out.exists()


def test_forced_output_that_fails_keeps_the_earlier_one(tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ["fit", GEYSER, "--model", "kmeans", "-k", "2", "--standardize", "--out", out]
    assert run(app, [str(a) for a in arguments]).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    replace = os.replace

    def broken(source, target):
        if Path(target).name == "model.nc":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", broken)
    refused([*arguments, "--seed", "1", "--force"], "No space left")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_interrupted(tmp_path, monkeypatch, capsys):
    from bayesclust.estimators import KMeans

    def stopped(self, X):
        raise KeyboardInterrupt

    monkeypatch.setattr(KMeans, "fit", stopped)
    out = tmp_path / "out"
    arguments = ["fit", GEYSER, "--model", "kmeans", "-k", "2", "--out", out]
    monkeypatch.setattr("sys.argv", ["bayesclust", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert "interrupted" in capsys.readouterr().err
    assert not out.exists()


def test_warnings_become_notes(tmp_path):
    source = tmp_path / "wide.csv"
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": 1e3 * rng.normal(size=60)})
    frame.to_csv(source, index=False)
    arguments = ["fit", source, "--model", "kmeans", "-k", "2", "--out", tmp_path / "out"]
    result = run(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    assert "note: column standard deviations differ" in result.stdout


def test_help_as_a_program():
    code = [sys.executable, "-m", "bayesclust.cli", "--help"]
    result = subprocess.run(code, capture_output=True, text=True, check=True)
    assert "fit" in result.stdout
    assert "score" in result.stdout
