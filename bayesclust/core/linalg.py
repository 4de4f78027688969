"""Linear algebra of blocks; the precision of matrix products is set here, once."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._typing import Array

PRECISION = lax.Precision.HIGHEST
"""Accelerators would otherwise round float32 products to a shorter mantissa."""


def matmul(a: Array, b: Array) -> Array:
    """``a @ b`` at full precision."""
    return jnp.matmul(a, b, precision=PRECISION)


def outer_sum(a: Array, b: Array) -> Array:
    """Sum of outer products over a block: ``(k, b), (d, b) -> (k, d)``."""
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision=PRECISION)


SCATTER = (32, 1), (16, 128)
"""With more groups, and so many columns or more, rows added one by one beat a product on a CPU."""

LANES = 8
"""Numbers that rows added one by one come in: another count takes half as long again."""


Tally = tuple[Array, Array]
"""Weighted sums ``(k, d)`` and counts ``(k,)`` of rows by label."""


def no_tally(k: int, d: int, dtype: Any) -> Tally:
    """Of no rows; the sums may be wider than `d`, see `tallied`."""
    wide = -(-d // LANES) * LANES if _scatters(k, d) and d > LANES else d
    return jnp.zeros((k, wide), dtype), jnp.zeros(k, dtype)


def tally(total: Tally, x: Array, weight: Array, label: Array) -> Tally:
    """Add a block's rows to what there is of their labels.

    Parameters
    ----------
    total : (k, >= d) and (k,) arrays
        From `no_tally`.
    x : (d, b) array
    weight : (b,) array
    label : (b,) int array
        Below k.

    Returns
    -------
    tuple of arrays like `total`
    """
    sums, counts = total
    k, d = len(counts), len(x)
    if _scatters(k, d):
        rows = jnp.pad(weight * x, ((0, sums.shape[1] - d), (0, 0)))
        # The barrier has the rows turned over at once, not number by number as they are added.
        rows = lax.optimization_barrier(rows.T)
        sums = sums.at[label].add(rows, mode="promise_in_bounds")
        return sums, counts.at[label].add(weight, mode="promise_in_bounds")
    index = jnp.arange(k, dtype=jnp.int32)[:, None]
    share = jnp.where(index == label, weight, 0)
    return sums + outer_sum(share, x), counts + matmul(share, jnp.ones_like(weight))


def tallied(total: Tally, d: int) -> Tally:
    """Sums ``(k, d)`` and counts ``(k,)``, once all rows are added."""
    sums, counts = total
    return sums[:, :d], counts


def _scatters(k: int, d: int) -> bool:
    long = any(k > many and d >= wide for many, wide in SCATTER)
    return long and jax.default_backend() == "cpu"


def half_squared_distance(x: Array, centers: Array, *, direct: bool) -> Array:
    """Half the squared distance of each row to each centre, short of a term of the row alone.

    Parameters
    ----------
    x : (d, b) array
    centers : (k, d) array
    direct : bool
        True: ``|x - c|^2 / 2``, no cancellation. False: ``|c|^2 / 2 - c.x``, one matrix product;
        it leaves out ``|x|^2 / 2``, which no comparison between centres needs.

    Returns
    -------
    (k, b) array
    """
    if direct:
        return 0.5 * squared_distance(x, centers)
    return 0.5 * jnp.sum(centers * centers, -1)[:, None] - matmul(centers, x)


@jax.jit
def squared_distance(x: Array, centers: Array) -> Array:
    """Squared Euclidean distances without cancellation: ``(d, b), (k, d) -> (k, b)``."""
    d = x.shape[0]
    if d <= 8:  # unrolled: one fused loop over the block
        columns = zip(lax.split(centers, [1] * d, 1), lax.split(x, [1] * d, 0), strict=True)
        return functools.reduce(jnp.add, [jnp.square(c - line) for c, line in columns])
    return jnp.sum(jnp.square(centers[:, :, None] - x), axis=1)


@jax.jit
def diagonal(a: Array) -> Array:
    """Diagonals of matrices ``(.., d, d)``: a sum that fuses, where `jnp.diagonal` gathers."""
    return jnp.sum(jnp.where(jnp.eye(a.shape[-1], dtype=bool), a, 0), axis=-1)


@jax.custom_jvp
@jax.jit
def cholesky(a: Array) -> Array:
    """Cholesky factor of positive semi-definite matrices, never NaN for finite input.

    Where the factorisation fails, the diagonal is raised by a growing multiple of itself.
    Derivatives take that rise as given.

    Parameters
    ----------
    a : (.., d, d) array
    """
    own = diagonal(a)
    lift = jnp.where(own > 0, own, 1.0)[..., None] * jnp.eye(a.shape[-1], dtype=a.dtype)
    start = jnp.asarray(8 * jnp.finfo(a.dtype).eps, a.dtype)

    def failed(factor: Array) -> Array:
        # A zero on the diagonal counts: nobody could divide by the factor.
        pivots = diagonal(factor)
        return ~jnp.all((pivots > 0) & (pivots < jnp.inf), axis=-1)[..., None, None]

    def attempt(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        factor, jitter = carry
        factor = jnp.where(failed(factor), _cholesky(a + jitter * lift), factor)
        return factor, jnp.where(jitter > 0, 10 * jitter, start)

    def going(carry: tuple[Array, Array]) -> Array:
        factor, jitter = carry
        return jnp.any(failed(factor)) & (jitter < 10)

    # The first attempt adds nothing; written once, in the loop, it is compiled once.
    factor = lax.while_loop(going, attempt, (jnp.zeros_like(a), jnp.zeros_like(start)))[0]
    # What is still no covariance, by rounding alone, keeps its variances.
    return jnp.where(failed(factor), jnp.sqrt(lift), factor)


@cholesky.defjvp
def _cholesky_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Slope of the factor: ``L phi(L^-1 dA L^-T)``, phi the lower triangle, diagonal halved."""
    factor, da = cholesky(primals[0]), tangents[0]
    inverse = inverse_lower(factor)
    inner = matmul(matmul(inverse, 0.5 * (da + da.mT)), inverse.mT)
    half = jnp.tril(inner) - 0.5 * inner * jnp.eye(inner.shape[-1], dtype=inner.dtype)
    return factor, matmul(factor, half)


