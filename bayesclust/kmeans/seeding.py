"""Where k-means starts: greedy k-means++, or rows at random.

References
----------
D. Arthur and S. Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA.
    The greedy form takes the best of ``2 + log k`` candidates per step (their section 5).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array, Key
from bayesclust.core.linalg import matmul, squared_distance
from bayesclust.core.rows import Rows

FEW = 4
"""Columns up to which distances are always taken by differences."""


def greedy(key: Key, rows: Rows, k: int, *, direct: bool = False) -> Array:
    """Greedy k-means++ centres.

    Candidates are drawn with probability proportional to weight times squared distance to the
    nearest centre so far, and the one that lowers the weighted sum most is kept. A draw takes two
    levels, a block and then a row in it, so that the only array over rows is the distance to the
    nearest centre, and one sweep per centre both updates it and judges all candidates.

    Parameters
    ----------
    key : PRNG key
    rows : Rows
    k : int
    direct : bool
        Distances by differences rather than by a matrix product.

    Returns
    -------
    (k, d) array
    """
    n_candidates = 2 + int(math.log(k))
    m, d, _ = rows.x.shape
    dtype = rows.dtype
    # One draw for all: every call of a generator costs compilation.
    u_block, u_row = jax.random.uniform(key, (2, k, n_candidates), dtype)
    used = (jnp.arange(m) >= rows.first) & (jnp.arange(m) < rows.last)
    weight_sums = jnp.where(used, jnp.sum(rows.weight, axis=1), 0)

    # Few columns are best taken one by one, and then differences cost nothing more.
    direct = direct or d <= FEW

    def gap(x: Array, points: Array) -> Array:
        """Squared distances short of the row's own norm, ``(d, b), (p, d) -> (p, b)``.

        No comparison between points needs the norm; what needs it adds it, see `norm`.
        """
        if direct:
            return squared_distance(x, points)
        return jnp.sum(points * points, axis=1)[:, None] - 2 * matmul(points, x)

    def norm(x: Array) -> Array:
        """Squared norms of rows ``(.., d, b)``, as far as `gap` leaves them out."""
        return jnp.sum(x * x, axis=-2) if not direct else jnp.zeros((), dtype)

    norm_sums = jnp.sum(rows.weight * norm(rows.x), axis=1)

    def judge(nearest: Array, winner: Array, j: Array, candidates: Array) -> tuple[Array, Array]:
        """Fold the last winner into `nearest`; weighted sums by block if a candidate is added."""
        points = jnp.concatenate([winner[None], candidates])

        def body(_: None, block: tuple[Array, ...]) -> tuple[None, tuple[Array, Array]]:
            x, weight, nearest, own = block
            gaps = gap(x, points)
            near = jnp.where(j > 0, jnp.minimum(nearest, gaps[0]), jnp.inf)
            total = own + matmul(jnp.minimum(near, gaps[1:]), weight)
            return None, (near, jnp.maximum(total, 0))

        # A scan writes what it makes apart from what it reads: in one carry XLA copies it all.
        return lax.scan(body, None, (rows.x, rows.weight, nearest, norm_sums), unroll=m == 1)[1]

    def step(j: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        centers, nearest, sums, winner = carry

        def candidate(u_block: Array, u_row: Array) -> Array:
            i = pick(u_block, sums, weight_sums) if m > 1 else 0
            x, weight = rows.x[i], rows.weight[i]
            near = jnp.minimum(nearest[i], gap(x, winner[None])[0])
            near = jnp.maximum(near + norm(x), 0)
            # The first centre is drawn by weight alone, and has one candidate.
            return x[:, pick(u_row, jnp.where(j > 0, weight * near, weight), weight)]

        candidates = jax.vmap(candidate)(u_block[j], u_row[j])
        nearest, by_block = judge(nearest, winner, j, candidates)
        best = jnp.where(j > 0, jnp.argmin(jnp.sum(by_block, axis=0)), 0)
        winner = candidates[best]
        return centers.at[j].set(winner), nearest, by_block[:, best], winner

    nearest = jnp.full(rows.weight.shape, jnp.inf, dtype)
    start = (jnp.zeros((k, d), dtype), nearest, weight_sums, jnp.zeros(d, dtype))
    return lax.fori_loop(0, k, step, start)[0]


def random_rows(key: Key, rows: Rows, k: int) -> Array:
    """`k` rows without replacement, with probability proportional to their weights."""
    m, d, _ = rows.x.shape
    used = (jnp.arange(m) >= rows.first) & (jnp.arange(m) < rows.last)
    u = jax.random.uniform(key, (k, 2), rows.dtype)

    def step(j: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        centers, weight, sums = carry
        i = pick(u[j, 0], sums, jnp.where(used, 1.0, 0.0))
        row = pick(u[j, 1], weight[i], rows.weight[i])
        weight = weight.at[i, row].set(0)
        sums = sums.at[i].set(jnp.sum(weight[i]))
        return centers.at[j].set(rows.x[i][:, row]), weight, sums

    sums = jnp.where(used, jnp.sum(rows.weight, axis=1), 0)
    start = (jnp.zeros((k, d), rows.dtype), rows.weight, sums)
    return lax.fori_loop(0, k, step, start)[0]


def pick(u: Array, mass: Array, fallback: Array | None = None) -> Array:
    """Index drawn with probability proportional to `mass`, by inversion of uniform `u`.

    Where all mass is zero, `fallback` is used. Never an index of zero mass if there is any other.

    Mass is added up in groups of about the square root of its length, and the index found by
    its group and its place there: cheaper to run and to compile than one long running sum.
    """
    if fallback is not None:
        mass = jnp.where(jnp.sum(mass) > 0, mass, fallback)
    size = 1 << (math.isqrt(mass.shape[0] - 1).bit_length() if mass.shape[0] > 1 else 0)
    groups = jnp.pad(mass, (0, -mass.shape[0] % size)).reshape(-1, size)
    totals = jnp.sum(groups, axis=1)
    group, rest = _place(u * jnp.sum(totals), totals)
    return group * size + _place(rest, groups[group])[0]


def _place(target: Array, mass: Array) -> tuple[Array, Array]:
    """First index whose running sum exceeds `target`, and what of `target` is left before it."""
    index = jnp.arange(mass.shape[0])
    reached = jnp.sum(jnp.where(index[:, None] <= index, mass[:, None], 0), axis=0)
    last = jnp.max(jnp.where(mass > 0, index, 0))
    chosen = jnp.minimum(jnp.sum(reached <= target), last)
    return chosen, target - jnp.sum(jnp.where(index < chosen, mass, 0))
