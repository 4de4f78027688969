"""Answers per row: a function applied to all rows, a chunk at a time, on all cores.

The sweep adds up; this is its counterpart where the answer itself has a line per row. Peak memory
beyond the answer is one chunk per core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

from bayesclust._typing import Array
from bayesclust.core import threads
from bayesclust.core.fork import refuse_forked
from bayesclust.core.rows import MIN_BLOCK, TILE_BYTES, bucket, cores
from bayesclust.core.units import Units


class Overflow(ValueError):
    """A row so far from the data of a fit that its squared distances are no finite numbers.

    Parameters
    ----------
    position, column : int
        Of the row and of its most distant value, from 0.
    value : float
        In the user's units.
    dtype : str
        Of the fit's arithmetic.
    row, feature : optional
        Their names, as far as they are known.
    """

    def __init__(
        self,
        position: int,
        column: int,
        value: float,
        dtype: str,
        row: Any = None,
        feature: str | None = None,
    ) -> None:
        super().__init__(position, column, value, dtype, row, feature)

    def named(self, row: Any, feature: str | None) -> Overflow:
        """The same, with names where it has none yet."""
        position, column, value, dtype, its_row, its_feature = self.args
        row = row if its_row is None else its_row
        feature = feature if its_feature is None else its_feature
        return Overflow(position, column, value, dtype, row, feature)

    def __str__(self) -> str:
        position, column, value, dtype, row, feature = self.args
        name = "" if row is None else f" ({row!r})"
        where = f"column {column}" if feature is None else f"column {feature!r}"
        wider = "" if dtype == "float64" else ", or fit the data in float64"
        return (
            f"row {position}{name} of X has {value:.7g} in {where}, so far from the data of the "
            f"fit that its squared distance overflows in {dtype}: correct or drop the row (a "
            f"fill value for missing data?){wider}"
        )


def refuse_overflow(finite: np.ndarray, X: np.ndarray, units: Units, dtype: Any) -> None:
    """Raise an `Overflow` that points at the first row that is not `finite`, if any.

    Parameters
    ----------
    finite : (n,) bool ndarray
    X : (n, d) ndarray
        In the user's units.
    units : Units
    dtype : dtype
        Of the arithmetic that overflowed.
    """
    if finite.all():
        return
    position = int(np.argmin(finite))
    row = X[position].astype(np.float64)
    with np.errstate(over="ignore"):
        column = int(np.argmax(np.abs(units.scaled(row) - units.shift) / units.scale))
    raise Overflow(position, column, float(row[column]), np.dtype(dtype).name)


CHUNK = 8192
"""Rows per chunk on a CPU."""

ACCELERATOR_CHUNK = 1 << 20


def chunk_size(numbers_per_row: int, budget: int = 1 << 26) -> int:
    """Rows per chunk, a power of two: the numbers held for them take at most `budget` bytes."""
    most = CHUNK if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK
    size = max(16, min(most, budget // (8 * max(numbers_per_row, 1))))
    return 1 << (size.bit_length() - 1)


def by_tiles(call: Callable[..., Any], x: Array, numbers_per_row: int, *beside: Array) -> Any:
    """``call(x (b, d), *beside) -> pytree of (b, ..)``, inside a program, by tiles on a CPU.

    A chunk is long enough to be worth a call of a program, a tile short enough that what is held
    for its rows stays in the second-level cache. `beside` are further arrays of a line per row.
    """
    n = x.shape[0]
    most = max(TILE_BYTES // (max(numbers_per_row, 1) * x.dtype.itemsize), MIN_BLOCK)
    tile = min(1 << (most.bit_length() - 1), n & -n)
    if jax.default_backend() != "cpu" or n <= most or tile < MIN_BLOCK:
        return call(x, *beside)
    tiles = [v.reshape(n // tile, tile, *v.shape[1:]) for v in (x, *beside)]
    out = lax.map(lambda t: call(*t), tiles)
    return jax.tree.map(lambda v: v.reshape(n, *v.shape[2:]), out)


def map_rows(
    call: Callable[..., Any],
    X: np.ndarray,
    units: Units,
    chunk: int,
    *beside: np.ndarray,
    dtype: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Apply a jitted function to rows and collect the results in row order.

    Parameters
    ----------
    call : callable
        ``(x (b, d), *beside) -> pytree of (b, ..) arrays``; rows come in the fit's units. All
        calls but those of small data have the same `b`: short chunks are padded with zeros.
    X : (n, d) ndarray
        In the user's units.
    units : Units
    chunk : int
        Rows per call.
    beside : (n, ..) ndarrays
        What else there is of each row.
    dtype : dtype, optional
        Of the arithmetic, default: of `X`. A value beyond its range becomes infinite.
    progress : callable, optional
        Called as ``progress(rows_done, n)`` from the calling thread.

    Returns
    -------
    pytree of (n, ..) ndarrays
    """
    refuse_forked()
    n = len(X)
    dtype = X.dtype if dtype is None else dtype
    size = min(chunk, bucket(n, 16))
    low = units.shift.astype(dtype)
    inverse = (1.0 / units.scale).astype(dtype)

    def one(first: int) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            given = X[first : first + size].astype(dtype, copy=False)
            rows = (units.scaled(given) - low) * inverse
        parts = [rows, *(v[first : first + size] for v in beside)]
        if len(rows) < size:
            parts = [
                np.concatenate([v, np.zeros((size - len(v), *v.shape[1:]), v.dtype)]) for v in parts
            ]
        return jax.device_get(call(*parts))

    head = one(0)
    if n <= size:
        if progress is not None:
            progress(n, n)
        return jax.tree.map(lambda v: np.array(v[:n]), head)
    out = jax.tree.map(lambda v: np.empty((n, *v.shape[1:]), v.dtype), head)

    def put(first: int, part: Any) -> None:
        def copy(o: np.ndarray, v: np.ndarray) -> None:
            o[first : first + size] = v[: n - first]

        jax.tree.map(copy, out, part)

    put(0, head)
    starts = range(size, n, size)
    p = min(cores() if jax.default_backend() == "cpu" else 1, len(starts))
    shares = [starts[i::p] for i in range(p)]

    def work(share: range, report: bool) -> None:
        for i, first in enumerate(share):
            put(first, one(first))
            if report and progress is not None:
                progress(min((i + 1) * p * size, n), n)

    threads.run([lambda s=s, i=i: work(s, i == 0) for i, s in enumerate(shares)])
    return out
