"""Columns that measure nothing are left out aloud; the user's are kept as they stand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import N, halves


def table(values: np.ndarray, **extra: Any) -> str:
    """Text of a file: extra columns first, then a and b."""
    frame = pd.DataFrame({**extra, "a": values[:, 0], "b": values[:, 1]})
    return frame.to_csv(index=False)


shuffled = np.random.default_rng(1).permutation(N)

LEFT_OUT = {
    "numbers from 0": ("Unnamed: 0", np.arange(N)),
    "numbers from 1": ("n", np.arange(1, N + 1)),
    "numbers downwards": ("n", np.arange(N, 0, -1)),
    "numbers shuffled": ("n", shuffled),
    "no name": ("", shuffled % 7),
    "numbers from 1000": ("customer", 1000 + shuffled),
    "scattered identifiers": ("patient_id", shuffled * 7919 + 17),
    "repeated identifiers": ("patientId", shuffled % 9),
    "long numbers": ("x", 10**16 + shuffled * 10**9 + 1),
    "leading zeros": ("zip", [f"{i * 631:05d}" for i in shuffled]),
    "first of its kind": ("who", shuffled * 7919 + 17),
    "constant": ("c", np.full(N, 5.5)),
    "empty": ("e", [""] * N),
    "text": ("t", [f"x{i}" for i in range(N)]),
    "true or false": ("t", shuffled % 2 == 0),
    "dates": ("t", pd.date_range("2024-01-01", periods=N)),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_left_out(case: str, values: np.ndarray, fit: Any) -> None:
    name, cells = LEFT_OUT[case]
    text = table(values, **{name: cells})
    printed, out = fit(text)
    said = [line for line in printed.splitlines() if line.startswith("left out")]
    assert len(said) == 1
    assert said[0].endswith(f": {name or 'Unnamed: 0'}")
    halves(pd.read_csv(out / "scores.csv"))
    # Every input cell is there as it stood, in its place.
    kept = [row.split(",")[:3] for row in (out / "scores.csv").read_text().splitlines()]
    assert kept == [row.split(",") for row in text.splitlines()]


MEASURED = {
    "whole numbers with repeats": shuffled // 2,
    "decimals": shuffled * 0.5,
    "whole numbers with signs": shuffled * 7919 - 200_000,
    "whole numbers with decimals": [f"{i * 7919}.0" for i in shuffled],
}


@pytest.mark.parametrize("case", MEASURED)
def test_measured(case: str, values: np.ndarray, fit: Any) -> None:
    printed, _ = fit(table(values, level=MEASURED[case]), "--standardize")
    assert "left out" not in printed
    assert "level" in printed.split("membership")[1].splitlines()[0]


def test_counts_that_never_repeat_are_used(values: np.ndarray, fit: Any) -> None:
    """Several columns of different whole numbers are measurements, and are named aloud."""
    big = {f"gene{j}": np.random.default_rng(j).permutation(10**5)[:N] for j in range(3)}
    assert all(len(set(v)) == N for v in big.values())
    printed, _ = fit(table(values, **big), "--standardize")
    assert "used, though no two rows agree in them: gene0, gene1, gene2" in printed


def test_columns_can_be_named(values: np.ndarray, fit: Any, refuse: Any) -> None:
    text = table(values, n=np.arange(N), t=["x"] * N, **{"a, b": values[:, 0]})
    assert "n, t, " in refuse(text, "--columns", "other")
    assert "column t is not numeric in 60 cells" in refuse(text, "--columns", "a,t")
    printed, _ = fit(text, "--columns", "n,a", "--standardize")
    assert "left out" not in printed
    printed, _ = fit(text, "--columns", '"a, b",b', "--force")
    assert "a, b" in printed


def test_all_left_out(refuse: Any) -> None:
    text = "n,t\n" + "".join(f"{i},x{i}\n" for i in range(20))
    line = refuse(text)
    assert "numbers the rows: n" in line
    assert "--columns" in line


@pytest.mark.parametrize("option", [["--id", "who"], ["--index-col", "0"], ["--index-col", "who"]])
def test_rows_go_by_their_names(option: list[str], values: np.ndarray, fit: Any) -> None:
    names = np.random.default_rng(2).permutation(900_000)[:N]
    printed, out = fit(table(values, who=names, other=shuffled // 2), *option)
    scores = pd.read_csv(out / "scores.csv")
    assert list(scores["who"]) == list(names)
    block = printed.split("most doubtful rows")[1].splitlines()
    assert block[2].split()[0] == "who"
    doubtful = scores.nsmallest(5, "probability", keep="first")
    assert [line.split()[0] for line in block[4:9]] == [str(i) for i in doubtful["who"]]
    assert "who" not in printed.split("membership")[1].splitlines()[0]


def test_rows_go_by_an_identifier_that_is_found(values: np.ndarray, fit: Any) -> None:
    for cells in ([f"{i:03d}" for i in shuffled], [f"plot {i}" for i in shuffled]):
        printed, _ = fit(table(values, site=cells), "--force")
        block = printed.split("most doubtful rows")[1].splitlines()
        assert block[2].split()[0] == "site"
        assert block[4].strip().startswith(tuple(cells))


def test_an_unknown_identifier(values: np.ndarray, refuse: Any) -> None:
    assert "--id" in refuse(table(values), "--id", "nobody")


def test_columns_named_like_scores(values: np.ndarray, fit: Any) -> None:
    """They are kept, and ours get another name."""
    theirs = {"margin": values[:, 0] + 1, "cluster": shuffled % 3, "margin_bayesclust": ["x"] * N}
    printed, out = fit(table(values, **theirs), "--columns", "a,b")
    scores = pd.read_csv(out / "scores.csv")
    halves(scores, "cluster_bayesclust")
    assert np.allclose(scores["margin"], values[:, 0] + 1, rtol=0, atol=1e-12)
    assert list(scores["cluster"]) == list(shuffled % 3)
    assert scores["margin_bayesclust_2"].notna().all()
    assert "cluster is cluster_bayesclust, margin is margin_bayesclust_2" in printed


def test_scores_of_an_earlier_run_are_no_features(values: np.ndarray, fit: Any) -> None:
    _, out = fit(table(values))
    again, _ = fit((out / "scores.csv").read_bytes(), "--force")
    assert "left out, scores of an earlier run: cluster, probability" in again
    halves(pd.read_csv(out / "scores.csv"), "cluster_bayesclust")


def test_columns_named_like_those_of_the_tables(values: np.ndarray, fit: Any) -> None:
    """A feature called size or weight changes no figure of ours."""
    printed, _ = fit(table(values).replace("a,b", "size,probability", 1))
    found = [line.split() for line in printed.splitlines() if line.split()[:1] in (["0"], ["1"])]
    assert [line[:3] for line in found[:2]] == [["0", "30", "0.500"], ["1", "30", "0.500"]]
    assert "mean(size)" in printed


def test_columns_of_one_name(values: np.ndarray, fit: Any) -> None:
    printed, out = fit(table(values).replace("a,b", "a,a", 1))
    assert "a is also a.1" in printed
    assert (out / "scores.csv").read_text().startswith("a,a,cluster")
    halves(pd.read_csv(out / "scores.csv"))


def test_text_is_kept_as_it_stands(values: np.ndarray, fit: Any) -> None:
    """Leading zeros, long numbers, spelling, blanks and missing marks survive."""
    odd = [
        "007",
        "12345678901234567890",
        "1e5",
        " x ",
        "NA",
        "",
        "TRUE",
        "1.50",
        '"',
        "a,b",
        "é\nf",
    ]
    cells = (odd * 6)[:N]
    source = table(values, text=cells)
    _, out = fit(source)
    read = {"dtype": str, "keep_default_na": False}
    before = pd.read_csv(io.StringIO(source), **read)
    after = pd.read_csv(out / "scores.csv", **read)
    pd.testing.assert_frame_equal(after[["text", "a", "b"]], before)


def test_a_constant_column_under_a_model_that_could_not_bear_it(
    values: np.ndarray, fit: Any
) -> None:
    printed, _ = fit(table(values, c=np.full(N, 0.1)), "--model", "gmm", "--starts", "1")
    assert "left out, constant: c" in printed
    assert "note:" not in printed
