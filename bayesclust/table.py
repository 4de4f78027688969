"""Rows of any kind, read once: numbers, and the names of columns and rows.

Whatever a caller hands in as rows, weights or starting values comes through here, so that what is
no finite number is refused in one way, by column and row.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

Place = Callable[[tuple[int, ...]], str]
"""Name a cell, given its index, as messages do."""

REMEDY = "drop or impute such rows"

TIMES = (
    np.datetime64,
    np.timedelta64,
    datetime.date,
    datetime.time,
    datetime.timedelta,
)

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Rows as they were read.

    Attributes
    ----------
    values : (n, d) ndarray
        Finite, float32 or float64.
    columns : list or None
        Names of the columns; None where the rows came as an array.
    index : (n,) ndarray or None
        Names of the rows, where they have any.
    shared : bool
        Somebody else may hold the memory of `values`, and write to it.
    """

    values: np.ndarray
    columns: list[Any] | None
    index: np.ndarray | None
    shared: bool

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return self.values.dtype

    def kept(self) -> np.ndarray:
        """The values in memory that nobody writes to: a copy, unless reading has made one."""
        values = np.array(self.values) if self.shared else self.values
        values.flags.writeable = False
        return values


def read(X: Any, features: Sequence[str] | None = None, *, minimum: int = 1) -> Table:
    """Read rows from an array, nested lists or a data frame.

    Parameters
    ----------
    X : (n, d) array-like, data frame or Table
        Numbers of any kind; booleans count as 0 and 1. A Table is handed back as it is.
    features : list of str, optional
        Columns to take: from a frame by name, if all of its names are strings, else by place.
    minimum : int
        Least number of rows.

    Raises
    ------
    ValueError, TypeError
        If there are no rows or columns, if a cell is missing, infinite or no number, or if the
        columns are not those asked for. The message names column, row and remedy.
    """
    if isinstance(X, Table):
        return X
    if nw.dependencies.is_pandas_dataframe(X):
        table = _from_pandas(X, features)
    else:
        frame = nw.from_native(X, eager_only=True, pass_through=True)
        if isinstance(frame, nw.DataFrame):
            chosen = _chosen(frame.columns, features)
            names = [frame.columns[j] for j in chosen]
            table = _from_series(names, [frame[name] for name in names], None)
        else:
            table = _from_array(X, features)
    n, d = table.values.shape
    if features is not None and d != len(features):
        raise ValueError(
            f"X has shape {(n, d)}; expected (n, {len(features)}) with columns {list(features)}"
        )
    if d < 1:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={(n, d)}) while a minimum of 1 is required."
        )
    if n < minimum:
        raise ValueError(
            f"Found array with {n} sample(s) (shape={(n, d)}) while a minimum of {minimum} is "
            "required: give more rows"
        )
    return table


def read_weight(sample_weight: Any, n: int, dtype: Any = np.float64) -> np.ndarray:
    """Read row weights, ``(n,)``, into memory of their own.

    Parameters
    ----------
    sample_weight : (n,) array-like or number
    n : int
        Number of rows.
    dtype : dtype
        Of the result.

    Raises
    ------
    ValueError, TypeError
        If they are not `n` finite numbers, one is negative, or all are zero.
    """
    name = "sample_weight"

    def place(index: tuple[int, ...]) -> str:
        return _row(index[0]) if index else "it"

    remedy = "give every row a finite weight, or leave it out"
    given, _ = read_numbers(sample_weight, name, place=place, remedy=remedy)
    with np.errstate(over="ignore", under="ignore"):
        weight = np.full(n, given, dtype) if given.ndim == 0 else given.astype(dtype)
    if weight.shape != (n,):
        raise ValueError(
            f"{name} has shape {given.shape}: give one number for each row, shape ({n},)"
        )
    if not np.isfinite(weight).all() or (given.any() and not weight.any()):
        raise ValueError(
            f"{name} goes up to {np.abs(given).max():.3g}, too large or too small for the "
            f"{np.dtype(dtype)} of the data: divide it by its mean"
        )
    if (weight < 0).any():
        raise ValueError(
            f"{name} holds negative values, {weight[weight < 0][0]:g} in "
            f"{_row(int(np.argmax(weight < 0)))}: weights count rows, so drop or clip them"
        )
    if not weight.any():
        raise ValueError(f"{name} is zero for every row: give some row a positive weight")
    weight.flags.writeable = False
    return weight


def read_numbers(
    value: Any,
    name: str,
    *,
    place: Place = lambda index: f"position {index}",
    remedy: str = "give finite numbers",
) -> tuple[np.ndarray, bool]:
    """Read an array of finite numbers, of any shape.

    Parameters
    ----------
    value : array-like
    name : str
        Of the parameter, for messages.
    place : callable
        Names a cell in messages.
    remedy : str
        Ends messages.

    Returns
    -------
    array : ndarray, float32 or float64
    shared : bool
        Somebody else may hold its memory.

    Raises
    ------
    ValueError, TypeError
        If a cell is missing, infinite or no number.
    """
    array, mask = _as_array(value, name)
    floats = _floats(array, mask, name, place, remedy)
    return floats, floats is array and not isinstance(value, list | tuple)