def _cholesky(a: Array) -> Array:
    if a.shape[-1] > 2:
        return jnp.linalg.cholesky(a)
    # Written out for a few columns: a batch of library calls costs more than the arithmetic.
    d = a.shape[-1]
    rows: list[list[Array]] = []
    for i in range(d):
        row: list[Array] = []
        for j in range(i + 1):
            s = a[..., i, j]
            for p in range(j):
                s = s - row[p] * (rows[j][p] if j < i else row[p])
            row.append(jnp.sqrt(s) if i == j else s / rows[j][j])
        rows.append(row)
    zero = jnp.zeros_like(a[..., 0, 0])
    full = [jnp.stack(row + [zero] * (d - len(row)), -1) for row in rows]
    return jnp.stack(full, -2)


STEP = 16
"""Columns from which inverses of triangular matrices are taken block by block on a CPU.

The library behind `solve_triangular` starts threads of its own for larger ones, which then wait
busily for a tenth of a second, on the cores that the sweep needs.
"""


@jax.jit
def inverse_lower(factor: Array) -> Array:
    """Inverse of lower triangular matrices ``(.., d, d)``."""
    d = factor.shape[-1]
    if d > STEP and jax.default_backend() == "cpu":
        return _inverse_by_blocks(factor)
    if d > 2:
        eye = jnp.broadcast_to(jnp.eye(d, dtype=factor.dtype), factor.shape)
        return jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    first = 1.0 / factor[..., 0, 0]
    if d == 1:
        return first[..., None, None]
    last, zero = 1.0 / factor[..., 1, 1], jnp.zeros_like(first)
    below = -(factor[..., 1, 0] * first) / factor[..., 1, 1]
    rows = [jnp.stack([first, zero], -1), jnp.stack([below, last], -1)]
    return jnp.stack(rows, -2)


def _inverse_by_blocks(factor: Array) -> Array:
    """Forward substitution, `STEP` rows at a time: ``X_i = L_ii^{-1} (I_i - L_i X)``.

    Golub & Van Loan (2013), Matrix Computations, section 3.1: block forward substitution.
    """
    d, batch = factor.shape[-1], factor.shape[:-2]
    p = -(-d // STEP)
    size = p * STEP
    eye = jnp.eye(size, dtype=factor.dtype)
    padded = jnp.broadcast_to(eye, (*batch, size, size)).at[..., :d, :d].set(factor)
    blocks = padded.reshape(*batch, p, STEP, p, STEP)
    own = inverse_lower(jnp.moveaxis(jnp.diagonal(blocks, axis1=-4, axis2=-2), -1, 0))
    lines = jnp.moveaxis(padded.reshape(*batch, p, STEP, size), -3, 0)

    def line(x: Array, parts: tuple[Array, Array, Array]) -> tuple[Array, None]:
        i, inverse, below = parts
        # Rows of `x` not yet found are zero, so that only those before take part.
        rest = lax.dynamic_slice_in_dim(eye, i * STEP, STEP) - matmul(below, x)
        start = (*(0,) * len(batch), i * STEP, 0)
        return lax.dynamic_update_slice(x, matmul(inverse, rest), start), None

    found, _ = lax.scan(line, jnp.zeros_like(padded), (jnp.arange(p), own, lines))
    return found[..., :d, :d]
