"""Tables in: files, their form, their cells as they stand."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesclust.cli.refuse import fail
from bayesclust.cli.sniff import BLANKS, extra_column, is_number, records, separator
from bayesclust.cli.visible import listed, visible

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TEXT = (".csv", ".tsv", ".txt")
PACKED = (".gz", ".zst")
KINDS = "a .csv, .tsv, .txt (also .gz, .zst) or .parquet file"

SAMPLE = 1 << 16
"""Characters that a form is found from."""

CHUNK = 50_000
"""Records that are held as Python objects at a time."""

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by a file's first bytes; the longer mark first."""

NAMES = {"tab": "\t", "\\t": "\t", "space": BLANKS, "comma": ",", "semicolon": ";", "bar": "|"}
"""Separators that are awkward to type."""


@dataclass(frozen=True)
class Form:
    """What a text file is written in: None where it is to be found out.

    Attributes
    ----------
    sep, decimal, encoding : str or None
    header : bool or None
        Whether the first line holds names.
    """

    sep: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None

    def given(self) -> list[str]:
        """Options that the user gave."""
        options = {"--sep": self.sep, "--decimal": self.decimal, "--encoding": self.encoding}
        found = [name for name, value in options.items() if value is not None]
        if self.header is not None:
            found.append("--header" if self.header else "--no-header")
        return found


@dataclass
class Sheet:
    """A table as it was read.

    Attributes
    ----------
    path : Path
    frame : pandas.DataFrame
        Of a text file: cells as they stand, all of them text. Names are unique, without blanks
        around them.
    header : list of str
        Names as they stand in the file.
    form : Form or None
        None for Parquet.
    lines : (n,) ndarray or None
        Line of the file that each row ends in, 1 first.
    named : bool
        The first column names the rows: its name is empty, or the file's header leaves it out.
    said : list of str
        What the user should know of how the file was read.
    plain : dict
        Columns that were read as plain numbers so far; None for one that is none.
    """

    path: Path
    frame: pd.DataFrame
    header: list[str]
    form: Form | None = None
    lines: np.ndarray | None = None
    named: bool = False
    said: list[str] = field(default_factory=list)
    plain: dict[str, np.ndarray | None] = field(default_factory=dict)

    def where(self, row: int) -> str:
        """Say where a row (0 first) is found."""
        return f"row {row} (0 first)" if self.lines is None else f"line {self.lines[row]}"


def kind(path: Path) -> tuple[str, str]:
    """Split the end of a file's name into its format and its compression, "" where there is none.

    ("", "") if it is no format that is read.
    """
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    last = suffixes[-1] if suffixes else ""
    if last in TEXT or (last == ".parquet" and not packed):
        return last, packed
    return "", ""


def read(path: Path, form: Form) -> Sheet:
    """Read a table by the end of its name.

    Parameters
    ----------
    path : Path
    form : Form
        What the user says of it.
    """
    suffix, packed = kind(path)
    if path.is_dir():
        fail(f"{path} is a directory: give {KINDS}")
    if not path.exists():
        fail(f"{path}: there is no such file")
    if not suffix:
        fail(f"{path}: cannot read files of type '{path.suffix}'; give {KINDS}")
    if suffix == ".parquet":
        if form.given():
            fail(f"{form.given()[0]} is for text files: {path.name} says itself what it holds")
        sheet = _parquet(path)
    else:
        sheet = _text(path, suffix, packed, form)
    if not len(sheet.frame):
        fail(f"{path} holds no rows, only names of columns")
    return sheet


def _parquet(path: Path) -> Sheet:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError:
        fail(f"{path}: reading Parquet needs pyarrow: pip install pyarrow")
    except Exception as error:
        fail(f"{path} cannot be read as Parquet: {error}")
    header = [str(c) for c in frame.columns]
    if any("\0" in name for name in header):
        fail(f"{path}: a column's name holds a NUL character: rename it")
    names, said = _unique([c.strip() for c in header])
    frame.columns = names
    return Sheet(path, frame, header, said=said)


# -- text ------------------------------------------------------------------------------------------


