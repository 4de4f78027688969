"""Tables of plain text whose cells are never cut: too wide, they go on below."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bayesclust.cli.visible import visible

GAP = 3
"""Blanks between columns."""

DIGITS = 4
"""Significant digits of a figure whose error is not known."""


Column = tuple[str, Sequence[str]]
"""A name and the cells below it."""


def fits(columns: Sequence[Column], width: int) -> bool:
    """Whether columns have room side by side."""
    return len(blocks(columns, width, 0)) < 2


def grid(columns: Sequence[Column], width: int) -> list[str]:
    """Lay columns out side by side, in blocks that are as wide as the terminal.

    Parameters
    ----------
    columns : sequence of (name, cells)
        The first one begins every block.
    width : int
        Columns of the terminal; a block of two columns may be wider.

    Returns
    -------
    list of str
    """
    lines: list[str] = []
    for block in blocks(columns, width, 1):
        if lines:
            lines.append("")
        block = [(visible(name), [visible(c) for c in cells]) for name, cells in block]
        sizes = [max(map(_size, (name, *cells))) for name, cells in block]
        rows = [[name for name, _ in block], *zip(*(cells for _, cells in block), strict=True)]
        for i, row in enumerate(rows):
            parts = (" " * (s - _size(c)) + c for c, s in zip(row, sizes, strict=True))
            lines.append("  " + (" " * GAP).join(parts))
            if i == 0:
                lines.append(" " + "─" * (sum(sizes) + GAP * (len(sizes) - 1) + 2))
    return lines


def blocks(columns: Sequence[Column], width: int, keys: int) -> list[list[Column]]:
    """Columns of each block, the first `keys` in all of them."""
    head = list(columns[:keys])
    out, used = [list(head)], [_wide(head)]
    for column in columns[keys:]:
        more = _wide([column])
        if len(out[-1]) > keys and used[-1] + more + 1 > width:
            out.append(list(head))
            used.append(_wide(head))
        out[-1].append(column)
        used[-1] += more
    return out


def _wide(columns: Sequence[Column]) -> int:
    """Characters that columns take with their gaps."""
    return sum(GAP + max(_size(visible(t)) for t in (name, *cells)) for name, cells in columns)


def _size(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def figure(value: float, error: float | None = None) -> str:
    """A number in plain digits, as many as its standard error leaves, else four.

    Parameters
    ----------
    value : float
    error : float, optional
        Written behind it with two digits.
    """
    if error is None or not (math.isfinite(error) and error > 0 and math.isfinite(value)):
        shown = plain(value, DIGITS)
        return shown if error is None else f"{shown} ± {plain(error, 2)}"
    top = max(abs(value), error)
    if top >= 1e15 or top < 1e-4:
        digits = max(1, math.floor(math.log10(top)) - math.floor(math.log10(error)) + 2)
        return f"{value + 0.0:.{min(digits, 17) - 1}e} ± {error:.1e}"
    decimals = 1 - math.floor(math.log10(float(f"{error:.1e}")))
    return f"{_rounded(value, decimals)} ± {_rounded(error, decimals)}"


def plain(value: float, digits: int) -> str:
    """A number with some significant digits and no power of ten, unless it is huge or tiny."""
    if not math.isfinite(value):
        return str(value)
    size = abs(float(f"{value:.{digits - 1}e}"))
    if size == 0:
        return "0"
    if size >= 1e15 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    text = _rounded(value, digits - 1 - math.floor(math.log10(size)))
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(value: float, decimals: int) -> str:
    """A number with so many decimals; negative ones round before the point."""
    value = round(value, decimals) + 0.0  # no minus zero
    return f"{value:,.{max(decimals, 0)}f}"
