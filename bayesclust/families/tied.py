"""Gaussian components that share one covariance matrix."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, final, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key, Params
from bayesclust.core.linalg import PRECISION, cholesky, diagonal, inverse_lower, matmul, outer_sum
from bayesclust.core.rows import Rows
from bayesclust.core.sweep import add_up
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


class Prepared(NamedTuple):
    """Shared whitening, whitened means, and the log density at the means."""

    whiten: Array
    mean: Array
    peak: Array


class Moments(NamedTuple):
    """Sums of ``1, x`` by component."""

    count: Array
    first: Array


class Constants(NamedTuple):
    """Total weight and ``sum w x x^T``: no iteration changes them."""

    weight: Array
    second: Array


@final
@pytree
class TiedGaussian(GaussianFamily):
    """Gaussian with mean ``(k, d)`` and one covariance ``cov (d, d)`` for all components.

    The second moment of all rows is taken once, so that an iteration costs little more than one
    of k-means. Attributes as for `FullGaussian`.
    """

    ridge: Any = 1e-6
    spread: Any = 1.0
    prior: Any = None

    kind: ClassVar = "tied"
    usual: ClassVar = NormalInverseWishart
    dims: ClassVar = {"mean": ("cluster", "feature"), "cov": ("feature", "feature_bis")}

    @override
    def located(self, centers: Array) -> Params:
        d = centers.shape[1]
        variance = jnp.square(jnp.broadcast_to(jnp.asarray(self.spread, centers.dtype), (d,)))
        return {"mean": centers, "cov": jnp.diag(variance)}

    @override
    def prepare(self, params: Params) -> Prepared:
        whiten = inverse_lower(cholesky(params["cov"]))
        d = whiten.shape[-1]
        log_det = jnp.sum(jnp.log(diagonal(whiten)))
        mean = matmul(params["mean"], whiten.T)
        return Prepared(whiten, mean, jnp.full(mean.shape[0], log_det - 0.5 * d * LOG_2PI))

    @override
    def score(self, prepared: Prepared, x: Array) -> Array:
        y = matmul(prepared.whiten, x)
        mean = prepared.mean
        inner = matmul(mean, y) - 0.5 * jnp.sum(mean * mean, axis=1)[:, None]
        return prepared.peak[:, None] + inner - 0.5 * jnp.sum(y * y, axis=0)

    @override
    def stats(self, prepared: Prepared, x: Array, resp: Array) -> Moments:
        return Moments(jnp.sum(resp, axis=1), outer_sum(resp, x))

    @override
    def constants(self, rows: Rows) -> Constants:
        return Constants(
            *add_up(rows, lambda x, weight, i: (jnp.sum(weight), outer_sum(weight * x, x)))
        )

    @override
    def summary(self, params: Params, stats: Moments, constants: Constants) -> Summary:
        """Counts and means of the rows, and their pooled scatter."""
        count, alive = safe_counts(stats.count)
        mean = keep(alive, stats.first / count[:, None], params["mean"])
        between = jnp.einsum("k,ki,kj->ij", stats.count, mean, mean, precision=PRECISION)
        return Summary(stats.count, mean, constants.second - between)

    @override
    def likeliest(self, params: Params, seen: Summary) -> Params:
        mean = seen.mean
        floor = self._floor(mean).astype(mean.dtype)
        cov = seen.scatter / jnp.sum(seen.count)
        # The difference of two sums: keep a variance that rounding made negative at zero.
        lift = jnp.maximum(-diagonal(cov), 0)
        cov = 0.5 * (cov + cov.T) + jnp.diag(floor + lift)
        return {"mean": mean, "cov": cov}

    @override
    def floored(self, params: Params) -> Array:
        whiten = self.prepare(params).whiten
        k = params["mean"].shape[0]
        return jnp.broadcast_to(mostly_floor(whiten, self._floor(params["mean"])), (k,))

    @override
    def sample(self, key: Key, params: Params, z: Array) -> Array:
        mean, factor = params["mean"], cholesky(params["cov"])
        noise = jax.random.normal(key, (z.shape[0], mean.shape[-1]), mean.dtype)
        return mean[z] + matmul(noise, factor.T)

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
        return k * d + d * (d + 1) // 2

    @override
    def cancellation(self, params: Params) -> Array:
        return jnp.max(jnp.sum(jnp.square(self.prepare(params).mean), axis=-1))
