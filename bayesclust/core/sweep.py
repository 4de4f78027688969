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


def add_up(rows: Rows, block: Callable[[Array, Array, Array], Any]) -> Any:
    """Sum ``block(x (d, b), weight (b,), i)`` over the blocks in use.

    Partial sums carry their rounding error along (Kahan 1965), so that float32 totals of millions
    of rows are as good as those of one block.
    """
    if rows.x.shape[0] == 1:
        return block(rows.x[0], rows.weight[0], jnp.int32(0))
    shapes = jax.eval_shape(block, rows.x[0], rows.weight[0], jnp.int32(0))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def body(i: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        total, lost = carry
        part = block(rows.x[i], rows.weight[i], i)
        y = jax.tree.map(jnp.subtract, part, lost)
        new = jax.tree.map(jnp.add, total, y)
        lost = jax.tree.map(lambda n, t, v: (n - t) - v, new, total, y)
        return new, lost

    return fold(rows, body, (zero, zero))[0]


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
