"""Lloyd's algorithm as one sweep and one update, with exactly k clusters.

References
----------
S. P. Lloyd (1982), Least squares quantization in PCM, IEEE Trans. Inf. Theory 28, 129-137.
"""

from __future__ import annotations

import dataclasses
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree, static
from bayesclust._typing import AnyArray, Array
from bayesclust.core import assign
from bayesclust.core.linalg import (
    half_squared_distance,
    matmul,
    no_tally,
    squared_distance,
    tallied,
    tally,
)
from bayesclust.core.loop import Algorithm, record
from bayesclust.core.rows import MIN_BLOCK, SHARED_BYTES, Rows, block_size
from bayesclust.core.sweep import add_onto, add_up, fold


def lloyd_block(n: int, k: int, d: int, dtype: Any) -> int:
    """Rows per block of a sweep of Lloyd's algorithm: as many as XLA leaves to one core."""
    numbers, tile = max(k, d), SHARED_BYTES - 1
    size = block_size(n, numbers, dtype, least=16, tile=tile)
    room = tile // (numbers * np.dtype(dtype).itemsize) // 16 * 16
    # Of long rows every one that fits counts, though not in a larger product (measured).
    fits = size < room < MIN_BLOCK and room * k * d <= 1 << 20
    return room if fits and size < n else size


@pytree
class KMeansState:
    """Where a run of Lloyd's algorithm stands.

    Attributes
    ----------
    centers : (k, d) array
    counts : (k,) array
        Weight of the rows of each cluster at the last sweep.
    inertia : scalar
        Weighted sum of squared distances at the last sweep, to the centres before its update.
    shift : scalar
        Sum of squared moves of the centres in the last update.
    n_steps : int scalar
    converged : bool scalar
    empty : (k,) bool array
        Clusters that must still be moved to a row.
    short : bool scalar
        There are fewer distinct rows than clusters.
    trace : (t,) array
        Inertia by step; infinite where no step was made.
    """

    centers: Array
    counts: AnyArray
    inertia: AnyArray
    shift: AnyArray
    n_steps: AnyArray
    converged: AnyArray
    empty: AnyArray
    short: AnyArray
    trace: AnyArray

    @classmethod
    def start(cls, centers: Array, trace_length: int = 0) -> KMeansState:
        """State before the first sweep."""
        k, dtype = centers.shape[0], centers.dtype
        inf, false = np.asarray(np.inf, dtype), np.asarray(False)
        return cls(
            centers=centers,
            counts=np.zeros(k, dtype),
            inertia=inf,
            shift=inf,
            n_steps=np.asarray(0, np.int32),
            converged=false,
            empty=np.zeros(k, bool),
            short=false,
            trace=np.full(trace_length, np.inf, dtype),
        )


@pytree
class Nominee:
    """The row served worst: `value` is its squared distance to the nearest centre."""

    value: Array
    row: Array


@pytree
class LloydStep(Algorithm):
    """One step of Lloyd's algorithm.

    Attributes
    ----------
    tol : scalar
        Converged when the sum of squared moves of the centres is at most this. With zero: when no
        assignment changes, for then the means repeat to the last bit.
    square : scalar
        Weighted sum of squared norms of the rows, see `total_square`; unused if `direct`.
    direct : bool
        Distances by differences: exact for rows much closer to each other than to the origin.
    """

    tol: Any
    square: Any
    direct: bool = static(default=False)

    def inertia(self, centers: Array, stats: Any) -> Array:
        """Sum of squared distances to centres ``(k, d)``, from the sums of a sweep at them."""
        (sums, counts), square = stats
        if self.direct:
            return square
        # Row by row |x - c|^2 = |x|^2 - c.(2 x - c), added up by label.
        nearer = jnp.sum(centers * (2 * sums - counts[:, None] * centers))
        return jnp.maximum(self.square - nearer, 0)

    @override
    def sweep(self, state: KMeansState, rows: Rows) -> Any:
        k, d = state.centers.shape

        def add(total: Any, x: Array, weight: Array, i: Array) -> Any:
            half = half_squared_distance(x, state.centers, direct=self.direct)
            label, value = assign.winner(-half)
            groups, square = total
            if self.direct:
                square = square - 2 * matmul(weight, value)
            return tally(groups, x, weight, label), square

        square = jnp.zeros((), rows.dtype) if self.direct else None
        groups, square = add_onto((no_tally(k, d, rows.dtype), square), rows, add)
        return tallied(groups, d), square

    @override
    def update(self, state: KMeansState, stats: Any) -> KMeansState:
        sums, counts = stats[0]
        occupied = counts > 0
        mean = sums / jnp.where(occupied, counts, 1)[:, None]
        centers = jnp.where(occupied[:, None], mean, state.centers)
        shift = jnp.sum(jnp.square(centers - state.centers))
        empty = ~occupied & ~state.short
        inertia = self.inertia(state.centers, stats)
        return KMeansState(
            centers=centers,
            counts=counts,
            inertia=inertia,
            shift=shift,
            n_steps=state.n_steps + 1,
            converged=(shift <= self.tol) & ~jnp.any(empty),
            empty=empty,
            short=state.short,
            trace=record(state.trace, state.n_steps, inertia),
        )

    @override
    def unsettled(self, state: KMeansState) -> Array:
        return jnp.any(state.empty)

    @override
    def nominate(self, state: KMeansState, rows: Rows) -> Nominee:
        return worst_served(state.centers, ~state.empty, rows)

    def settle(self, state: KMeansState, nominee: Nominee) -> KMeansState:
        """Move the first empty cluster onto the nominee; give up if every row is a centre."""
        helps = nominee.value > 0
        first = jnp.arange(state.empty.shape[0]) == jnp.argmax(state.empty)
        moved = first & helps
        return dataclasses.replace(
            state,
            centers=jnp.where(moved[:, None], nominee.row, state.centers),
            empty=state.empty & ~first & helps,
            short=state.short | ~helps,
            converged=~helps & (state.shift <= self.tol),
        )


@jax.jit
def worst_served(centers: Array, serving: Array, rows: Rows) -> Nominee:
    """The row farthest from its nearest serving centre.

    Parameters
    ----------
    centers : (k, d) array
    serving : (k,) bool array
    rows : Rows
    """

    def body(i: Array, best: Nominee) -> Nominee:
        x, weight = rows.x[i], rows.weight[i]
        d2 = jnp.where(serving[:, None], squared_distance(x, centers), jnp.inf)
        near = jnp.where(weight > 0, jnp.min(d2, axis=0), -1)
        j = jnp.argmax(near)
        better = near[j] > best.value
        return jax.tree.map(lambda n, o: jnp.where(better, n, o), Nominee(near[j], x[:, j]), best)

    none = Nominee(jnp.asarray(-1, centers.dtype), jnp.zeros(centers.shape[1], centers.dtype))
    return fold(rows, body, none)


@jax.jit
def total_square(rows: Rows) -> Array:
    """Weighted sum of squared norms of the rows."""
    return add_up(rows, lambda x, weight, i: jnp.sum(weight * jnp.sum(x * x, axis=0)))
