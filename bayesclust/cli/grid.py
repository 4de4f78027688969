"""Tables of plain text whose cells are never cut: too wide, they go on below."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bayesclust.cli.visible import visible

GAP = 3
"""Blanks between columns."""

DIGITS = 4
"""Significant digits of a figure whose error is not known."""


def grid(columns: Sequence[tuple[str, Sequence[str]]], width: int, keys: int = 1) -> list[str]:
    """Lay columns out side by side, in blocks that are as wide as the terminal.

    Parameters
    ----------
    columns : sequence of (name, cells)
        The first `keys` of them begin every block.
    width : int
        Columns of the terminal; a block of one column may be wider.
    keys : int

    Returns
    -------
    list of str
    """
    columns = [(visible(name), [visible(c) for c in cells]) for name, cells in columns]
    lines: list[str] = []
    for block in blocks(columns, width, keys):
        if lines:
            lines.append("")
        sizes = [max(map(_size, (name, *cells))) for name, cells in block]
        rows = [[name for name, _ in block], *zip(*(cells for _, cells in block), strict=True)]
        for i, row in enumerate(rows):
            parts = (" " * (s - _size(c)) + c for c, s in zip(row, sizes, strict=True))
            lines.append("  " + (" " * GAP).join(parts))
            if i == 0:
                lines.append(" " + "─" * (sum(sizes) + GAP * (len(sizes) - 1) + 2))
    return lines


def blocks(
    columns: Sequence[tuple[str, Sequence[str]]], width: int, keys: int
) -> list[list[tuple[str, Sequence[str]]]]:
    """Columns of each block, the first `keys` in all of them."""
    head, rest = list(columns[:keys]), columns[keys:]

    def wide(block: Sequence[tuple[str, Sequence[str]]]) -> int:
        sizes = [max(map(_size, (name, *cells))) for name, cells in block]
        return sum(sizes) + GAP * (len(sizes) - 1) + 3

    out = [list(head)]
    for column in rest:
        if len(out[-1]) > keys and wide([*out[-1], column]) > width:
            out.append(list(head))
        out[-1].append(column)
    return out


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
