"""From scores to assignments: hard (k-means), soft (EM), drawn (Gibbs).

Each takes the scores ``(k, b)`` of a block and the block's number, and returns responsibilities
``(k, b)`` that sum to one per row and the row's value ``(b,)``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array, Key
from bayesclust.core.binomial import binomial
from bayesclust.core.random import uniform

Assign = Callable[[Array, Array], tuple[Array, Array]]

UNROLLED = 16
"""Up to so many components are gone through one by one: each is one vector operation."""


@jax.jit
def winner(scores: Array) -> tuple[Array, Array]:
    """Index and value of the largest score per row; the lowest index wins ties.

    Plain comparisons instead of `argmax`, which XLA runs one element at a time on CPU. Barriers
    keep what comes before and after, a product and sums over rows, from being computed once more
    or one by one inside the comparisons.
    """
    scores = lax.optimization_barrier(scores)
    k = scores.shape[0]
    if k <= UNROLLED:
        best, index = scores[0], jnp.zeros(scores.shape[1:], jnp.int32)
        for j in range(1, k):
            better = scores[j] > best
            best, index = jnp.where(better, scores[j], best), jnp.where(better, j, index)
    else:
        best = jnp.max(scores, axis=0)
        every = jnp.arange(k, dtype=jnp.int32)[:, None]
        index = jnp.min(jnp.where(scores >= best, every, k), axis=0)
    return lax.optimization_barrier((index, best))


def hard(scores: Array, block: Array) -> tuple[Array, Array]:
    """All mass on the best component; the value is its score."""
    label, best = winner(scores)
    index = jnp.arange(scores.shape[0], dtype=jnp.int32)[:, None]
    return (index == label).astype(scores.dtype), best


def soft(scores: Array, block: Array) -> tuple[Array, Array]:
    """Softmax of the scores; the value is their log-sum-exp, the row's log density."""
    mass, best = _mass(scores)
    total = _floored(jnp.sum(mass, axis=0))
    return mass * (1.0 / total), best + jnp.log(total)


def _mass(scores: Array) -> tuple[Array, Array]:
    """``exp(scores - best)``, one for the best component, and the best scores.

    The barrier has scores computed once, see `core.simplex.softmax`.
    """
    scores = lax.optimization_barrier(scores)
    best = jnp.max(scores, axis=0)
    best = jnp.where(jnp.isfinite(best), best, 0)
    return jnp.exp(scores - best), best


def _floored(total: Array) -> Array:
    """A sum of `_mass` that can be divided by, also where no component is possible."""
    return jnp.maximum(total, jnp.finfo(total.dtype).tiny)


def drawn(key: Key) -> Assign:
    """One component per row, drawn with probability proportional to ``exp(score)``."""

    def assign(scores: Array, block: Array) -> tuple[Array, Array]:
        k = scores.shape[0]
        mass, best = _mass(scores)
        reached = _running_sum(mass)
        u = uniform(jax.random.fold_in(key, block), best.shape, scores.dtype)
        # The first component whose running sum exceeds u times the whole; never one of no mass.
        label = jnp.sum((u * reached[-1] >= reached[:-1]).astype(jnp.int32), axis=0)
        index = jnp.arange(k, dtype=jnp.int32)[:, None]
        return (index == label).astype(scores.dtype), best + jnp.log(_floored(reached[-1]))

    return assign


def counted(key: Key, weight: Array) -> Assign:
    """As `drawn`, for rows that stand for several, each with a component of its own.

    Parameters
    ----------
    key : PRNG key
    weight : (m, b) array
        How many rows each row stands for: whole numbers.

    Returns
    -------
    callable
        Its responsibilities are shares of the row's weight.
    """

    def assign(scores: Array, block: Array) -> tuple[Array, Array]:
        mass, best = _mass(scores)
        # The mass of each component and all after it.
        left = _running_sum(mass[::-1])[::-1]
        key_block = jax.random.fold_in(key, block)

        def take(rows: Array, component: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            j, mass, after = component
            # Those after it get none if they have no mass.
            p = jnp.where(after > 0, mass / _floored(mass + after), 1)
            count = binomial(jax.random.fold_in(key_block, j), rows, p)
            return rows - count, count

        index = jnp.arange(len(mass) - 1, dtype=jnp.int32)
        last, counts = lax.scan(take, weight[block], (index, mass[:-1], left[1:]))
        share = jnp.concatenate([counts, last[None]]) / jnp.maximum(weight[block], 1)
        return share, best + jnp.log(_floored(left[0]))

    return assign


def _running_sum(mass: Array) -> Array:
    """Sums along the first axis up to and with each entry."""
    if mass.shape[0] > UNROLLED:
        return jnp.cumsum(mass, axis=0)
    lines = [mass[0]]
    for line in mass[1:]:
        lines.append(lines[-1] + line)
    return jnp.stack(lines)
