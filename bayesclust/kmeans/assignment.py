"""From centres to labels: every row to its nearest centre."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import pytree
from bayesclust._typing import AnyArray, Array
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.assign import winner
from bayesclust.core.linalg import half_squared_distance, matmul
from bayesclust.core.loop import over_parts
from bayesclust.core.rows import Rows, pack_host, spread
from bayesclust.core.sweep import fold
from bayesclust.core.units import Units, natural_units
from bayesclust.kmeans.lloyd import lloyd_block
from bayesclust.table import read, read_numbers

DIRECT_WORK = 1 << 18
"""Below this many multiply-adds per sweep, distances are always taken by differences."""


@pytree
class Assigned:
    """Labels of all rows, with what they imply.

    Attributes
    ----------
    labels : (m, b) unsigned integer array
        Nearest centre, in block layout; as narrow as `k` allows, since there is one per row.
    counts : (k,) array
        Weight per cluster.
    inertia : scalar
        Weighted sum of squared distances, by differences.
    """

    labels: AnyArray
    counts: Array
    inertia: Array


def assign_rows(centers: Array, rows: Rows, *, direct: bool) -> Assigned:
    """Assign every row to its nearest centre; the lowest index wins ties."""
    k = centers.shape[0]
    index = jnp.arange(k, dtype=jnp.int32)[:, None]
    kind = np.min_scalar_type(k - 1)

    def body(i: Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        labels, counts, inertia = carry
        x, weight = rows.x[i], rows.weight[i]
        label, _ = winner(-half_squared_distance(x, centers, direct=direct))
        # By differences, so that the sum of squares does not cancel. The barrier has whole centres
        # copied and then turned over, not number by number.
        gap = x - lax.optimization_barrier(centers[label]).T
        inertia = inertia.at[i].set(jnp.sum(weight * jnp.sum(gap * gap, axis=0)))
        share = jnp.where(index == label, weight, 0)
        return (
            labels.at[i].set(label.astype(kind)),
            counts + matmul(share, jnp.ones_like(weight)),
            inertia,
        )

    start = (
        jnp.zeros(rows.weight.shape, kind),
        jnp.zeros(k, centers.dtype),
        jnp.zeros(rows.weight.shape[0], centers.dtype),
    )
    labels, counts, inertia = fold(rows, body, start)
    return Assigned(labels, counts, jnp.sum(inertia))


@functools.partial(jax.jit, static_argnames="direct")
def assign_program(centers: Array, rows: Rows, *, direct: bool) -> Assigned:
    """`assign_rows`, compiled."""
    return assign_rows(centers, rows, direct=direct)


def assign_parts(centers: Array, parts: list[Rows], *, direct: bool) -> Assigned:
    """`assign_rows` by all cores or devices; labels of several parts come back on the host."""
    call = functools.partial(assign_program, direct=direct)
    return merge(over_parts(call, centers, parts), parts)


def merge(assigned: list[Assigned], parts: list[Rows]) -> Assigned:
    """One assignment from those of the parts."""
    if len(assigned) == 1:
        return assigned[0]
    labels = np.concatenate(
        [
            np.asarray(a.labels)[int(part.first) : int(part.last)]
            for a, part in zip(assigned, parts, strict=True)
        ]
    )
    return Assigned(
        labels,
        sum(a.counts for a in assigned[1:]) + assigned[0].counts,
        sum(a.inertia for a in assigned[1:]) + assigned[0].inertia,
    )


def assign_all(
    centers: Array, X: np.ndarray, weight: np.ndarray | None, units: Units
) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels ``(n,)``, weight per cluster ``(k,)`` and inertia, at centres in the fit's units."""
    n, d = X.shape
    k = centers.shape[0]
    rows = pack_host(
        X,
        weight,
        shift=units.shift,
        scale=units.scale,
        exponent=units.exponent,
        block=lloyd_block(n, k, d, X.dtype),
    )
    work = n * k * d
    parts = spread(rows, work)
    merged = assign_parts(centers, parts, direct=work <= DIRECT_WORK)
    labels = np.asarray(merged.labels).reshape(-1)[:n].astype(np.int32)
    return labels, np.asarray(merged.counts), float(merged.inertia)


def assign(X: Any, centers: Any, *, units: Units | None = None) -> np.ndarray:
    """Index of the nearest centre of each row; the lowest index wins ties.

    Parameters
    ----------
    X : (n, d) array
    centers : (k, d) array
    units : Units, optional
        The units distances are measured in; default: those of the centres.

    Returns
    -------
    (n,) int32 ndarray
    """
    X = read(X).values
    centers = read_numbers(centers, "centers")[0].astype(np.float64)
    if units is None:
        units = natural_units(centers.astype(X.dtype))
    inner = ((units.scaled(centers) - units.shift) / units.scale).astype(X.dtype)
    with arithmetic(X.dtype == np.float64):
        return assign_all(jnp.asarray(inner), X, None, units)[0]
