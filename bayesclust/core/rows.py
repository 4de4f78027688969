"""Rows cut into blocks: layout, padding to buckets, weights, and how cores and devices share them.

A block holds `b` rows with the features first, ``(d, b)``: scores then come out as ``(k, b)`` and
every reduction over components runs along the vector lanes. Padding rows have weight zero, so
they add nothing to any sum.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree
from bayesclust._typing import Array
from bayesclust.core.fork import refuse_forked

TILE_BYTES = 320 * 1024
"""What a CPU tile may take, so that a block stays in the second-level cache."""

SHARED_BYTES = 256 * 1024
"""Size of an operand from which XLA shares a single operation among the cores.

Cores that sweep a range of blocks each would get in each other's way.
"""

ACCELERATOR_TILE_BYTES = 2 * 1024**3
"""On an accelerator one block is the whole data set while its tile stays below this."""

MIN_BLOCK, MAX_BLOCK = 128, 8192


@pytree
class Rows:
    """Rows in blocks, with weights.

    Attributes
    ----------
    x : (m, d, b) array
        `m` blocks of `b` rows, features first; rows beyond the data are zero.
    weight : (m, b) array
        Row weights; zero for padding.
    first, last : int scalars
        Blocks ``first <= i < last`` are in use. They are traced: another number of rows in the
        same bucket, or another share of the blocks, runs the same program.
    """

    x: Array
    weight: Array
    first: Any
    last: Any

    @property
    def n_features(self) -> int:
        """Columns of the data."""
        return self.x.shape[-2]

    @property
    def block(self) -> int:
        """Rows per block."""
        return self.x.shape[-1]

    @property
    def dtype(self) -> Any:
        """Of the rows."""
        return self.x.dtype


def bucket(size: int, least: int = 64) -> int:
    """Smallest of 8 sizes per octave that holds `size`, so that shapes, and programs, repeat.

    >>> [bucket(n) for n in (3, 64, 65, 150, 272, 1000)]
    [64, 64, 72, 160, 288, 1024]
    """
    size = max(int(size), least)
    step = 1 << max((size - 1).bit_length() - 4, 0)
    return -(-size // step) * step


def block_size(
    n: int, numbers_per_row: int, dtype: Any, *, least: int = MIN_BLOCK, tile: int = TILE_BYTES
) -> int:
    """Rows per block: all of them if they nearly fit one tile, else a power of two that does.

    Parameters
    ----------
    n : int
        Number of rows.
    numbers_per_row : int
        Numbers a sweep holds per row (scores, rows, whitened rows ..).
    dtype : dtype
        Of these numbers.
    least : int
        Rows per block however large the tile gets.
    tile : int
        Bytes a tile may take on a CPU.
    """
    size = max(numbers_per_row, 1) * np.dtype(dtype).itemsize
    if jax.default_backend() == "cpu":
        room = tile // size
        most = min(max(room, least), MAX_BLOCK)
    else:
        most = max(ACCELERATOR_TILE_BYTES // size, least)
    if n <= 2 * most:  # no loop at all beats the better block
        return bucket(n)
    return 1 << (most.bit_length() - 1)


def pack(X: Array, sample_weight: Array | None = None, *, block: int | None = None) -> Rows:
    """Cut rows into blocks inside a program (pure; works under jit, vmap and grad).

    Parameters
    ----------
    X : (n, d) array
    sample_weight : (n,) array, optional
        Default: ones.
    block : int, optional
        Most rows per block.
    """
    n, d = X.shape
    b = min(block or block_size(n, 2 * d, X.dtype), n)
    m = -(-n // b)
    weight = jnp.ones(n, X.dtype) if sample_weight is None else sample_weight.astype(X.dtype)
    pad = m * b - n
    x = jnp.pad(X, ((0, pad), (0, 0))).reshape(m, b, d).swapaxes(1, 2)
    return Rows(x, jnp.pad(weight, (0, pad)).reshape(m, b), 0, m)


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros on a 64-byte boundary, which a CPU device adopts without a copy."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def pack_host(
    X: np.ndarray,
    sample_weight: np.ndarray | None = None,
    *,
    shift: np.ndarray,
    scale: np.ndarray,
    exponent: np.ndarray | None = None,
    block: int,
) -> Rows:
    """Cut host rows into blocks on the device: ``(X - shift) / scale``, one copy, bucketed.

    Parameters
    ----------
    X : (n, d) ndarray, float32 or float64
    sample_weight : (n,) ndarray, optional
    shift, scale : (d,) float64 ndarrays
        `shift` must be representable in the dtype of `X`; the difference is then exactly the
        rounded double-precision one.
    exponent : (d,) int ndarray, optional
        The rows are multiplied by two to minus this power first.
    block : int
        Rows per block.
    """
    n, d = X.shape
    dtype = X.dtype
    m_used = -(-n // block)
    m = 1 if m_used == 1 else bucket(m_used, 16)
    x = aligned_zeros((m, d, block), dtype)
    weight = aligned_zeros((m, block), dtype)
    low = shift.astype(dtype)
    inverse = (1.0 / scale).astype(dtype)
    plain = bool(np.all(inverse == 1))

    def fill(first: int, last: int) -> None:
        for i in range(first, last):
            rows = X[i * block : (i + 1) * block]
            if exponent is not None:
                rows = np.ldexp(rows, -exponent)
            out = x[i, :, : len(rows)]
            np.subtract(rows.T, low[:, None], out=out)
            if not plain:
                out *= inverse[:, None]

    share(fill, m_used, n * d)
    flat = weight.reshape(-1)
    flat[:n] = 1 if sample_weight is None else sample_weight
    on_device, its_weight = to_device(x, weight)
    return Rows(on_device, its_weight, np.int32(0), np.int32(m_used))


def to_device(*arrays: np.ndarray) -> tuple[Array, ...]:
    """Hand host arrays, which nobody changes afterwards, to the default device."""
    refuse_forked()
    return jax.device_put(arrays, may_alias=True)


def release() -> None:
    """Give back host memory that JAX read in place and nobody holds any more.

    JAX does so only when Python collects garbage, which it may not do for long. Without this a
    k-means fit of long rows leaves its packed copy of them behind: 2.6 times their memory, not
    1.6. Only the youngest objects are looked at.
    """
    gc.collect(0)


def cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells
        return os.cpu_count() or 1


def share(work: Any, m: int, size: int) -> None:
    """Run ``work(first, last)`` over ``range(m)``, on all cores when `size` numbers are many."""
    p = min(cores(), m)
    if size < 1 << 20 or p < 2:
        work(0, m)
        return
    from bayesclust.core.threads import run

    cuts = np.linspace(0, m, p + 1).astype(int)
    run([lambda a=a, b=b: work(a, b) for a, b in itertools.pairwise(cuts)])


def spread(rows: Rows, work: int) -> list[Rows]:
    """Give every core or device its share of the blocks.

    With several devices of the default backend each gets its own slice of the data; with one CPU
    device the parts are ranges of blocks of the same arrays, for one thread each. `work` is the
    number of multiply-adds of one sweep; below `PARALLEL_WORK` there is one part.
    """
    m = int(rows.last) - int(rows.first)
    devices = jax.local_devices()
    on_cpu = jax.default_backend() == "cpu"
    p = len(devices) if len(devices) > 1 else (cores() if on_cpu else 1)
    p = min(p, m)
    if p < 2 or work < PARALLEL_WORK:
        return [rows]
    cuts = np.linspace(int(rows.first), int(rows.last), p + 1).astype(np.int32)
    ranges = list(itertools.pairwise(cuts))
    if len(devices) == 1:
        return [dataclasses.replace(rows, first=a, last=b) for a, b in ranges]
    parts = []
    for device, (a, b) in zip(devices, ranges, strict=False):
        x, weight = jax.device_put((rows.x[a:b], rows.weight[a:b]), device)
        parts.append(Rows(x, weight, np.int32(0), b - a))
    return parts


def split(rows: Rows, work: int) -> list[Rows]:
    """Cut rows on the host into arrays of their own, one for each core, without a copy on a CPU.

    Unlike ranges of the same arrays, parts can have per-row results of their own. `work` is as
    for `spread`; there is one part on an accelerator and where the blocks do not divide.
    """
    m, p = rows.x.shape[0], cores()
    if p < 2 or m % p or work < PARALLEL_WORK or jax.default_backend() != "cpu":
        return [rows]
    x, weight, size = np.asarray(rows.x), np.asarray(rows.weight), m // p

    def part(a: int) -> Rows:
        used = np.clip(np.asarray([rows.first, rows.last], np.int32) - a, 0, size)
        own, its_weight = to_device(x[a : a + size], weight[a : a + size])
        return Rows(own, its_weight, *used)

    return [part(i * size) for i in range(p)]


PARALLEL_WORK = 10_000_000
"""Multiply-adds per sweep from which a second core pays for handing over the work."""


def unblock(values: Array, n: int) -> Array:
    """Turn per-row results ``(m, .., b)`` back into row order ``(n, ..)``."""
    moved = jnp.moveaxis(values, -1, 1)
    return moved.reshape(-1, *moved.shape[2:])[:n]
