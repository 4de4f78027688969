"""The table of scores: the user's columns as they stand, ours beside them."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesclust.cli.columns import column
from bayesclust.cli.read import Form, Sheet, kind
from bayesclust.cli.sniff import BLANKS, GAPS, is_number
from bayesclust.cli.visible import visible

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins so is run by spreadsheets."""

EXACT = 15
"""Digits that a float keeps."""


@dataclass
class Scores:
    """A table to write: input columns and scores, row by row in the order of the input.

    Attributes
    ----------
    sheet : Sheet
    decimal : str
        Decimal mark of the sheet.
    table : pandas.DataFrame
        Scores, one line per row of the sheet.
    name : str
        Name of the file, which says its format.
    safe : bool
        Put a quote before text that a spreadsheet would run.
    """

    sheet: Sheet
    decimal: str
    table: pd.DataFrame
    name: str
    safe: bool = False

    def renamed(self) -> dict[str, str]:
        """Names of scores that the input has too, and the names they get instead."""
        theirs = {*self.sheet.frame.columns, *self.sheet.header, *self.sheet.frame.index.names}
        taken = {*theirs, *self.table.columns}
        out = {}
        for name in self.table.columns:
            if name not in theirs:
                continue
            new, i = f"{name}_bayesclust", 2
            while new in taken:
                new, i = f"{name}_bayesclust_{i}", i + 1
            taken.add(new)
            out[name] = new
        return out

    def said(self) -> list[str]:
        """What the user should know of the columns' names."""
        new = self.renamed()
        if not new:
            return []
        pairs = ", ".join(f"{visible(ours)} is {visible(name)}" for ours, name in new.items())
        return [f"the input has columns named like scores; of the scores, {pairs}"]

    def data(self) -> bytes:
        """Encode the table as a file holds it."""
        import pandas as pd

        suffix, packed = kind(Path(self.name))
        frame = self.sheet.frame
        if suffix == ".parquet" and self.sheet.form is not None:
            frame = pd.DataFrame({c: self._typed(c) for c in frame.columns})
        index = not isinstance(frame.index, pd.RangeIndex)
        ours = self.table.rename(columns=self.renamed()).set_axis(frame.index, axis=0)
        out = pd.concat([frame, ours], axis=1)
        data = io.BytesIO()
        if suffix == ".parquet":
            out.to_parquet(data, index=index)
            return data.getvalue()
        out.columns = [*self.sheet.header, *ours.columns]
        if self.safe:
            out = _quoted(out)
        form = self._form(suffix)
        sep, decimal = form.sep or ",", form.decimal or "."
        out.to_csv(data, sep=sep, decimal=decimal, encoding=form.encoding, index=index)
        return _packed(data.getvalue(), packed)

    def _typed(self, name: str) -> Any:
        """A column of text as numbers, where that loses nothing."""
        text = self.sheet.frame[name]
        read = column(self.sheet, name, self.decimal)
        if read.bad.any() or read.boolean or read.missing.all() or read.grouped:
            return text
        if text.str.match(r"\s*[+-]?0[0-9]").any() or text.str.len().max() > EXACT + 2:
            return text
        return read.values

    def _form(self, suffix: str) -> Form:
        """The form of the output: the input's, or what the file's name asks for."""
        form = self.sheet.form or Form(",", ".", "utf-8")
        sep = "," if form.sep in (None, BLANKS) else form.sep
        if suffix == ".tsv":
            sep = "\t"
        elif suffix == ".csv" and kind(self.sheet.path)[0] == ".tsv":
            sep = ","
        return Form(sep, self.decimal, form.encoding)


def _quoted(table: pd.DataFrame) -> pd.DataFrame:
    """A quote before names and cells that a spreadsheet would run, numbers aside."""

    def safe(cell: Any) -> Any:
        if not isinstance(cell, str) or not cell.lstrip(" ").startswith(FORMULA):
            return cell
        return cell if is_number(cell) and not set(GAPS) & set(cell) else f"'{cell}"

    out = table.copy()
    for j in range(out.shape[1]):
        if out.dtypes.iloc[j].kind not in "iufbmMc":
            out.isetitem(j, out.iloc[:, j].astype(object).map(safe))
    out.columns = [safe(c) for c in out.columns]
    return out


def _packed(data: bytes, packed: str) -> bytes:
    if packed == ".gz":
        return gzip.compress(data, mtime=0)
    if packed == ".zst":
        import pyarrow as pa

        return pa.compress(data, "zstd", asbytes=True)
    return data
