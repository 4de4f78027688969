"""The sweep: score each row for each component, assign it, add up. The only loop over rows.

K-means, EM, variational Bayes and Gibbs differ in the three functions handed in. The sums form a
monoid: the sweep of two sets of rows is the sum of their sweeps, which is what lets blocks,
cores, devices and streams share the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array
from bayesclust.core.assign import Assign
from bayesclust.core.rows import Rows


def sweep(
    rows: Rows,
    score: Callable[[Array], Array],
    assign: Assign,
    stats: Callable[[Array, Array], Any],
) -> tuple[Any, Array]:
    """Score, assign and add up all rows in use.

    Parameters
    ----------
    rows : Rows
    score : callable
        ``x (d, b) -> (k, b)``.
    assign : callable
        ``(scores (k, b), block) -> (responsibilities (k, b), value (b,))``, see `core.assign`.
    stats : callable
        ``(x (d, b), weighted responsibilities (k, b)) -> pytree of sums over the block``.

    Returns
    -------
    stats : pytree
        The sums over all rows.
    value : scalar
        Weighted sum of the row values.
    """

    def block(x: Array, weight: Array, i: Array) -> tuple[Any, Array]:
        resp, value = assign(score(x), i)
        # A row of weight zero is absent, even where its value is not finite.
        value = jnp.where(weight > 0, weight * value, 0)
        return stats(x, resp * weight), jnp.sum(value)

    return add_up(rows, block)


GROUP = 16
"""Blocks between two compensated additions."""


def add_up(rows: Rows, block: Callable[[Array, Array, Array], Any]) -> Any:
    """Sum ``block(x (d, b), weight (b,), i)`` over the blocks in use."""
    if rows.x.shape[0] == 1:
        return block(rows.x[0], rows.weight[0], jnp.int32(0))
    shapes = jax.eval_shape(block, rows.x[0], rows.weight[0], jnp.int32(0))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total: Any, x: Array, weight: Array, i: Array) -> Any:
        return jax.tree.map(jnp.add, total, block(x, weight, i))

    return add_onto(zero, rows, add)


def add_onto(zero: Any, rows: Rows, add: Callable[[Any, Array, Array, Array], Any]) -> Any:
    """Run ``total = add(total, x (d, b), weight (b,), i)`` over the blocks in use.

    A few blocks are added plainly, as quick and as good as one long block. Their sums carry the
    rounding error along (Kahan 1965), so that float32 totals of millions of rows are as good as
    those of one block.

    Parameters
    ----------
    zero : pytree of arrays
        The sums of no rows, where every total starts.
    rows : Rows
    add : callable

    Returns
    -------
    pytree like `zero`
    """
    if rows.x.shape[0] == 1:
        return add(zero, rows.x[0], rows.weight[0], jnp.int32(0))

    def group(carry: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
        first, total, lost = carry
        last = jnp.minimum(first + GROUP, rows.last)
        part = lax.fori_loop(first, last, lambda i, t: add(t, rows.x[i], rows.weight[i], i), zero)
        y = jax.tree.map(jnp.subtract, part, lost)
        new = jax.tree.map(jnp.add, total, y)
        lost = jax.tree.map(lambda n, t, v: (n - t) - v, new, total, y)
        return last, new, lost

    start = jnp.asarray(rows.first, jnp.int32), zero, zero
    return lax.while_loop(lambda carry: carry[0] < rows.last, group, start)[1]


def fold(rows: Rows, body: Callable[[Array, Any], Any], start: Any) -> Any:
    """Run ``carry = body(i, carry)`` over the blocks in use; a single block needs no loop."""
    if rows.x.shape[0] == 1:
        return body(jnp.int32(0), start)
    return lax.fori_loop(rows.first, rows.last, body, start)


def each(rows: Rows, block: Callable[[Array, Array], Any]) -> Any:
    """Collect per-row results ``block(x (d, b), weight (b,)) -> pytree of (.., b)``.

    Returns
    -------
    pytree of (m, .., b) arrays
        `rows.unblock` puts them into row order; blocks not in use are zero.
    """
    shapes = jax.eval_shape(block, rows.x[0], rows.weight[0])
    m = rows.x.shape[0]
    out = jax.tree.map(lambda s: jnp.zeros((m, *s.shape), s.dtype), shapes)

    def body(i: Array, out: Any) -> Any:
        result = block(rows.x[i], rows.weight[i])
        return jax.tree.map(lambda o, r: o.at[i].set(r), out, result)

    return fold(rows, body, out)
