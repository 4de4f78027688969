"""Separators and decimal marks: found in the text, or left to the user."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from bayesclust.cli.refuse import fail

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

BLANKS = " "
"""As a separator: any run of blanks."""

GAPS = " '\u2019\u00a0\u202f"
"""Group digits in either notation."""

MISSING = frozenset(
    "|na|n/a|#na|#n/a|<na>|nan|-nan|nat|null|none|missing|?|.|-|--|#div/0!|#value!|#ref!|#num!"
    "|#name?|#null!".split("|")
)
"""Cells that hold no value, in lower case."""


def number(decimal: str) -> str:
    """Pattern of a number with a decimal mark; the other mark, or a gap, may group its digits."""
    d, g = re.escape(decimal), "[" + re.escape(("," if decimal == "." else ".") + GAPS) + "]"
    whole = rf"(?:[0-9]+|[1-9][0-9]{{0,2}}(?:{g}[0-9]{{3}})+)"
    return rf"[+-]?(?:{whole}(?:{d}[0-9]*)?|{d}[0-9]+)(?:[eE][+-]?[0-9]+)?"


NUMBER = {mark: re.compile(number(mark)) for mark in ".,"}

INFINITE = re.compile("[+-]?inf(?:inity)?", re.IGNORECASE)


def is_number(cell: str) -> bool:
    """Whether a cell is a number in either notation."""
    cell = cell.strip().replace("\u2212", "-")
    return any(pattern.fullmatch(cell) for pattern in NUMBER.values())


def records(text: Any, sep: str, padded: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Cells of each line that is not blank, with its number (1 first), quotes undone.

    Parameters
    ----------
    text : file of text, opened with ``newline=""``
    sep : str
    padded : bool
        Skip blanks behind separators.

    Yields
    ------
    line : int
        Where the record ends: a quoted cell may run over several lines.
    cells : list of str
    """
    if sep == BLANKS:
        for i, line in enumerate(text, 1):
            if line.strip():
                yield i, [cell.strip('"') for cell in line.split()]
        return
    reader = csv.reader(text, delimiter=sep, strict=True, skipinitialspace=padded)
    for cells in reader:
        yield reader.line_num, cells


def separator(sample: str, cut: bool, decimal: str | None, path: Any) -> str:
    """Find what separates the columns, or refuse.

    Parameters
    ----------
    sample : str
        The first lines of the file.
    cut : bool
        The file goes on behind the sample.
    decimal : str or None
        The decimal mark, where the user gave it.
    path : path-like
        For the refusal.
    """
    fits, uneven = {}, {}
    for sep in SEPARATORS:
        if sep not in sample:
            continue
        lines, table = _table(sample, sep, cut)
        if not table or max(map(len, table)) < 2:
            continue
        if regular(table, decimal == "," and sep == ","):
            fits[sep] = _share_of_numbers(table)
        else:
            uneven[sep] = lines, table
    best = [sep for sep in fits if fits[sep] == max(fits.values())]
    if len(best) == 1:
        return best[0]
    if len(best) > 1:
        names = " and ".join(SEPARATORS[s] for s in best)
        fail(f"{path}: columns may be separated by {names}: say which with --sep")
    _, table = _table(sample, BLANKS, cut)
    if table and regular(table, False) and len(table[0]) > 1 and _share_of_numbers(table) == 1:
        return BLANKS
    if uneven and not _one_column(uneven, decimal):
        sep = min(uneven, key=lambda s: _unevenness(uneven[s][1]))
        lines, table = uneven[sep]
        i = next(i for i, cells in enumerate(table) if len(cells) != len(table[0]))
        fail(
            f"{path}: cannot tell how columns are separated: split at {SEPARATORS[sep]}, line "
            f"{lines[0]} has {len(table[0])} and line {lines[i]} has {len(table[i])} cells. Mend "
            "the lines, or give --sep (and --decimal, if commas are decimal marks)"
        )
    return ";" if decimal == "," else ","  # one column


def _table(sample: str, sep: str, cut: bool) -> tuple[list[int], list[list[str]]]:
    """Lines and cells of the sample; none where its quotes do not end."""
    lines, table = [], []
    try:
        for line, cells in records(io.StringIO(sample, newline=""), sep):
            if len(cells) > 1 or "".join(cells).strip():
                lines.append(line)
                table.append(cells)
    except csv.Error:
        if not cut:
            return [], []
    if cut and len(table) > 1:
        table.pop()  # it may go on
    return lines, table


def regular(table: Sequence[Sequence[str]], strict: bool) -> bool:
    """Whether all lines have as many cells, or one more than a header that names no rows.

    Parameters
    ----------
    table : rows of cells, header first
    strict : bool
        No such header.
    """
    header, widths = len(table[0]), {len(cells) for cells in table[1:]}
    if not widths or widths == {header}:
        return True
    return not strict and widths == {header + 1} and bool(extra_column(table))


def extra_column(table: Sequence[Sequence[str]]) -> str:
    """Say which column a header that is one name short leaves out: "last", "first" or "".

    The last one if separators end all lines; the first one if it names the rows, or numbers them,
    as R writes them.
    """
    if not any(cells[-1].strip() for cells in table[1:]):
        return "last"
    first = [cells[0].strip() for cells in table[1:]]
    numbered = first == [str(i) for i in range(1, len(first) + 1)]
    if any(map(is_number, first)) and not (numbered and len(table[0]) > 1 and len(first) > 2):
        return ""
    return "first" if len(set(first)) == len(first) else ""


def _share_of_numbers(table: Sequence[Sequence[str]]) -> float:
    cells = [c for row in table[1:] or table for c in row if c.strip().lower() not in MISSING]
    return sum(map(is_number, cells)) / max(len(cells), 1)


def _unevenness(table: Sequence[Sequence[str]]) -> float:
    widths = [len(cells) for cells in table]
    return 1 - max(widths.count(w) for w in set(widths)) / len(widths)


def _one_column(uneven: dict[str, Any], decimal: str | None) -> bool:
    """Whether the only commas are the decimal marks that the user spoke of."""
    return decimal == "," and set(uneven) == {","}
