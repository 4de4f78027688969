"""Tables in: files, their columns, their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bayesclust.cli.refuse import counted, fail, listed

READERS = (".csv", ".parquet")


def read(path: Path) -> Any:
    """Read a table by its suffix."""
    import pandas as pd

    if path.suffix.lower() not in READERS:
        fail(f"{path}: cannot read files of type '{path.suffix}'; give a .csv or .parquet file")
    if not path.is_file():
        fail(f"{path}: there is no such file")
    try:
        read = pd.read_csv if path.suffix.lower() == ".csv" else pd.read_parquet
        frame = read(path)
    except ImportError:
        fail(f"{path}: reading Parquet needs pyarrow: pip install pyarrow")
    except Exception as error:
        fail(f"{path} cannot be read as {path.suffix.lower()[1:]}: {error}")
    if not len(frame):
        fail(f"{path} holds no rows")
    frame.columns = [str(c) for c in frame.columns]
    return frame


def choose(frame: Any, columns: str | None, path: Path) -> tuple[list[str], list[str]]:
    """Columns to use, and those left out because they are not numeric."""
    numbers = [c for c in frame.columns if frame[c].dtype.kind in "fiub"]
    if columns is None:
        if not numbers:
            fail(f"{path} has no numeric columns; its columns are {listed(list(frame.columns))}")
        return numbers, [c for c in frame.columns if c not in numbers]
    names = [c.strip() for c in columns.split(",") if c.strip()]
    unknown = [c for c in names if c not in frame.columns]
    if unknown or not names:
        fail(
            f"--columns: no column {listed(unknown) or 'given'}; "
            f"available: {listed(list(frame.columns))}"
        )
    numeric(frame[names], path)
    return list(dict.fromkeys(names)), []


def numeric(rows: Any, path: Path) -> Any:
    """The rows, if all their columns are numbers."""
    text = [c for c in rows.columns if rows[c].dtype.kind not in "fiub"]
    if text:
        fail(f"{path}: column {listed(text)} is not numeric; correct its values or leave it out")
    return rows


def finite(rows: Any, path: Path) -> Any:
    """The rows as floats, if all of them are finite."""
    import numpy as np

    values = rows.to_numpy(float)
    bad = ~np.isfinite(values)
    if bad.any():
        where = [c for c, b in zip(rows.columns, bad.any(axis=0), strict=True) if b]
        fail(
            f"{path}: {counted(int(bad.any(axis=1).sum()), 'row')} with missing or infinite "
            f"values in {listed(where)}; drop or impute them"
        )
    return rows.astype(float)


def plain(index: Any) -> bool:
    """Whether an index only counts rows."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex)