def _bytes(path: Path, packed: str) -> Any:
    """The file's bytes, unpacked as they are read."""
    if packed == ".gz":
        return gzip.open(path)
    if packed == ".zst":
        try:
            from pyarrow import input_stream
        except ImportError:
            fail(f"{path}: reading .zst needs pyarrow: pip install pyarrow")
        return io.BufferedReader(input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _text(path: Path, suffix: str, packed: str, form: Form) -> Sheet:
    """Read a text file, or refuse it in one line."""
    if form.decimal not in (None, ".", ","):
        fail(f"--decimal {form.decimal}: give . or ,")
    asked = form.encoding
    try:
        if asked is not None:
            io.TextIOWrapper(io.BytesIO(), asked)
    except (LookupError, ValueError):
        fail(f"--encoding {asked} is no known encoding: try utf-8, latin-1 or utf-16")
    sep = _separator_named(form.sep)
    try:
        with _bytes(path, packed) as stream:
            first = stream.read(4)
        mark = next((e for m, e in MARKS.items() if first.startswith(m)), None)
        encoding = asked or mark or "utf-8"
        if mark == "utf-8-sig" and codecs.lookup(encoding).name == "utf-8":
            encoding = mark
        with io.TextIOWrapper(_bytes(path, packed), encoding, newline="") as text:
            sample, cut = text.read(SAMPLE), bool(text.read(1))
        with io.TextIOWrapper(_bytes(path, packed), encoding, newline="") as text:
            form = Form(sep, form.decimal, encoding, form.header)
            return _table(path, suffix, text, sample, cut, form)
    except UnicodeError as error:
        why = error.reason if isinstance(error, UnicodeDecodeError) else error
        if asked is not None:
            fail(f"{path} is not written in --encoding {asked} ({why}): give another")
        fail(
            f"{path} is not written in {encoding} ({why}): say what it is with --encoding, e.g. "
            "latin-1, cp1252 or utf-16"
        )
    except csv.Error as error:
        fail(
            f"{path} has a quote that does not end, or ends early: {error}. Mend it, or give --sep"
        )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        fail(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def _separator_named(sep: str | None) -> str | None:
    if sep is None:
        return None
    sep = NAMES.get(sep.lower(), sep)
    if len(sep) != 1 or sep in '"\r\n' or sep.isalnum():
        fail(f"--sep {sep}: give one character, or tab or space")
    return sep


def _table(path: Path, suffix: str, text: Any, sample: str, cut: bool, form: Form) -> Sheet:
    import numpy as np
    import pandas as pd

    if not sample.strip("\ufeff \t\r\n"):
        fail(f"{path} is empty")
    if "\0" in sample:
        fail(f"{path} is no text in {form.encoding}: give --encoding, e.g. utf-16, if it is text")
    skipped = 0
    if hint := re.match("sep=(.)\r?\n", sample):  # a line for spreadsheets, no row
        text.readline()
        skipped, sample = 1, sample[hint.end() :]
        form = Form(form.sep or hint[1], form.decimal, form.encoding, form.header)
    sep = form.sep or ("\t" if suffix == ".tsv" else None)
    sep = sep or separator(sample, cut, form.decimal, path)
    # A quote behind a blank opens a cell only where blanks are skipped.
    padded = sep != BLANKS and re.search(re.escape(sep) + ' +"', sample) is not None

    rows = _rows(path, records(text, sep, padded), skipped)
    ahead = list(itertools.islice(rows, 1000))
    if not ahead:
        fail(f"{path} is empty")
    first = ahead[0][1]
    width = len(ahead[1][1]) if len(ahead) > 1 else len(first)
    _check_header(path, first, form)
    start, missing = 1, ""
    if form.header is False:
        start, header = 0, [f"x{j}" for j in range(len(first))]
        width = len(first)
    elif width == len(first) + 1:
        header = first
        missing = extra_column([cells for _, cells in ahead])
        header = ["", *first] if missing == "first" else [*first, ""]
        if not missing:
            width = len(first)  # and the rows are refused
            header = first
    else:
        header, width = first, len(first)

    names, said = _unique([c.strip() or f"Unnamed: {j}" for j, c in enumerate(header)])
    lines, frames = [], []
    for chunk in itertools.batched(itertools.chain(ahead[start:], rows), CHUNK):
        for line, cells in chunk:
            if len(cells) != width:
                fail(
                    f"{path}: line {line} has {len(cells)} cells and the header {len(first)} "
                    "names: mend it, or give another --sep"
                )
        lines.append(np.fromiter((line for line, _ in chunk), np.int64, len(chunk)))
        frames.append(pd.DataFrame([cells for _, cells in chunk], columns=names, dtype=str))
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)
    if missing == "last":
        frame, header = frame.iloc[:, :-1], header[:-1]
    form = Form(sep, form.decimal, form.encoding, form.header)
    where = np.concatenate(lines) if lines else np.zeros(0, np.int64)
    return Sheet(path, frame, header, form, where, not header[0].strip(), said)


def _rows(path: Path, found: Any, skipped: int) -> Any:
    """Skip blank records; in a single column one is a missing value, unless it is the last."""
    blank, width = [], None
    for line, cells in found:
        if not "".join(cells).strip() and len(cells) <= 1:
            if width == 1:
                blank.append((line + skipped, [""]))
            continue
        width = len(cells) if width is None else width
        yield from blank
        blank.clear()
        yield line + skipped, cells


def _check_header(path: Path, first: list[str], form: Form) -> None:
    """Refuse numbers where names are expected, unless the user says what they are."""
    numbers = [c.strip() for c in first if is_number(c)]
    if form.header is None and numbers:
        fail(
            f"{path}: the first line holds numbers ({listed(numbers)}) where names of columns are "
            "expected: give --no-header if it is a row, --header if they are names"
        )


def _unique(names: list[str]) -> tuple[list[str], list[str]]:
    """Names of which no two are equal, and a line on those that were changed."""
    taken, out, changed = set(names), [], []
    seen: set[str] = set()
    for name in names:
        new = name
        if name in seen:
            i = 1
            while (new := f"{name}.{i}") in taken:
                i += 1
            taken.add(new)
            changed.append(f"{visible(name)} is also {visible(new)}")
        seen.add(name)
        out.append(new)
    said = [f"columns of one name are numbered: {', '.join(changed)}"] if changed else []
    return out, said
