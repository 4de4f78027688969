"""Gaussian components with independent columns."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, final, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key, Params
from bayesclust.core.linalg import matmul, outer_sum
from bayesclust.families.conjugate import NormalInverseGamma
from bayesclust.families.gaussian import (
    LOG_2PI,
    GaussianFamily,
    chi2_tail,
    keep,
    safe_counts,
)
from bayesclust.families.prior import Summary


class Prepared(NamedTuple):
    """Log density as ``constant + linear x + square x^2``, and its value at the mean."""

    constant: Array
    linear: Array
    square: Array
    peak: Array


class Moments(NamedTuple):
    """Sums of ``1, x, x^2`` by component."""

    count: Array
    first: Array
    second: Array


@final
@pytree
class DiagonalGaussian(GaussianFamily):
    """Gaussian with mean ``(k, d)`` and variances ``var (k, d)`` per component.

    Attributes as for `FullGaussian`.
    """

    ridge: Any = 1e-6
    spread: Any = 1.0
    prior: Any = None

    kind: ClassVar = "diag"
    usual: ClassVar = NormalInverseGamma
    dims: ClassVar = {"mean": ("cluster", "feature"), "var": ("cluster", "feature")}

    @override
    def located(self, centers: Array) -> Params:
        variance = jnp.square(jnp.asarray(self.spread, centers.dtype))
        return {"mean": centers, "var": jnp.broadcast_to(variance, centers.shape)}

    @override
    def prepare(self, params: Params) -> Prepared:
        mean, var = params["mean"], params["var"]
        peak = -0.5 * (jnp.sum(jnp.log(var), axis=1) + mean.shape[1] * LOG_2PI)
        linear = mean / var
        return Prepared(peak - 0.5 * jnp.sum(linear * mean, axis=1), linear, -0.5 / var, peak)

    @override
    def score(self, prepared: Prepared, x: Array) -> Array:
        quadratic = matmul(prepared.linear, x) + matmul(prepared.square, x * x)
        return prepared.constant[:, None] + quadratic

    @override
    def stats(self, prepared: Prepared, x: Array, resp: Array) -> Moments:
        return Moments(jnp.sum(resp, axis=1), outer_sum(resp, x), outer_sum(resp, x * x))

    @override
    def summary(self, params: Params, stats: Moments, constants: Any) -> Summary:
        """Counts, means and sums of squares about them, by column."""
        count, _ = safe_counts(stats.count)
        mean = stats.first / count[:, None]
        return Summary(
            stats.count, mean, jnp.maximum(stats.second - count[:, None] * mean * mean, 0)
        )

    @override
    def likeliest(self, params: Params, seen: Summary) -> Params:
        count, alive = safe_counts(seen.count)
        mean, var = seen.mean, seen.scatter / count[:, None]
        floor = self._floor(mean).astype(mean.dtype)
        var = _positive(keep(alive, var + floor, params["var"]), floor)
        return {"mean": keep(alive, mean, params["mean"]), "var": var}

    @override
    def floored(self, params: Params) -> Array:
        return jnp.any(params["var"] <= 2 * self._floor(params["mean"]), axis=1)

    @override
    def sample(self, key: Key, params: Params, z: Array) -> Array:
        mean, var = params["mean"], params["var"]
        noise = jax.random.normal(key, (z.shape[0], mean.shape[-1]), mean.dtype)
        return mean[z] + jnp.sqrt(var)[z] * noise

    @override
    def tail_probability(self, prepared: Prepared, x: Array) -> Array:
        return chi2_tail(self.score(prepared, x), prepared.peak, x.shape[0])

    @override
    def in_units(self, params: Params, shift: Array, scale: Array) -> Params:
        return {"mean": params["mean"] * scale + shift, "var": params["var"] * scale * scale}

    @override
    def n_parameters(self, k: int, d: int) -> int:
        return 2 * k * d

    @override
    def cancellation(self, params: Params) -> Array:
        return jnp.max(jnp.sum(jnp.square(params["mean"]) / params["var"], axis=-1))


def _positive(var: Array, floor: Array) -> Array:
    """Variances that can be divided by, also where no floor was asked for."""
    least = jnp.maximum(floor, jnp.finfo(var.dtype).eps ** 2)
    return jnp.maximum(var, least)
