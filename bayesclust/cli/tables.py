"""Tables in: files, columns and cells, checked; tables out: scores beside the rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesclust.cli.refusal import Refusal, listed

SUFFIXES = (".csv", ".parquet")


def check_suffix(path: Path, name: str) -> None:
    """Refuse a file whose name does not say that it is CSV or Parquet."""
    if path.suffix.lower() not in SUFFIXES:
        raise Refusal(
            f"{name} {path}: the suffix '{path.suffix}' is not known; give a .csv or .parquet file"
        )


def read(path: Path, name: str, used: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table by its suffix.

    Parameters
    ----------
    path : Path
    name : str
        What the user calls it.
    used : sequence of str, optional
        The columns that will be read as numbers; the others then keep their text as it stands,
        as an identifier 007 does. Default: any.
    """
    check_suffix(path, name)
    if path.is_dir():
        raise Refusal(f"{name} {path} is a directory: give a .csv or .parquet file")
    if not path.exists():
        raise Refusal(f"{name} {path}: there is no such file; check the path")
    is_csv = path.suffix.lower() == ".csv"
    try:
        frame = _read_csv(path, used) if is_csv else pd.read_parquet(path)
    except pd.errors.EmptyDataError:
        raise Refusal(f"{name} {path} is empty: give a file with a header and rows") from None
    except ImportError:
        raise Refusal(f"{name} {path}: reading Parquet needs pyarrow; install it") from None
    except OSError as error:
        raise Refusal(f"{name} {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a malformed file makes a parser raise
        kind = "CSV" if is_csv else "Parquet"
        raise Refusal(f"{name} {path} cannot be read as {kind}: {error}") from error
    if not len(frame):
        raise Refusal(f"{name} {path} holds no rows: give a file with at least one")
    frame.columns = [str(c) for c in frame.columns]
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()].unique()
        raise Refusal(f"{name} {path} has several columns named {listed(twice)}: rename them")
    return frame


def _read_csv(path: Path, used: Sequence[str] | None) -> pd.DataFrame:
    header = pd.read_csv(path, nrows=0).columns
    text = {} if used is None else {c: str for c in header if c not in used}
    frame = pd.read_csv(path, dtype=text, float_precision="round_trip", low_memory=False)
    # A first column without a name is the index that pandas and R write.
    if len(header) > 1 and header[0] == "Unnamed: 0" and not (used and header[0] in used):
        frame = frame.set_index(header[0]).rename_axis(None)
    return frame


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers, true and false among them."""
    return column.dtype.kind in "fiub"


def split_names(columns: str) -> list[str]:
    """Names of a comma-separated list; one that holds a comma stands in quotes."""
    names = next(csv.reader([columns], skipinitialspace=True), [])
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def choose(frame: pd.DataFrame, names: list[str] | None, path: Path) -> list[str]:
    """Columns to cluster: those asked for, else all that hold numbers.

    Raises
    ------
    Refusal
        If there are none, if they do not exist or hold text, or if a column of a CSV file that
        was to be left out looks like numbers with a few typing errors.
    """
    there = list(frame.columns)
    if names is not None:
        unknown = [name for name in names if name not in there]
        if unknown or not names:
            raise Refusal(
                f"--columns: {path} has no column {listed(unknown) or 'of an empty name'}; "
                f"available: {listed(there)}"
            )
        for name in names:
            _no_text(frame[name], path, "correct it, or leave the column out of --columns")
        return names
    numbers = [name for name in there if is_numeric(frame[name])]
    if path.suffix.lower() == ".csv":
        for name in there:
            if name not in numbers and _mostly_numbers(frame[name]):
                _no_text(frame[name], path, "correct it, or say with --columns which ones to use")
    if not numbers:
        apart = any(mark in there[0] for mark in ";\t|") and len(there) == 1
        hint = "; separate the cells by commas" if apart else "; give a table with numbers"
        raise Refusal(f"{path} has no numeric columns, only {listed(there)}{hint}")
    return numbers


def _mostly_numbers(column: pd.Series) -> bool:
    told = column.dropna()
    return pd.to_numeric(told, errors="coerce").notna().sum() * 2 > len(told)


def _no_text(column: pd.Series, path: Path, remedy: str) -> None:
    if is_numeric(column):
        return
    text = pd.to_numeric(column, errors="coerce").isna().to_numpy() & column.notna().to_numpy()
    at = int(text.argmax()) if text.any() else 0
    found = f"'{column.iloc[at]!s:.30}'"
    raise Refusal(
        f"{path}: column {column.name} is not numeric: {max(int(text.sum()), 1)} of {len(column)} "
        f"rows hold text, first {found} in row {at}; {remedy}"
    )


def as_rows(frame: pd.DataFrame, names: list[str], path: Path, remedy: str) -> pd.DataFrame:
    """The chosen columns as floats, if every cell is a finite number."""
    chosen = frame[names]
    for name in names:
        _no_text(chosen[name], path, "correct it")
    dtype = np.float32 if all(t == np.float32 for t in chosen.dtypes) else np.float64
    values = chosen.to_numpy(dtype, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        rows = bad.any(axis=1)
        where = [name for name, b in zip(names, bad.any(axis=0), strict=True) if b]
        raise Refusal(
            f"{path}: {int(rows.sum())} of {len(rows)} rows have missing or infinite values, in "
            f"{'column' if len(where) == 1 else 'columns'} {listed(where)} (first: row "
            f"{int(rows.argmax())}); {remedy}"
        )
    return pd.DataFrame(values, index=frame.index, columns=names)


def beside(frame: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Scores to the right of the rows they belong to, and the columns renamed to make room."""
    names, moved = [], []
    for name in frame.columns:
        new = name
        while new in scores.columns or (new != name and new in frame.columns):
            new = f"input_{new}"
        if new != name:
            moved.append(name)
        names.append(new)
    left = frame.set_axis(names, axis=1).reset_index(drop=True)
    both = pd.concat([left, scores.reset_index(drop=True)], axis=1)
    return both.set_axis(frame.index, axis=0), moved


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format of the suffix, with its row names if it has any."""
    named = not isinstance(table.index, pd.RangeIndex)
    if path.suffix.lower() == ".csv":
        table.to_csv(path, index=named)
    else:
        table.to_parquet(path, index=named)
