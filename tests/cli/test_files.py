"""Files as people have them: read right, or refused in one line; rows out are rows in."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.cli.conftest import halves


def comma(value: float) -> str:
    return str(value).replace(".", ",")


def lines(values: Any, form: Any, header: str = "a,b\n", end: str = "\n") -> str:
    return header + "".join(form(i, a, b) + end for i, (a, b) in enumerate(values.tolist()))


FORMS = {  # header, a row, how the scores are read back
    "commas": ("a,b\n", lambda i, a, b: f"{a},{b}", {}),
    "semicolons": ("a;b\n", lambda i, a, b: f"{a};{b}", {"sep": ";"}),
    "decimal commas": (
        "a;b\n",
        lambda i, a, b: f"{comma(a)};{comma(b)}",
        {"sep": ";", "decimal": ","},
    ),
    "tabs": ("a\tb\n", lambda i, a, b: f"{comma(a)}\t{comma(b)}", {"sep": "\t", "decimal": ","}),
    "bars": ("a|b\n", lambda i, a, b: f"{a}|{b}", {"sep": "|"}),
    "blanks": ("a b\n", lambda i, a, b: f"  {a}   {b}", {}),
    "quoted decimal commas": (
        "a,b\n",
        lambda i, a, b: f'"{comma(a)}","{comma(b)}"',
        {"decimal": ","},
    ),
    "commas in text": ("t;a;b\n", lambda i, a, b: f"p, q, r{i};{a};{b}", {"sep": ";"}),
    "blanks around": (" a , b \n", lambda i, a, b: f" {a} , {b} ", {"skipinitialspace": True}),
    "a line for spreadsheets": (
        "sep=;\na;b\n",
        lambda i, a, b: f"{comma(a)};{comma(b)}",
        {"sep": ";", "decimal": ","},
    ),
    "true minus signs": ("a,b\n", lambda i, a, b: f"{a},{b}".replace("-", "\u2212"), {}),
    "separators at the ends": ("a,b\n", lambda i, a, b: f"{a},{b},", {}),
    "quoted newlines": ("t,a,b\n", lambda i, a, b: f'"x\n\n""{i}""",{a},{b}', {}),
    "a quote behind a blank": ("t, a, b\n", lambda i, a, b: f'x{i}, "{a}", {b}', {}),
    "R's row names": ('"a" "b"\n', lambda i, a, b: f'"{i + 1}" {a} {b}', {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, values: np.ndarray, fit: Any) -> None:
    header, row, how = FORMS[form]
    printed, out = fit(lines(values, row, header))
    assert "2 clusters of 60 rows" in printed
    scores = pd.read_csv(out / "scores.csv", **how)
    halves(scores)
    # The middle of each cluster, in the numbers of the file.
    near = pd.DataFrame(values).groupby(np.repeat([0, 1], 30)).mean()
    for k in (0, 1):
        for j in (0, 1):
            assert f"{near.iloc[k, j]:.4g}".rstrip("0") in printed


def test_line_ends(values: np.ndarray, fit: Any) -> None:
    for end in ("\r\n", "\r"):
        text = lines(values, lambda i, a, b: f"{a},{b}", "a,b" + end, end)
        _, out = fit(text, "--force")
        halves(pd.read_csv(out / "scores.csv"))


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("utf-8-sig", []),
        ("utf-16", []),
        ("utf-32", []),
        ("utf-8-sig", ["--encoding", "utf-8"]),
        ("latin-1", ["--encoding", "latin-1"]),
        ("utf-16-le", ["--encoding", "utf-16-le"]),
        ("cp1252", ["--encoding", "cp1252"]),
    ],
)
def test_encodings(written: str, options: list[str], values: np.ndarray, fit: Any) -> None:
    data = lines(values, lambda i, a, b: f"{a},{b},ö{i}", "ä,b,name\n").encode(written)
    printed, out = fit(data, *options, "--columns", "ä,b")
    scores = pd.read_csv(out / "scores.csv", encoding=written)
    halves(scores)
    assert list(scores.columns[:3]) == ["ä", "b", "name"]
    assert list(scores["name"]) == [f"ö{i}" for i in range(60)]
    assert "name" in printed