# -- from what is handed in to arrays ----------------------------------------------------------


def _from_pandas(X: Any, features: Sequence[str] | None) -> Table:
    columns = list(X.columns)
    chosen = _chosen(columns, features)
    index = row_names(X)
    if chosen != list(range(len(columns))):
        X = X.iloc[:, chosen]
        columns = [columns[j] for j in chosen]
    kinds = set(X.dtypes)
    if len(kinds) == 1 and kinds <= set(FLOATS):
        values = X.to_numpy()  # mostly without a copy
        _refuse_infinite(values, "X", _cell(columns), REMEDY)
        return Table(values, columns, index, True)
    parts = [nw.from_native(X.iloc[:, j], series_only=True) for j in range(len(columns))]
    return _from_series(columns, parts, index)


def _from_series(columns: list[Any], parts: list[Any], index: Any) -> Table:
    """Rows from columns of one kind each."""
    found = []
    for j, part in enumerate(parts):
        cell = _cell(columns)

        def place(at: tuple[int, ...], j: int = j, cell: Place = cell) -> str:
            return cell((at[0], j))

        if part.dtype in (nw.Categorical, nw.Enum):
            raise TypeError(
                f"X must be numeric: {_column(columns[j])} holds categories, whose numbers mean "
                "nothing: leave it out, or make one column of zeros and ones for each category"
            )
        values = part.to_numpy()
        found.append(_floats(values, None, "X", place, REMEDY))
    narrow = all(v.dtype == np.float32 for v in found)
    n = len(found[0]) if found else 0
    out = np.empty((n, len(found)), np.float32 if narrow else np.float64, order="F")
    for j, values in enumerate(found):
        out[:, j] = values
    return Table(out, columns, index, False)


def _from_array(X: Any, features: Sequence[str] | None) -> Table:
    array, mask = _as_array(X, "X")
    if array.ndim == 0 and array.dtype.kind in "OUS":
        collect = ": call its collect() first" if hasattr(X, "collect") else ""
        raise ValueError(f"Expected 2D array or data frame, got {type(X).__name__}{collect}")
    if array.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array of shape {array.shape} instead. Reshape "
            "your data: X.reshape(-1, 1) if it is one column, X.reshape(1, -1) if it is one row"
        )
    if array.ndim > 2:
        raise ValueError(
            f"Found array with dim {array.ndim}, of shape {array.shape}; expected rows and "
            "columns: X.reshape(len(X), -1) makes one row of each entry"
        )
    known = features is not None and len(features) == array.shape[1]
    place = _cell(features) if features is not None and known else _cell(None)
    values = _floats(array, mask, "X", place, REMEDY)
    return Table(values, None, None, values is array and not isinstance(X, list | tuple))


def _chosen(columns: Sequence[Any], features: Sequence[str] | None) -> list[int]:
    """Places of the columns to take."""
    columns = list(columns)
    twice = {c for c in columns if columns.count(c) > 1} if len(set(columns)) < len(columns) else ()
    if features is None and twice:
        raise ValueError(f"X has several columns named {min(twice, key=str)!r}: rename all but one")
    # Like scikit-learn: names count only where all of them are strings.
    if features is None or not all(isinstance(c, str) for c in columns):
        return list(range(len(columns)))
    missing = [f for f in features if f not in columns]
    if missing:
        raise ValueError(
            f"X lacks the columns {missing}: the model was fitted to {list(features)}. Rename "
            "the columns, or pass X.to_numpy() if their order is the same"
        )
    for f in features:
        if f in twice:
            raise ValueError(f"X has several columns named {f!r}: rename all but one")
    return [columns.index(f) for f in features]


def row_names(X: Any) -> np.ndarray | None:
    """Copy the index of a pandas frame, as names of rows; None for anything else."""
    index = getattr(X, "index", None)
    if index is None or callable(index):
        return None
    names = np.array(index)
    if names.dtype.kind not in "iufMm":
        # Anything but numbers and plain times goes by its text, as files keep no other objects.
        names = np.asarray([str(v) for v in index], dtype=str)
    names.flags.writeable = False
    return names


