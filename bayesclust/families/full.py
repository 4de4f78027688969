"""Gaussian components, each with a covariance matrix of its own."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, final, override

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key, Params
from bayesclust.core.linalg import PRECISION, cholesky, diagonal, inverse_lower, matmul, outer_sum
from bayesclust.families.conjugate import NormalInverseWishart
from bayesclust.families.gaussian import (
    LOG_2PI,
    GaussianFamily,
    chi2_tail,
    keep,
    mostly_floor,
    safe_counts,
)
from bayesclust.families.prior import Summary

UNROLL = 2
"""Up to so many columns whitening is written out per column and fuses into one loop."""

WIDE = 32
"""Columns from which matrix products spare, on a CPU, what triangles make zero or known."""


def strips(d: int) -> list[tuple[int, int]]:
    """Ranges of whitened columns that are computed together.

    Those of ``range(a, b)`` depend on the first `b` columns of the rows only, and of their
    products with the rows only those with column `a` and later are needed. Four strips spare
    three eighths of the arithmetic.
    """
    n = 4 if d >= WIDE and jax.default_backend() == "cpu" else 1
    return [(d * i // n, d * (i + 1) // n) for i in range(n)]


class Prepared(NamedTuple):
    """Whitening of each component: ``y = whiten (x - mean)``, and the log density at the mean."""

    mean: Array
    whiten: Array
    offset: Array
    peak: Array


class Moments(NamedTuple):
    """Sums of ``1, y, y x^T``, `y` being the rows in each component's whitened coordinates.

    The last in strips, see `strips`: at least its upper triangle.
    """

    count: Array
    first: Array
    second: list[Array]


@final
@pytree
class FullGaussian(GaussianFamily):
    """Gaussian with mean ``(k, d)`` and covariance ``cov (k, d, d)`` per component.

    Attributes
    ----------
    ridge : scalar
        Floor on the spread: this multiple of the data's column variances is added to the
        diagonal of every covariance.
    spread : (d,) array or scalar
        Column standard deviations the ridge is relative to, see `scaled_to`.

    Notes
    -----
    Moments are taken in whitened coordinates of the parameters before the update,
    ``y = L^{-1}(x - m)``, with ``T = sum r y x^T``: then ``m' = m + L ybar`` and the scatter about
    the old mean is ``L (T - n ybar m^T)`` (McLachlan & Peel 2000, Finite Mixture Models, eq.
    3.5-3.6, after the change of variable). Only one factor is whitened, so that all components
    share one matrix product; what cancels is of the order of the rounding of the rows themselves,
    for `ybar` vanishes as EM converges. Since `L` is lower triangular, the upper triangle of the
    scatter needs that of `T` alone.
    """

    ridge: Any = 1e-6
    spread: Any = 1.0
    prior: Any = None

    kind: ClassVar = "full"
    usual: ClassVar = NormalInverseWishart
    dims: ClassVar = {"mean": ("cluster", "feature"), "cov": ("cluster", "feature", "feature_bis")}

    @override
    def located(self, centers: Array) -> Params:
        k, d = centers.shape
        variance = jnp.square(jnp.broadcast_to(jnp.asarray(self.spread, centers.dtype), (d,)))
        cov = jnp.broadcast_to(jnp.diag(variance), (k, d, d))
        return {"mean": centers, "cov": cov}

    @override
    def prepare(self, params: Params) -> Prepared:
        mean = params["mean"]
        whiten = inverse_lower(cholesky(params["cov"]))
        log_det = jnp.sum(jnp.log(diagonal(whiten)), axis=-1)
        offset = jnp.einsum("kij,kj->ki", whiten, mean, precision=PRECISION)
        return Prepared(mean, whiten, offset, log_det - 0.5 * mean.shape[-1] * LOG_2PI)

    def _whitened(self, prepared: Prepared, x: Array) -> list[Array]:
        """The rows in each component's coordinates, in strips ``(k, columns, b)``."""
        k, d = prepared.mean.shape
        if d > UNROLL:
            parts = []
            for first, last in strips(d):
                size = k * (last - first)
                whiten = prepared.whiten[:, first:last, :last].reshape(size, last)
                offset = prepared.offset[:, first:last].reshape(size, 1)
                parts.append((matmul(whiten, x[:last]) - offset).reshape(k, last - first, -1))
            # Barriers keep the differences, the scores and the responsibilities from being
            # computed again in every operation that takes them.
            return lax.optimization_barrier(parts)
        gap = [x[j] - prepared.mean[:, j, None] for j in range(d)]
        return [
            sum(
                (prepared.whiten[:, i, j, None] * gap[j] for j in range(1, i + 1)),
                prepared.whiten[:, i, 0, None] * gap[0],
            )[:, None]
            for i in range(d)
        ]

    @override
    def score(self, prepared: Prepared, x: Array) -> Array:
        # Column by column: XLA's own sum over a middle axis runs several times longer on a CPU.
        columns = [y[:, i] for y in self._whitened(prepared, x) for i in range(y.shape[1])]
        square = sum((v * v for v in columns[1:]), columns[0] * columns[0])
        score = prepared.peak[:, None] - 0.5 * square
        return lax.optimization_barrier(score) if len(columns) > UNROLL else score

    @override
    def stats(self, prepared: Prepared, x: Array, resp: Array) -> Moments:
        d, b = x.shape
        parts = self._whitened(prepared, x)
        if d <= UNROLL:
            weighted = [resp * y[:, 0] for y in parts]
            first = jnp.stack([jnp.sum(v, axis=1) for v in weighted], axis=1)
            second = jnp.stack(
                [
                    jnp.stack([jnp.sum(weighted[i] * x[j], axis=1) for j in range(d)], axis=1)
                    for i in range(d)
                ],
                axis=1,
            )
            return Moments(jnp.sum(resp, axis=1), first, [second])
        resp = lax.optimization_barrier(resp)
        ones = jnp.ones((b, 1), x.dtype)
        sums, second = [], []
        for y, (begin, _) in zip(parts, strips(d), strict=True):
            k, c, _ = y.shape
            weighted = (resp[:, None] * y).reshape(k * c, b)
            sums.append(matmul(weighted, ones).reshape(k, c))
            second.append(outer_sum(weighted, x[begin:]).reshape(k, c, d - begin))
        return Moments(jnp.sum(resp, axis=1), jnp.concatenate(sums, axis=1), second)

    @override
    def summary(self, params: Params, stats: Moments, constants: Any) -> Summary:
        """Counts, means and scatters of the rows, from statistics taken at `params`."""
        factor = cholesky(params["cov"])
        count, _ = safe_counts(stats.count)
        old = params["mean"]
        step = jnp.einsum("kij,kj->ki", factor, stats.first / count[:, None], precision=PRECISION)
        d = old.shape[-1]
        second = jnp.concatenate(
            [jnp.pad(t, ((0, 0), (0, 0), (d - t.shape[-1], 0))) for t in stats.second], axis=1
        )
        inner = second - stats.first[:, :, None] * old[:, None, :]
        scatter = matmul(factor, inner) - count[:, None, None] * step[:, :, None] * step[:, None]
        upper = jnp.triu(scatter)
        return Summary(stats.count, old + step, upper + jnp.triu(scatter, 1).mT)

    @override
    def likeliest(self, params: Params, seen: Summary) -> Params:
        count, alive = safe_counts(seen.count)
        mean, cov = seen.mean, seen.scatter / count[:, None, None]
        # A difference of sums: a variance that rounding made negative is zero.
        lifted = jnp.maximum(cov, 0) + self._floor(mean).astype(cov.dtype)
        cov = jnp.where(jnp.eye(cov.shape[-1], dtype=bool), lifted, cov)
        cov = keep(alive, cov, params["cov"])
        return {"mean": keep(alive, mean, params["mean"]), "cov": cov}

    @override
    def floored(self, params: Params) -> Array:
        return mostly_floor(self.prepare(params).whiten, self._floor(params["mean"]))

    @override
    def sample(self, key: Key, params: Params, z: Array) -> Array:
        mean, factor = params["mean"], cholesky(params["cov"])
        noise = jax.random.normal(key, (z.shape[0], mean.shape[-1]), mean.dtype)
        return mean[z] + jnp.einsum("nij,nj->ni", factor[z], noise, precision=PRECISION)

    @override
    def tail_probability(self, prepared: Prepared, x: Array) -> Array:
        return chi2_tail(self.score(prepared, x), prepared.peak, x.shape[0])

    @override
    def in_units(self, params: Params, shift: Array, scale: Array) -> Params:
        return {
            "mean": params["mean"] * scale + shift,
            "cov": params["cov"] * (scale[:, None] * scale),
        }

    @override
    def n_parameters(self, k: int, d: int) -> int:
        return k * d + k * d * (d + 1) // 2

    @override
    def cancellation(self, params: Params) -> Array:
        prepared = self.prepare(params)
        return jnp.sqrt(jnp.max(jnp.sum(jnp.square(prepared.offset), axis=-1)))
