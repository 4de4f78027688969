"""Columns to use: their numbers, and why others are left out."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesclust.cli.read import Sheet
from bayesclust.cli.refuse import fail
from bayesclust.cli.sniff import GAPS, INFINITE, MISSING, is_number, number
from bayesclust.cli.visible import counted, listed, visible

if TYPE_CHECKING:
    import pandas as pd

MOSTLY = 0.5
"""Share of numbers from which on a column is meant to hold numbers."""

FEW = 10
"""Rows below which different whole numbers are nothing special."""

EXPECTED_REPEATS = 5.0
"""Repeats that would be expected of whole numbers drawn at random from the same range: so many
that there is not one by chance in fewer than one table of a hundred."""

CODE_DIGITS = 8
"""Whole numbers that all have as many digits, or more, are codes if they are all different."""

EXACT = 2.0**53
"""Whole numbers beyond are not told apart by floats."""

LABEL_WIDTH = 40
"""Longest text that names a row in a printed table."""

NUMBERING = frozenset(
    "id ids identifier uuid guid key code number num no nr serial ref reference record row rows "
    "rownames index idx obs observation case subject patient participant customer client user "
    "member account sample specimen barcode sku isbn ean ticket order invoice transaction "
    "unnamed".split()
)
"""Last words of names that whole numbers go by when they only tell rows apart."""


@dataclass
class Chosen:
    """The rows to cluster or to score.

    Attributes
    ----------
    rows : pandas.DataFrame
        Finite floats, one column per feature, rows counted from 0.
    labels : tuple of (str, ndarray) or None
        What the rows are called: a column's name and its text.
    decimal : str
        Decimal mark of the file.
    said : list of str
        Columns that are left out and why, and how numbers were read.
    """

    rows: pd.DataFrame
    labels: tuple[str, np.ndarray] | None
    decimal: str
    said: list[str] = field(default_factory=list)


@dataclass
class Column:
    """One column as numbers.

    Attributes
    ----------
    values : (n,) float ndarray
        NaN where a cell is missing or no number.
    missing : (n,) bool ndarray
    bad : (n,) bool ndarray
        The cell is neither missing nor a number.
    boolean : bool
        All cells say true or false, 1 or 0 among `values`.
    grouped : str
        A cell whose digits are grouped, e.g. "1,234"; "" where there is none.
    """

    values: np.ndarray
    missing: np.ndarray
    bad: np.ndarray
    boolean: bool = False
    grouped: str = ""

    @property
    def share(self) -> float:
        """Share of numbers among the cells that are there."""
        there = int((~self.missing).sum())
        return 1 - self.bad.sum() / there if there else 0.0


# -- cells -----------------------------------------------------------------------------------------


def column(sheet: Sheet, name: str, decimal: str) -> Column:
    """Read a column as numbers with this decimal mark."""
    if sheet.form is None:
        return _typed(sheet.frame[name])
    plainly = _plain(sheet, name)
    if plainly is not None and decimal == ".":
        none = np.zeros(len(plainly), bool)
        return Column(plainly, none, none)
    cells = _stripped(sheet, name)
    lower = cells.str.lower()
    missing = lower.isin(MISSING).to_numpy(bool)
    there = ~missing
    known = lower[there].isin(("true", "false"))
    if len(known) and known.all():
        values = np.where(missing, np.nan, (lower == "true").to_numpy(bool))
        return Column(values, missing, np.zeros_like(missing), boolean=True)
    values = np.full(len(cells), np.nan)
    good = cells.str.fullmatch(number(decimal)).to_numpy(bool)
    plain, grouped = cells[good], ""
    gaps = ("," if decimal == "." else ".") + GAPS
    held = plain.str.contains(f"[{gaps}]").to_numpy(bool)
    if held.any():
        grouped = str(plain[held].iloc[0])
        for mark in gaps:
            plain = plain.str.replace(mark, "", regex=False)
    if decimal == ",":
        plain = plain.str.replace(",", ".", regex=False)
    values[good] = plain.to_numpy(object).astype(np.float64)
    infinite = np.zeros_like(good)
    rest = there & ~good
    if rest.any():
        infinite[rest] = cells[rest].str.fullmatch(INFINITE.pattern, case=False).to_numpy(bool)
        values[infinite] = np.where(cells[infinite].str.startswith("-"), -np.inf, np.inf)
    return Column(values, missing, there & ~good & ~infinite, grouped=grouped)


def _plain(sheet: Sheet, name: str) -> np.ndarray | None:
    """Read a column of text in which every cell is a finite number with decimal points, fast.

    None if it is not.
    """
    if name not in sheet.plain:
        sheet.plain[name] = _read_plain(sheet.frame[name])
    return sheet.plain[name]


def _read_plain(text: Any) -> np.ndarray | None:
    try:
        values = text.to_numpy(object).astype(np.float64)
    except (TypeError, ValueError):
        return None
    odd = not np.isfinite(values).all() or text.str.contains("_", regex=False).any()
    return None if odd else values


def _typed(series: Any) -> Column:
    """A column of a file that knows its types."""
    none = np.zeros(len(series), bool)
    if series.dtype.kind in "fiub" and series.dtype.name != "category":
        values = series.to_numpy(np.float64, na_value=np.nan)
        return Column(values, np.isnan(values), none, boolean=series.dtype.kind == "b")
    missing = series.isna().to_numpy(bool)
    if series.dtype == object and not missing.all():
        import decimal

        if all(isinstance(v, decimal.Decimal) for v in series[~missing]):
            values = np.full(len(series), np.nan)
            values[~missing] = series[~missing].astype(float)
            return Column(values, missing, none)
    return Column(np.full(len(series), np.nan), missing, ~missing)


def _cells(sheet: Sheet, name: str) -> Any:
    """Cells as they stand, blanks around text aside."""
    return sheet.frame[name] if sheet.form is None else _stripped(sheet, name)


def _stripped(sheet: Sheet, name: str) -> Any:
    cells = sheet.frame[name].str.strip()
    if cells.str.contains("\u2212", regex=False).any():
        cells = cells.str.replace("\u2212", "-", regex=False)
    return cells


def decimal_mark(sheet: Sheet, names: list[str]) -> str:
    """Find the decimal mark of these columns, or refuse where they leave it open."""
    if sheet.form is None:
        return "."
    if sheet.form.decimal is not None:
        return sheet.form.decimal
    sure: dict[str, str] = {}
    either: dict[str, str] = {}
    grouping = False
    plain = {name: _plain(sheet, name) is not None for name in names}
    for name in sorted(names, key=plain.__getitem__):
        if plain[name] and "," not in {*sure, *either}:
            break  # only points are left
        cells = _stripped(sheet, name)
        cells = cells[~cells.str.lower().isin(MISSING)]
        cells = cells[cells.str.contains("[.,]")]  # others are the same in both notations
        if not len(cells):
            continue
        fits = {mark: cells.str.fullmatch(number(mark)).to_numpy(bool) for mark in ".,"}
        share = {mark: float(fit.mean()) for mark, fit in fits.items()}
        if max(share.values()) < MOSTLY:
            continue
        if share["."] == share[","]:
            cell = str(cells[fits["."]].iloc[0])
            either.setdefault("," if "," in cell else ".", f"{cell} in column {visible(name)}")
            continue
        mark = max(share, key=lambda m: share[m])
        cell = str(cells[fits[mark] & ~fits["." if mark == "," else ","]].iloc[0])
        sure.setdefault(mark, f"{cell} in column {visible(name)}")
        grouping |= mark == "," and bool(cells[fits[mark]].str.contains(".", regex=False).any())
    what = "say which is the decimal mark with --decimal . or --decimal ,"
    if len(sure) == 2:
        fail(f"{sheet.path} holds {sure['.']} and {sure[',']}: {what}")
    if ("," in sure and "." in either and not grouping) or len(either) == 2:
        found = sure.get(",", either.get(","))
        fail(f"{sheet.path} holds {found} and {either['.']}: {what}")
    if "," in either and not sure:
        cell = either[","].split(" in column")[0]
        fail(
            f"{sheet.path} holds {either[',']}, which may be {cell.replace(',', '')} or "
            f"{cell.replace(',', '.')}: {what}"
        )
    return "," if "," in sure else "."


# -- choice ----------------------------------------------------------------------------------------


def named(sheet: Sheet, asked: str, option: str) -> str:
    """The column that a user means, by its name or, where no name is it, its position (0 first)."""
    names = list(sheet.frame.columns)
    if asked in names:
        return asked
    if asked.strip() in names:
        return asked.strip()
    if asked.isdecimal() and int(asked) < len(names):
        return names[int(asked)]
    fail(f"{option}: {sheet.path} has no column {visible(asked)}; available: {listed(names)}")


def choose(sheet: Sheet, columns: str | None, identifier: str | None, ours: set[str]) -> Chosen:
    """Choose the columns to cluster by.

    Parameters
    ----------
    sheet : Sheet
    columns : str or None
        Names, separated by commas, quoted where they hold commas; None: all that measure something.
    identifier : str or None
        Column that names the rows.
    ours : set of str
        Names that a table of scores has for certain.
    """
    names = list(sheet.frame.columns)
    key = None if identifier is None else named(sheet, identifier, "--id")
    if columns is not None:
        try:
            table = list(csv.reader(io.StringIO(columns, newline=""), skipinitialspace=True))
        except csv.Error as error:
            fail(f"--columns {visible(columns)}: {error}")
        asked = [name for cells in table for name in cells if name.strip()]
        if not asked:
            fail(f"--columns names no column; available: {listed(names)}")
        used = list(dict.fromkeys(named(sheet, c, "--columns") for c in asked))
        return features(sheet, used, key)

    candidates = [c for c in names if c != key]
    said = list(sheet.said)
    if ours <= set(names):
        earlier = [c for c in names if c in ours or re.fullmatch(r"probability_\d+", c)]
        said.append(f"left out, scores of an earlier run: {listed(earlier)}")
        candidates = [c for c in candidates if c not in earlier]
    decimal = decimal_mark(sheet, candidates)
    left: dict[str, list[str]] = {}
    found: dict[str, Column] = {}
    for name in candidates:
        read = column(sheet, name, decimal)
        why = _why_not(sheet, name, read)
        if why:
            left.setdefault(why, []).append(name)
        else:
            found[name] = read
    ids, doubtful = identifiers(sheet, found)
    for name, why in ids.items():
        left.setdefault(why, []).append(name)
        del found[name]
    said += [f"left out, {why}: {listed(left_out)}" for why, left_out in left.items()]
    if not found:
        reasons = "; ".join(f"{why}: {listed(some)}" for why, some in left.items())
        fail(
            f"{sheet.path} has no numeric columns that measure something ({reasons or 'no columns'}"
            "); name those to use with --columns"
        )
    for name, read in found.items():
        if read.bad.any():
            _refuse_text(sheet, name, read)
    if ids or doubtful:
        said.append("--columns names the columns to use, --id the one that names the rows")
    if doubtful:
        said.insert(-1, f"used, though no two rows agree in them: {listed(doubtful)}")
    said += read_as(found, decimal)
    if key is None and sheet.named and any(names[0] in some for some in left.values()):
        key = names[0]
    if key is None:
        key = next(iter(ids), None)
    return _finite(sheet, found, decimal, key, said)


def _why_not(sheet: Sheet, name: str, read: Column) -> str:
    """Say why a column measures nothing; "" if it may."""
    n = len(read.values)
    if read.missing.all():
        return "empty"
    if sheet.named and name == sheet.frame.columns[0] and n > 1:
        return "names the rows"
    if read.boolean:
        return "true or false"
    if read.share < MOSTLY:
        return "not numeric"
    there = read.values[~read.missing & ~read.bad]
    if n > 1 and not read.missing.any() and not read.bad.any() and (there == there[0]).all():
        return "constant"
    return ""


def identifiers(sheet: Sheet, found: dict[str, Column]) -> tuple[dict[str, str], list[str]]:
    """Find columns of whole numbers that number or name the rows.

    Returns
    -------
    left : dict
        Why, by the column's name.
    doubtful : list of str
        Columns of different whole numbers that may as well be measured.
    """
    left, doubtful = {}, []
    for name, read in found.items():
        values = read.values
        n = len(values)
        if n < 3 or not np.isfinite(values).all() or (values != np.floor(values)).any():
            continue
        steps = np.diff(values)
        if (steps == 1).all() or (steps == -1).all():
            left[name] = "numbers the rows"
            continue
        last = _last_word(name)
        different = bool(_cells(sheet, name).is_unique)
        inexact = np.abs(values).max() > EXACT
        if last == "id" or (different and last in NUMBERING) or inexact:
            left[name] = "looks like an identifier"
            continue
        if not different or n < FEW or not _digits_only(sheet, name):
            continue
        repeats = n * n / (2 * (np.ptp(values) + 1))
        lengths = {len(f"{v:.0f}") for v in values}
        code = len(lengths) == 1 and min(lengths) >= CODE_DIGITS
        if repeats >= EXPECTED_REPEATS or code or _zero_first(sheet, name):
            left[name] = "looks like an identifier"
        else:
            doubtful.append(name)
    alone = len(doubtful) == 1 and len(found) - len(left) > 1
    if alone and doubtful[0] == sheet.frame.columns[0]:
        left[doubtful.pop()] = "looks like an identifier"
    return left, doubtful


def _last_word(name: str) -> str:
    """The last word of a name, numbers aside: id of patient_id, patientId and "Patient ID 2"."""
    words = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", name)
    return words[-1].lower() if words else ""


def _zero_first(sheet: Sheet, name: str) -> bool:
    """Whether cells begin with zeros that no number needs, e.g. 007."""
    return sheet.form is not None and bool(_stripped(sheet, name).str.match("0[0-9]").any())


def _digits_only(sheet: Sheet, name: str) -> bool:
    """Whether whole numbers are written as identifiers are: no sign, no decimals, no groups."""
    cells = _cells(sheet, name)
    if sheet.form is not None:
        return bool(cells.str.fullmatch("[0-9]+").all())
    return cells.dtype.kind in "iu" and bool((cells >= 0).all())


def features(sheet: Sheet, names: list[str], key: str | None = None) -> Chosen:
    """Read columns that were named; see `choose`."""
    decimal = decimal_mark(sheet, names)
    found = {name: column(sheet, name, decimal) for name in names}
    for name, read in found.items():
        if read.bad.any():
            _refuse_text(sheet, name, read)
    return _finite(sheet, found, decimal, key, [*sheet.said, *read_as(found, decimal)])


def read_as(found: dict[str, Column], decimal: str) -> list[str]:
    """Say how numbers were read, where it could surprise."""
    said = []
    if decimal == ",":
        said.append("read with decimal commas: 1,5 is one and a half")
    cell = next((read.grouped for read in found.values() if read.grouped), "")
    if cell:
        value = cell
        for mark in ("," if decimal == "." else ".") + GAPS:
            value = value.replace(mark, "")
        said.append(f"read with grouped digits: {visible(cell)} is {value}")
    return said


def _refuse_text(sheet: Sheet, name: str, read: Column) -> None:
    row = int(np.flatnonzero(read.bad)[0])
    cell = visible(sheet.frame[name].iloc[row])
    cell = cell if len(cell) <= LABEL_WIDTH else f"{cell[:LABEL_WIDTH]}.."
    count = counted(int(read.bad.sum()), "cell")
    fail(
        f"{sheet.path}: column {visible(name)} is not numeric in {count}, first '{cell}' in "
        f"{sheet.where(row)}; correct it, or leave the column out with --columns"
    )


def _finite(
    sheet: Sheet, found: dict[str, Column], decimal: str, key: str | None, said: list[str]
) -> Chosen:
    """The rows, if all of them are finite."""
    import pandas as pd

    rows = pd.DataFrame({name: c.values for name, c in found.items()})
    bad = ~np.isfinite(rows.to_numpy())
    if bad.any():
        where = [c for c, b in zip(rows.columns, bad.any(axis=0), strict=True) if b]
        first = int(np.flatnonzero(bad.any(axis=1))[0])
        fail(
            f"{sheet.path}: {counted(int(bad.any(axis=1).sum()), 'row')} with missing or infinite "
            f"values in {listed(where)}, first in {sheet.where(first)}; drop or impute them"
        )
    return Chosen(rows, _labels(sheet, key, set(found)), decimal, said)


def _labels(sheet: Sheet, key: str | None, used: set[str]) -> tuple[str, np.ndarray] | None:
    """What rows are called: the key, the index of the file, or text of which no two are equal."""
    import pandas as pd

    frame = sheet.frame
    if key is not None:
        name = "" if key.startswith("Unnamed: ") else key
        return name or "row", frame[key].astype(str).str.strip().to_numpy(object)
    if not isinstance(frame.index, pd.RangeIndex):
        name = ", ".join(str(n) for n in frame.index.names if n is not None)
        return name or "index", np.array([str(v) for v in frame.index], object)
    for name in frame.columns:
        if name in used or frame[name].dtype.kind in "fiubmM":
            continue
        text = frame[name].astype(str).str.strip()
        if sheet.form is not None and is_number(text.iloc[0]):
            continue
        if text.is_unique and len(text) > 1 and text.str.len().max() <= LABEL_WIDTH:
            return name, text.to_numpy(object)
    return None