def _as_array(value: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The cells as NumPy holds them, and which of them are masked."""
    if hasattr(value, "nnz"):
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required: pass "
            f"{name}.toarray() if memory allows"
        )
    if isinstance(value, list | tuple) and any(isinstance(v, np.ma.MaskedArray) for v in value):
        value = np.ma.array(value)
    try:
        array = np.asarray(value)
        if array.dtype.kind in "US" and isinstance(value, list | tuple):
            array = np.asarray(value, dtype=object)  # the cells as they were, not as text
    except Exception as error:
        raise ValueError(f"{name} cannot be read as an array: {_uneven(value) or error}") from error
    if array.dtype.fields:
        raise TypeError(
            f"{name} is a structured array: pass pandas.DataFrame({name}), or "
            f"numpy.lib.recfunctions.structured_to_unstructured({name})"
        )
    masked = isinstance(value, np.ma.MaskedArray)
    return array, np.ma.getmaskarray(value) if masked else None


def _uneven(value: Any) -> str:
    """Say which row has another length than the first, if one has."""
    if not isinstance(value, list | tuple):
        return ""
    sizes = [len(v) if hasattr(v, "__len__") else 0 for v in value]
    for i, size in enumerate(sizes):
        if size != sizes[0]:
            return f"row {i} holds {size} values, row 0 {sizes[0]}; give all rows the same length"
    return ""


# -- from cells to numbers ---------------------------------------------------------------------


def _floats(
    array: np.ndarray, mask: np.ndarray | None, name: str, place: Place, remedy: str
) -> np.ndarray:
    """Cells as float32 or float64; the same array where it holds them already."""
    if mask is not None and mask.any():
        raise ValueError(
            f"{name} has missing values: {place(_first(mask))} is masked, one of {mask.sum()} "
            f"such cells: {remedy}"
        )
    kind, first = array.dtype.kind, (0,) * array.ndim
    if kind == "O":
        array = _from_objects(array, name, place, remedy)
    elif not array.size:
        return array.astype(np.float64) if array.dtype not in FLOATS else array
    elif kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} holds {array[first]} in {place(first)}; pass real "
            "and imaginary parts as columns of their own"
        )
    elif kind not in "fiub" and not (kind == "V" and np.can_cast(array.dtype, np.float32)):
        _refuse_object(array[first], name, place(first), remedy)
    if array.dtype not in FLOATS:
        whole = array.dtype.kind in "iub"
        narrow = array.dtype.kind == "f" and array.dtype.itemsize == 4  # of another byte order
        with np.errstate(over="ignore"):
            array = array.astype(np.float32 if narrow else np.float64)
        if whole:
            return array
    _refuse_infinite(array, name, place, remedy)
    return array


def _from_objects(array: np.ndarray, name: str, place: Place, remedy: str) -> np.ndarray:
    """Objects as float64, if all of them are real numbers."""
    strange = {kind for kind in set(map(type, array.flat)) if not _is_number(kind)}
    try:
        if not strange:
            return array.astype(np.float64)
    except (OverflowError, TypeError, ValueError):
        pass  # the loop finds the cell
    for index, cell in np.ndenumerate(array):
        if type(cell) in strange:
            _refuse_object(cell, name, place(index), remedy)
        try:
            float(cell)
        except (OverflowError, TypeError, ValueError) as error:
            text = str(cell)
            short = text if len(text) < 40 else f"{text[:36]}..."
            raise ValueError(
                f"{name} holds {short} in {place(index)}, which is no finite number ({error}): "
                f"{remedy}"
            ) from None
    return array.astype(np.float64)  # NumPy's own error, should no cell alone be at fault


def _is_number(kind: type) -> bool:
    # NumPy counts its durations among whole numbers.
    return issubclass(kind, Real | Decimal) and not issubclass(kind, np.timedelta64)


def _refuse_object(cell: Any, name: str, where: str, remedy: str) -> None:
    """Raise the error for a cell that is missing or no real number."""
    from pandas import isna

    if cell is np.ma.masked or isna(cell) is True:
        raise ValueError(f"{name} has missing values: {cell} in {where}: {remedy}")
    if isinstance(cell, str | bytes):
        cell = cell.item() if isinstance(cell, np.generic) else cell
        try:
            float(cell)
            why = f"text ({cell!r})"
            remedy = "convert the column with astype(float)"
        except ValueError as error:
            why = str(error)
            remedy = "leave the column out, or give it as numbers"
        raise ValueError(f"{name} must be numeric: {why} in {where}: {remedy}")
    if isinstance(cell, complex):
        raise ValueError(f"Complex data not supported: {name} holds {cell} in {where}")
    if isinstance(cell, TIMES):
        raise TypeError(
            f"{name} must be numeric: {cell!r} in {where} is a date, time or duration: leave the "
            "column out, or give it as numbers, e.g. days since a first date"
        )
    raise TypeError(
        f"{name} must be numeric: float() argument must be a string or a real number, not "
        f"{type(cell).__name__!r}, in {where}: leave the column out, or give it as numbers"
    )


def _refuse_infinite(values: np.ndarray, name: str, place: Place, remedy: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(values)):  # one pass without a copy; finite sums have finite terms
            return
    bad = ~np.isfinite(values)
    if bad.any():
        first = _first(bad)
        more = f", one of {bad.sum()} such cells" if bad.sum() > 1 else ""
        raise ValueError(
            f"{name} holds NaN or infinity: {values[first]} in {place(first)}{more}: {remedy}"
        )


def _first(where: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.argmax(where), where.shape))


# -- names of cells ----------------------------------------------------------------------------


def _row(i: int) -> str:
    return f"row {i} (counted from 0)"


def _column(name: Any) -> str:
    return f"column {name!r}"


def _cell(columns: Sequence[Any] | None) -> Place:
    """Names of cells of rows with these columns."""

    def place(index: tuple[int, ...]) -> str:
        i, j = index
        column = f"column {j} (x{j})" if columns is None else _column(columns[j])
        return f"{column}, {_row(i)}"

    return place
