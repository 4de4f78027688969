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
from bayesclust.core.rows import MIN_BLOCK, TILE_BYTES, bucket, cores
from bayesclust.core.units import Units

CHUNK = 8192
"""Rows per chunk on a CPU."""

ACCELERATOR_CHUNK = 1 << 20


def chunk_size(numbers_per_row: int, budget: int = 1 << 26) -> int:
    """Rows per chunk, a power of two: the numbers held for them take at most `budget` bytes."""
    most = CHUNK if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK
    size = max(16, min(most, budget // (8 * max(numbers_per_row, 1))))
    return 1 << (size.bit_length() - 1)


def by_tiles(call: Callable[[Array], Any], x: Array, numbers_per_row: int) -> Any:
    """``call(x (b, d)) -> pytree of (b, ..)``, inside a program, by tiles of rows on a CPU.

    A chunk is long enough to be worth a call of a program, a tile short enough that what is held
    for its rows stays in the second-level cache.
    """
    n = x.shape[0]
    most = max(TILE_BYTES // (max(numbers_per_row, 1) * x.dtype.itemsize), MIN_BLOCK)
    tile = min(1 << (most.bit_length() - 1), n & -n)
    if jax.default_backend() != "cpu" or n <= most or tile < MIN_BLOCK:
        return call(x)
    out = lax.map(call, x.reshape(n // tile, tile, *x.shape[1:]))
    return jax.tree.map(lambda v: v.reshape(n, *v.shape[2:]), out)


def map_rows(
    call: Callable[[Any], Any],
    X: np.ndarray,
    units: Units,
    chunk: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Apply a jitted function to rows and collect the results in row order.

    Parameters
    ----------
    call : callable
        ``x (b, d) -> pytree of (b, ..) arrays``; rows come in the fit's units. All calls but
        those of small data have the same `b`: short chunks are padded with zeros.
    X : (n, d) ndarray
        In the user's units.
    units : Units
    chunk : int
        Rows per call.
    progress : callable, optional
        Called as ``progress(rows_done, n)`` from the calling thread.

    Returns
    -------
    pytree of (n, ..) ndarrays
    """
    n, d = X.shape
    size = min(chunk, bucket(n, 16))
    low = units.shift.astype(X.dtype)
    inverse = (1.0 / units.scale).astype(X.dtype)

    def one(first: int) -> Any:
        rows = (units.scaled(X[first : first + size]) - low) * inverse
        if len(rows) < size:
            rows = np.concatenate([rows, np.zeros((size - len(rows), d), X.dtype)])
        return jax.device_get(call(rows))

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
