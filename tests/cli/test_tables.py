"""Printed tables: nothing is cut, figures are plain, nothing from data steers the terminal."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayesclust.cli.grid import figure, plain
from bayesclust.cli.visible import visible


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (32_060.4, None, "32,060"),
        (32_061.7, 412.3, "32,060 ± 410"),
        (4.29, 0.0321, "4.290 ± 0.032"),
        (54.4783, 0.6212, "54.48 ± 0.62"),
        (0.0412, 0.0996, "0.04 ± 0.10"),
        (1e8 + 0.25, 0.013, "100,000,000.250 ± 0.013"),
        (-0.00001, 0.02, "0.000 ± 0.020"),
        (-0.0, None, "0"),
        (0.5, None, "0.5"),
        (1234.5678, None, "1,235"),
        (999_999.9, None, "1,000,000"),
        (1.67e-27, None, "1.670e-27"),
        (1.6726e-27, 2e-30, "1.6726e-27 ± 2.0e-30"),
        (2.0, 0.0, "2 ± 0"),
        (2.0, float("nan"), "2 ± nan"),
    ],
)
def test_figures(value: float, error: float | None, shown: str) -> None:
    assert figure(value, error) == shown


@pytest.mark.parametrize("value", [*np.random.default_rng(0).normal(size=20) * 1e4, 0.1, 12.0])
def test_plain_figures_are_near(value: float) -> None:
    shown = float(plain(value, 4).replace(",", ""))
    assert abs(shown - value) <= 0.5e-3 * abs(value)


NAMES = ["income of the household", "rate [/s]", "[bold]x[/bold]", "größe", "身長", "a\x1b[31mb"]


@pytest.mark.parametrize("width", ["40", "80", "300"])
def test_nothing_is_cut(width: str, fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name and every figure stands in the output, whatever the terminal's width."""
    monkeypatch.setenv("COLUMNS", width)
    rng = np.random.default_rng(3)
    scale = 10.0 ** np.arange(-2, 4)
    centres = np.repeat([[0.0], [8.0]], 30, axis=0)
    data = (centres + rng.normal(size=(60, 6))) * scale + [0, 0, 0, 0, 0, 32_000]
    frame = pd.DataFrame(data.round(4), columns=NAMES)
    long = "a name that is a good deal longer than the narrowest terminal is wide"
    frame.insert(0, long, [f"{long} {i}" if i < 3 else f"r{i}" for i in range(60)])
    printed, out = fit(frame.to_csv(index=False), "--standardize", "--id", long)
    assert "\x1b" not in printed
    assert "…" not in printed
    for name in NAMES:
        assert visible(name) in printed
    for rows in (frame.iloc[:30], frame.iloc[30:]):
        for name in NAMES:
            assert plain(rows[name].mean(), 4) in printed
    scores = pd.read_csv(out / "scores.csv")
    worst = scores.nsmallest(5, "probability", keep="first")
    for name, probability in zip(worst[long], worst["probability"], strict=True):
        assert re.search(rf"\s{re.escape(name)}\s.*\s{probability:.3f}\s", printed)
    if width == "40":
        blocks = [b for b in printed.split("\n\n") if "─" in b]
        assert all(len(line) <= 40 for b in blocks[:3] for line in b.splitlines())


def test_many_features_are_lines(fit: Any) -> None:
    rng = np.random.default_rng(4)
    data = np.repeat([[0.0], [5.0]], 30, axis=0) + rng.normal(size=(60, 50))
    frame = pd.DataFrame(data.round(3), columns=[f"feature {j}" for j in range(50)])
    printed, _ = fit(frame.to_csv(index=False))
    for j in range(50):
        low, high = frame.iloc[:30, j].mean(), frame.iloc[30:, j].mean()
        assert re.search(rf"feature {j} +{plain(low, 4)} +{plain(high, 4)}\n", printed)


HOSTILE = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202eright to left",
    "line\nbreak",
    "carriage\rreturn",
    "\x08\x08",
    "a\u2028separator",
]


STEERING = {c for text in HOSTILE for c in text if not (c.isascii() and c.isprintable())}


def test_nothing_steers_the_terminal(values: np.ndarray, fit: Any) -> None:
    frame = pd.DataFrame({f"a{text}": values[:, i % 2] + i for i, text in enumerate(HOSTILE)})
    names = (HOSTILE * 8)[:60]
    frame.insert(0, "who", [f"{text}{i}" for i, text in enumerate(names)])
    printed, out = fit(frame.to_csv(index=False), "--id", "who", "--doubtful", "60")
    assert not STEERING & set(printed.replace("\n", ""))
    for i, text in enumerate(HOSTILE):
        assert visible(f"a{text}") in printed
        assert visible(f"{text}{i}").strip() in printed
    assert list(pd.read_csv(out / "scores.csv")["who"]) == list(frame["who"])


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_steers_it_in_refusals(text: str, refuse: Any) -> None:
    frame = pd.DataFrame({"b": [1.5, 2.5, 3.5], f"a{text}": ["1.5", "2.5", f"x{text}"]})
    for options in ([], ["--columns", "c"], ["--columns", f"d{text}"], ["--id", f"e{text}"]):
        line = refuse(frame.to_csv(index=False), *options)
        assert not STEERING & set(line[:-1])


def test_names_of_files_steer_nothing(values: np.ndarray, fit: Any, refuse: Any) -> None:
    name = "ro\x1b[2Jw\u202es.csv"
    assert "ro\\x1b[2Jw\\u202es.csv" in refuse("", name=name)
    printed, _ = fit(pd.DataFrame(values, columns=["a", "b"]).to_csv(index=False), name=name)
    assert not STEERING & set(printed.replace("\n", ""))


def test_markup_is_text(values: np.ndarray, fit: Any, refuse: Any) -> None:
    names = ["rate [/s]", "[red]b[/red]"]
    frame = pd.DataFrame(values, columns=names)
    frame.insert(0, "[link=x]", [f"[/]{i}" for i in range(60)])
    assert "[link=x]" in refuse(frame.to_csv(index=False), "--columns", "no [/]")
    printed, _ = fit(frame.to_csv(index=False))
    assert all(name in printed for name in [*names, "[link=x]"])


def test_spreadsheets_run_nothing(values: np.ndarray, fit: Any) -> None:
    cells = ["=1+1", "+cmd", "-x", "@sum", "-1.5", "plain", "+49 170", " =1", "\t=1", "1e5"] * 6
    frame = pd.DataFrame(values, columns=["=a", "b"])
    frame.insert(0, "note", cells)
    text = frame.to_csv(index=False)
    _, out = fit(text)
    read = {"dtype": str, "keep_default_na": False}
    as_it_is = pd.read_csv(out / "scores.csv", **read)
    assert list(as_it_is["note"]) == cells
    _, out = fit(text, "--safe-csv", "--force")
    safe = pd.read_csv(out / "scores.csv", **read)
    assert list(safe.columns[:3]) == ["note", "'=a", "b"]
    wanted = [c if c in ("-1.5", "plain", "1e5") else f"'{c}" for c in cells]
    assert list(safe["note"]) == wanted
    numbers = safe[["'=a", "b"]].astype(float).to_numpy()
    assert (numbers == values).all()
