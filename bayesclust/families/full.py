"""Gaussian components, each with a covariance matrix of its own."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self, final, override

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key, Params
from bayesclust.core.linalg import PRECISION, cholesky, inverse_lower, matmul
from bayesclust.families.base import Family
from bayesclust.families.gaussian import (
    LOG_2PI,
    chi2_tail,
    keep,
    mostly_floor,
    safe_counts,
)

UNROLL = 2
"""Up to so many columns whitening is written out per column and fuses into one loop."""


class Prepared(NamedTuple):
    """Whitening of each component: ``y = whiten (x - mean)``, and the log density at the mean."""

    mean: Array
    whiten: Array
    offset: Array
    peak: Array


class Moments(NamedTuple):
    """Sums of ``1, y, y y^T`` in each component's whitened coordinates."""

    count: Array
    first: Array
    second: Array


@final
@pytree
class FullGaussian(Family):
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
    Second moments are taken in whitened coordinates of the parameters before the update,
    ``y = L^{-1}(x - m)``: then ``m' = m + L ybar`` and ``S' = L (yy - ybar ybar^T) L^T``
    (McLachlan & Peel 2000, Finite Mixture Models, eq. 3.5-3.6, after the change of variable).
    Nothing cancels in float32 however far the data are from the origin.
    """

    ridge: Any = 1e-6
    spread: Any = 1.0

    dims: ClassVar = {"mean": ("cluster", "feature"), "cov": ("cluster", "feature", "feature_bis")}

    @override
    def scaled_to(self, spread: Array) -> Self:
        return type(self)(self.ridge, spread)

    def _floor(self, mean: Array) -> Array:
        return self.ridge * jnp.square(jnp.broadcast_to(self.spread, mean.shape[-1:]))

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
        log_det = jnp.sum(jnp.log(jnp.diagonal(whiten, axis1=-2, axis2=-1)), axis=-1)
        offset = jnp.einsum("kij,kj->ki", whiten, mean, precision=PRECISION)
        return Prepared(mean, whiten, offset, log_det - 0.5 * mean.shape[-1] * LOG_2PI)

    def _whitened(self, prepared: Prepared, x: Array) -> Array | list[Array]:
        k, d = prepared.mean.shape
        if d > UNROLL:
            y = matmul(prepared.whiten.reshape(k * d, d), x) - prepared.offset.reshape(k * d, 1)
            return y.reshape(k, d, -1)
        gap = [x[j] - prepared.mean[:, j, None] for j in range(d)]
        return [
            sum(
                (prepared.whiten[:, i, j, None] * gap[j] for j in range(1, i + 1)),
                prepared.whiten[:, i, 0, None] * gap[0],
            )
            for i in range(d)
        ]

    @override
    def score(self, prepared: Prepared, x: Array) -> Array:
        y = self._whitened(prepared, x)
        if isinstance(y, list):
            square = sum((v * v for v in y[1:]), y[0] * y[0])
        else:
            square = jnp.sum(y * y, axis=1)
        return prepared.peak[:, None] - 0.5 * square

    @override
    def stats(self, prepared: Prepared, x: Array, resp: Array) -> Moments:
        y = self._whitened(prepared, x)
        if isinstance(y, list):
            d = len(y)
            weighted = [resp * v for v in y]
            first = jnp.stack([jnp.sum(v, axis=1) for v in weighted], axis=1)
            upper = {
                (i, j): jnp.sum(weighted[i] * y[j], axis=1) for i in range(d) for j in range(i, d)
            }
            second = jnp.stack(
                [
                    jnp.stack([upper[min(i, j), max(i, j)] for j in range(d)], axis=1)
                    for i in range(d)
                ],
                axis=1,
            )
            return Moments(jnp.sum(resp, axis=1), first, second)
        ry = resp[:, None, :] * y
        second = lax.dot_general(ry, y, (((2,), (2,)), ((0,), (0,))), precision=PRECISION)
        return Moments(jnp.sum(resp, axis=1), jnp.sum(ry, axis=2), second)

    @override
    def maximise(self, params: Params, stats: Moments, constants: Any) -> Params:
        factor = cholesky(params["cov"])
        count, alive = safe_counts(stats.count)
        bar = stats.first / count[:, None]
        mean = params["mean"] + jnp.einsum("kij,kj->ki", factor, bar, precision=PRECISION)
        inner = stats.second / count[:, None, None] - bar[:, :, None] * bar[:, None, :]
        cov = jnp.einsum("kij,kjl,kml->kim", factor, inner, factor, precision=PRECISION)
        cov = 0.5 * (cov + jnp.swapaxes(cov, -1, -2))
        # A difference of sums: a variance that rounding made negative is zero.
        lift = self._floor(mean) + jnp.maximum(-jnp.diagonal(cov, axis1=-2, axis2=-1), 0)
        cov = cov + lift.astype(cov.dtype)[..., None] * jnp.eye(cov.shape[-1], dtype=cov.dtype)
        cov = keep(alive, cov, params["cov"])
        return {"mean": keep(alive, mean, params["mean"]), "cov": cov}

    @override
    def floored(self, params: Params) -> Array:
        return mostly_floor(self.prepare(params).whiten, self._floor(params["mean"]))

    @override
    def log_prior(self, params: Params) -> Array:
        return jnp.zeros(params["mean"].shape[0], params["mean"].dtype)

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