def test_compression(values: np.ndarray, fit: Any) -> None:
    data = lines(values, lambda i, a, b: f"{a},{b}").encode()
    _, out = fit(gzip.compress(data), name="rows.csv.gz")
    halves(pd.read_csv(out / "scores.csv.gz"))
    data = data.replace(b",", b"\t")
    _, out = fit(pa.compress(data, "zstd", asbytes=True), "--force", name="rows.tsv.zst")
    text = pa.input_stream(str(out / "scores.tsv.zst"), compression="zstd").read().decode()
    assert text.count("\n") == 61
    halves(pd.DataFrame({"cluster": [int(r.split("\t")[2]) for r in text.splitlines()[1:]]}))


def test_a_single_column(values: np.ndarray, fit: Any) -> None:
    for text, options in [
        ("a\n" + "".join(f"{v}\n" for v in values[:, 0]), []),
        ("a\n" + "".join(f"{comma(v)}\n" for v in values[:, 0]), ["--decimal", ","]),
        ("a\n" + "".join(f"{comma(v)}\n" for v in values[:, 0]), ["--sep", ";"]),
    ]:
        _, out = fit(text, *options, "--force")
        scores = pd.read_csv(out / "scores.csv", sep=";" if options else ",")
        assert len(scores) == 60
        assert scores["cluster"].iloc[:30].mean() == 0


def test_no_header(values: np.ndarray, fit: Any, refuse: Any) -> None:
    text = lines(values, lambda i, a, b: f"{a},{b}", "")
    years = lines(values, lambda i, a, b: f"{a},{b}", "2001,2002\n")
    assert "--no-header" in refuse(text)
    assert "--header" in refuse(years)
    _, out = fit(text, "--no-header")
    scores = pd.read_csv(out / "scores.csv")
    halves(scores)
    assert list(scores.columns[:2]) == ["x0", "x1"]
    _, out = fit(years, "--header", "--force")
    assert list(pd.read_csv(out / "scores.csv").columns[:2]) == ["2001", "2002"]


GROUPED = {
    "commas": lambda v: f'"{v:,.1f}"',
    "dots": lambda v: f"{v:,.1f}".translate({44: ".", 46: ","}),
    "apostrophes": lambda v: f"{v:,.1f}".replace(",", "'"),
    "blanks": lambda v: f"{v:,.1f}".replace(",", "\u202f"),
}


@pytest.mark.parametrize("mark", GROUPED)
def test_grouped_digits(mark: str, values: np.ndarray, fit: Any) -> None:
    sep = ";" if mark == "dots" else ","
    other = comma if mark == "dots" else str
    big = values * 1e4
    text = f"a{sep}b\n" + "".join(
        f"{GROUPED[mark](a)}{sep}{other(b)}\n" for a, b in zip(big[:, 0], values[:, 1], strict=True)
    )
    printed, out = fit(text)
    assert "read with grouped digits" in printed
    scores = pd.read_csv(out / "scores.csv", sep=sep)
    halves(scores)
    assert f"{big[30:, 0].mean():,.0f}"[:4] in printed
    # The file's own text stays.
    assert scores["a"].astype(str).iloc[31] == GROUPED[mark](big[31, 0]).strip('"')


def test_parquet_with_an_index(values: np.ndarray, fit: Any, tmp_path: Any) -> None:
    frame = pd.DataFrame(values, columns=["a", "b"])
    for index in (
        pd.Index(np.arange(60) % 3, name="site"),
        pd.Index([f"r{i}" for i in range(60)]),
        pd.MultiIndex.from_arrays([np.arange(60) % 2, np.arange(60)], names=["g", "cluster"]),
    ):
        source = tmp_path / "source.parquet"
        frame.set_index(index).to_parquet(source)
        printed, out = fit(source.read_bytes(), "--force", name="rows.parquet")
        scores = pd.read_parquet(out / "scores.parquet")
        assert scores.index.equals(index)
        halves(scores, "cluster_bayesclust" if "cluster" in index.names else "cluster")
        assert (scores[["a", "b"]].to_numpy() == values).all()
        assert str(index.names[0] or "index") in printed


REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n  \n", "is empty"),
    "names only": (b"a,b\n", "no rows"),
    "UTF-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), "--encoding"),
    "latin-1": ("ä,b\n1,2\n".encode("latin-1"), "--encoding"),
    "a line too long": (b"a,b\n1.5,2\n3.5,4,5\n", "line 3"),
    "a line too short": (b"a,b\n1.5,2\n3.5\n", "line 3"),
    "a quote without end": (b'a,b\n1.5,2\n"3.5,4\n5.5,6\n', "quote"),
    "a missing value": (b"a,b\n1.5,2\nNA,4\n5.5,5\n", "1 row with missing or infinite values in a"),
    "an infinite value": (b"a,b\n1.5,2\n-inf,4\n5.5,5\n", "line 3"),
    "text among numbers": (b"a,b\n1.5,2\n3.5,4\noops,5\n", "'oops' in line 4"),
    "two decimal marks": (b"a;b\n1,5;2.5\n3,5;4.5\n", "--decimal"),
    "a mark of two meanings": (b"a;b\n1,234;2\n3,456;5\n7,890;1\n", "1234 or 1.234"),
    "one column of decimal commas": (b"a\n1,5\n2,5\n3,25\n", "--decimal"),
    "names one short": (b"a,b\n1,5,2\n1,5,3\n3,5,4\n", "--sep"),
    "text only": (b"a,b\nx,y\nz,w\n", "no numeric columns"),
    "binary": (bytes(range(256)) * 4, "--encoding"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, refuse: Any) -> None:
    data, words = REFUSED[case]
    assert words in refuse(data)


def test_broken_compression(refuse: Any, values: np.ndarray) -> None:
    data = lines(values, lambda i, a, b: f"{a},{b}").encode()
    assert "cannot be read" in refuse(b"hello", name="rows.csv.gz")
    assert "cannot be read" in refuse(gzip.compress(data)[:-40], name="rows.csv.gz")
    assert "cannot be read" in refuse(b"hello", name="rows.csv.zst")
    assert "cannot be read" in refuse(b"hello", name="rows.parquet")


def test_options_of_form_are_checked(refuse: Any, tmp_path: Any) -> None:
    text = "a;b\n1,5;2,5\n3,5;4,5\n"
    assert "--encoding nonesuch" in refuse(text, "--encoding", "nonesuch")
    assert "--sep" in refuse(text, "--sep", "ab")
    assert "--decimal" in refuse(text, "--decimal", "x")
    source = tmp_path / "source.parquet"
    pd.DataFrame({"a": [1.0, 2.0]}).to_parquet(source)
    assert "--sep" in refuse(source.read_bytes(), "--sep", ";", name="rows.parquet")


def test_scoring_reads_alike(values: np.ndarray, fit: Any, tmp_path: Any) -> None:
    """A file in another form, its columns in another order, gets the same scores."""
    from typer.testing import CliRunner

    from bayesclust.cli import app

    _, out = fit(lines(values, lambda i, a, b: f"{a},{b}"))
    first = pd.read_csv(out / "scores.csv")
    other = tmp_path / "other.csv"
    other.write_text(lines(values, lambda i, a, b: f"{i};{comma(b)};{comma(a)}", "n;b;a\n"))
    target = tmp_path / "scored.csv"
    arguments = ["score", str(out / "model.nc"), str(other), "--out", str(target)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    second = pd.read_csv(target, sep=";", decimal=",")
    pd.testing.assert_frame_equal(second[first.columns], first)
    bare = tmp_path / "bare.csv"
    bare.write_text(lines(values, lambda i, a, b: f"{a},{b}", ""))
    arguments = ["score", str(out / "model.nc"), str(bare), "--no-header", "--out"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "s.csv")])
    assert result.exit_code == 2
    assert "lacks all columns" in result.stderr


@pytest.mark.parametrize("end", [".csv", ".tsv", ".txt", ".csv.gz", ".parquet"])
def test_outputs_have_the_form_of_their_names(
    end: str, values: np.ndarray, fit: Any, tmp_path: Any
) -> None:
    from typer.testing import CliRunner

    from bayesclust.cli import app

    text = lines(values, lambda i, a, b: f"{i:03d};{comma(a)};{comma(b)}", "code;a;b\n")
    _, out = fit(text, "--columns", "a,b")
    target = tmp_path / f"target{end}"
    arguments = ["score", str(out / "model.nc"), str(tmp_path / "rows.csv"), "--out", str(target)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    if end == ".parquet":
        scores = pd.read_parquet(target)
    else:
        sep = "\t" if end == ".tsv" else ";"
        scores = pd.read_csv(target, sep=sep, decimal=",", dtype={"code": str})
    halves(scores)
    assert list(scores["code"]) == [f"{i:03d}" for i in range(60)]
    assert (scores[["a", "b"]].to_numpy() == values).all()
    first = pd.read_csv(out / "scores.csv", sep=";", decimal=",", dtype={"code": str})
    pd.testing.assert_frame_equal(scores, first, check_dtype=False)
