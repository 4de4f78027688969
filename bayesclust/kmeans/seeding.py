"""Where k-means starts: greedy k-means++, or rows at random.

References
----------
D. Arthur and S. Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA.
    The greedy form takes the best of ``2 + log k`` candidates per step (their section 5).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import pytree, static
from bayesclust._typing import AnyArray, Array, Key
from bayesclust.core import threads
from bayesclust.core.checks import check_integer
from bayesclust.core.linalg import matmul, squared_distance
from bayesclust.core.random import uniform
from bayesclust.core.rows import Rows

FEW = 4
"""Columns up to which distances are always taken by differences."""


def greedy(key: Key | AnyArray, rows: Rows, k: int, *, direct: bool = False) -> Array:
    """Greedy k-means++ centres.

    Candidates are drawn with probability proportional to weight times squared distance to the
    nearest centre so far, and the one that lowers the weighted sum most is kept. A draw takes two
    levels, a block and then a row in it, so that the only array over rows is the distance to the
    nearest centre, and one sweep per centre both updates it and judges all candidates.

    Parameters
    ----------
    key : PRNG key
        Or the numbers drawn with it, see `numbers`.
    rows : Rows
    k : int
    direct : bool
        Distances by differences rather than by a matrix product.

    Returns
    -------
    (k, d) array
    """
    check_integer("k", k)
    gaps = Gaps(direct or rows.n_features <= FEW)
    draws = jnp.asarray(numbers(key, k, rows.dtype))  # the loop picks from them by a traced number
    norms = gaps.norm_sums(rows)

    def step(j: Array, carry: tuple[Seeds, Array]) -> tuple[Seeds, Array]:
        seeds, nearest = carry
        candidates = propose(gaps, seeds, [rows], [nearest], draws, j)
        nearest, by_block = judge(gaps, nearest, rows, norms, seeds.winner, candidates, j)
        return choose(seeds, candidates, [by_block], j), nearest

    def next_step(carry: Any) -> Any:
        return carry[0] + 1, step(*carry)

    start = jnp.int32(0), (Seeds.none(k, [rows]), far(rows))
    # A loop over a range is traced once more on its way to the compiler.
    return lax.while_loop(lambda carry: carry[0] < k, next_step, start)[1][0].centers


def greedy_driven(key: Key | AnyArray, parts: list[Rows], k: int, *, direct: bool = False) -> Array:
    """`greedy` from the host: a thread judges each part of the rows; the same choices.

    Parameters
    ----------
    key : PRNG key
    parts : list of Rows
        From `core.rows.split`.
    k, direct
        As for `greedy`.

    Returns
    -------
    (k, d) array
    """
    gaps = Gaps(direct or parts[0].n_features <= FEW)
    draws = numbers(key, k, parts[0].dtype)
    norms = threads.run([functools.partial(_norm_sums, gaps, part) for part in parts])
    seeds, nearest = _none(k, parts), [far(part) for part in parts]
    for j in np.arange(k, dtype=np.int32):
        candidates = _propose(gaps, seeds, parts, nearest, draws, j)
        calls = [
            functools.partial(_judge, gaps, *own, seeds.winner, candidates, j)
            for own in zip(nearest, parts, norms, strict=True)
        ]
        judged = threads.run(calls)
        nearest = [near for near, _ in judged]
        seeds = _choose(seeds, candidates, [by_block for _, by_block in judged], j)
    return seeds.centers


def n_candidates(k: int) -> int:
    """Candidates for each centre."""
    return 2 + int(math.log(k))


def numbers(key: Key | AnyArray, k: int, dtype: Any, starts: tuple[int, ...] = ()) -> AnyArray:
    """What draws all candidates, ``(*starts, k, 2, p)``; in place of a key the numbers themselves.

    Every call of a generator costs compilation, so there is but one, and none of a key at hand.
    """
    shape = (*starts, k, 2, n_candidates(k))
    if jax.dtypes.issubdtype(key.dtype, np.floating):
        return key.reshape(shape)
    return uniform(key, shape, dtype)


@pytree
class Gaps:
    """Squared distances of rows to points.

    Attributes
    ----------
    direct : bool
        By differences: few columns are best taken one by one, and then they cost nothing more.
    """

    direct: bool = static()

    def __call__(self, x: Array, points: Array) -> Array:
        """Short of the row's own norm, ``(d, b), (p, d) -> (p, b)``.

        No comparison between points needs the norm; what needs it adds it, see `norm`.
        """
        if self.direct:
            return squared_distance(x, points)
        return jnp.sum(points * points, axis=1)[:, None] - 2 * matmul(points, x)

    def norm(self, x: Array) -> Array:
        """Squared norms of rows ``(.., d, b)``, as far as a call leaves them out."""
        return jnp.zeros((), x.dtype) if self.direct else jnp.sum(x * x, axis=-2)

    def norm_sums(self, rows: Rows) -> Array:
        """Weighted sum of norms by block, ``(m,)``."""
        if self.direct:
            return jnp.zeros(len(rows.weight), rows.dtype)
        return lax.map(lambda own: jnp.sum(matmul(own[0] * own[0], own[1])), (rows.x, rows.weight))


def far(rows: Rows) -> Array:
    """`Gaps` to the nearest centre where there is none, ``(m, b)``."""
    return jnp.full_like(rows.weight, jnp.inf)


@pytree
class Seeds:
    """Where seeding stands.

    Attributes
    ----------
    centers : (k, d) array
    winner : (d,) array
        The last centre.
    sums : (m,) array
        Weighted squared distances to the nearest centre, by block of all parts.
    weight_sums : (m,) array
    """

    centers: Array
    winner: Array
    sums: Array
    weight_sums: Array

    @classmethod
    def none(cls, k: int, parts: list[Rows]) -> Seeds:
        """Before there is a centre: the first is drawn by weight alone."""

        def weights(rows: Rows) -> Array:
            block = jnp.arange(len(rows.weight))
            used = (block >= rows.first) & (block < rows.last)
            return jnp.where(used, jnp.sum(rows.weight, axis=1), 0)

        weight_sums = jnp.concatenate([weights(rows) for rows in parts])
        d, dtype = parts[0].n_features, parts[0].dtype
        return cls(jnp.zeros((k, d), dtype), jnp.zeros(d, dtype), weight_sums, weight_sums)


def propose(
    gaps: Gaps, seeds: Seeds, parts: list[Rows], nearest: list[Array], draws: Array, j: Array
) -> Array:
    """Candidates for centre `j`, ``(p, d)``; `nearest` leaves out the last centre still."""

    def block(i: Array) -> tuple[Array, Array, Array]:
        first, found = 0, None
        for rows, near in zip(parts, nearest, strict=True):
            m = len(rows.weight)
            at = jnp.clip(i - first, 0, m - 1)
            own = rows.x[at], rows.weight[at], near[at]
            found = own if found is None else _either(i >= first, own, found)
            first += m
        assert found is not None
        return found

    def drawn(u: Array, x: Array, weight: Array, nearest: Array) -> Array:
        near = jnp.minimum(nearest, gaps(x, seeds.winner[None])[0])
        near = jnp.maximum(near + gaps.norm(x), 0)
        # The first centre is drawn by weight alone, and has one candidate.
        return x[:, pick(u, jnp.where(j > 0, weight * near, weight), weight)].T

    u, v = draws[j]
    if seeds.sums.shape[0] == 1:
        return drawn(v, parts[0].x[0], parts[0].weight[0], nearest[0][0])
    i = pick(u, seeds.sums, seeds.weight_sums)
    return lax.map(lambda own: drawn(own[1], *block(own[0])), (i, v))


def _either(choice: Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(choice, a, b), one, other)


def judge(
    gaps: Gaps,
    nearest: Array,
    rows: Rows,
    norms: Array,
    winner: Array,
    candidates: Array,
    j: Array,
) -> tuple[Array, Array]:
    """Fold the last winner into `nearest`; weighted sums by block if a candidate is added.

    Parameters
    ----------
    gaps : Gaps
    nearest : (m, b) array
        `Gaps` to the nearest centre but the winner.
    rows : Rows
    norms : (m,) array
        From `Gaps.norm_sums`.
    winner : (d,) array
    candidates : (p, d) array
    j : int

    Returns
    -------
    nearest : (m, b) array
    sums : (m, p) array
        Weighted squared distances to the nearest centre.
    """
    points = jnp.concatenate([winner[None], candidates])

    def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        nearest, sums = carry
        to = gaps(rows.x[i], points)
        # Without barriers XLA copies all of `nearest` to read one block of it and write another.
        old = lax.optimization_barrier(nearest[i])
        near = lax.optimization_barrier(jnp.where(j > 0, jnp.minimum(old, to[0]), jnp.inf))
        total = norms[i] + matmul(jnp.minimum(near, to[1:]), rows.weight[i])
        return nearest.at[i].set(near), sums.at[i].set(jnp.maximum(total, 0))

    start = nearest, jnp.zeros((len(rows.weight), len(candidates)), rows.dtype)
    if len(rows.weight) == 1:
        return body(jnp.int32(0), start)
    return lax.fori_loop(0, len(rows.weight), body, start)


def choose(seeds: Seeds, candidates: Array, judged: list[Array], j: Array) -> Seeds:
    """Keep the candidate that leaves the least sum."""
    by_block = jnp.concatenate(judged)
    best = jnp.where(j > 0, jnp.argmin(jnp.sum(by_block, axis=0)), 0)
    winner = candidates[best]
    return dataclasses.replace(
        seeds, centers=seeds.centers.at[j].set(winner), winner=winner, sums=by_block[:, best]
    )


_norm_sums = jax.jit(Gaps.norm_sums)
_none = jax.jit(Seeds.none, static_argnums=0)
_propose, _choose = jax.jit(propose), jax.jit(choose)
_judge = jax.jit(judge, donate_argnames="nearest")


def random_rows(key: Key, rows: Rows, k: int) -> Array:
    """`k` rows without replacement, with probability proportional to their weights."""
    check_integer("k", k)
    m, d, _ = rows.x.shape
    used = (jnp.arange(m) >= rows.first) & (jnp.arange(m) < rows.last)
    u = uniform(key, (k, 2), rows.dtype)

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


@jax.jit
def pick(u: Array, mass: Array, fallback: Array | None = None) -> Array:
    """Indices drawn with probability proportional to `mass`, by inversion: ``(..), (m,) -> (..)``.

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
    """First index whose running sum exceeds `target`, and what of `target` is left before it.

    ``(..), (.., m) -> (..), (..)``.
    """
    index = jnp.arange(mass.shape[-1])
    reached = jnp.sum(jnp.where(index[:, None] <= index, mass[..., None], 0), axis=-2)
    last = jnp.max(jnp.where(mass > 0, index, 0), axis=-1)
    chosen = jnp.minimum(jnp.sum(reached <= target[..., None], axis=-1), last)
    before = jnp.sum(jnp.where(index < chosen[..., None], mass, 0), axis=-1)
    return chosen, target - before
