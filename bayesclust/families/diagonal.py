"""Gaussian components with independent columns."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self, final, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key, Params
from bayesclust.core.linalg import matmul, outer_sum
from bayesclust.families.base import ConjugateFamily
from bayesclust.families.conjugate import NormalInverseGamma, Summary, nothing
from bayesclust.families.gaussian import LOG_2PI, chi2_tail, keep, safe_counts


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
class DiagonalGaussian(ConjugateFamily):
    """Gaussian with mean ``(k, d)`` and variances ``var (k, d)`` per component.

    Attributes as for `FullGaussian`.
    """

    ridge: Any = 1e-6
    spread: Any = 1.0
    prior: Any = None

    dims: ClassVar = {"mean": ("cluster", "feature"), "var": ("cluster", "feature")}

    @override
    def scaled_to(self, spread: Array) -> Self:
        return type(self)(self.ridge, spread, self.prior)

    @override
    def informed(self, k: int) -> Self:
        if self.prior is not None:
            return self
        return type(self)(
            self.ridge,
            self.spread,
            NormalInverseGamma.default(jnp.asarray(self.spread), k, sphere=False),
        )

    @override
    def in_prior_units(self, shift: Array, scale: Array) -> Self:
        if self.prior is None:
            return self
        return type(self)(self.ridge, self.spread, self.prior.in_units(shift, scale))

    def _floor(self, mean: Array) -> Array:
        return self.ridge * jnp.square(jnp.broadcast_to(self.spread, mean.shape[-1:]))

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

    def summary(self, params: Params, stats: Moments, constants: Any) -> Summary:
        """Counts, means and sums of squares about them, by column."""
        count, _ = safe_counts(stats.count)
        mean = stats.first / count[:, None]
        return Summary(
            stats.count, mean, jnp.maximum(stats.second - count[:, None] * mean * mean, 0)
        )

    @override
    def maximise(self, params: Params, stats: Moments, constants: Any) -> Params:
        seen = self.summary(params, stats, constants)
        if self.prior is not None:
            mean, var = self.prior.posterior(seen).mode()
            return {"mean": mean, "var": var}
        count, alive = safe_counts(stats.count)
        mean, var = seen.mean, seen.scatter / count[:, None]
        floor = self._floor(mean).astype(mean.dtype)
        var = _positive(keep(alive, var + floor, params["var"]), floor)
        return {"mean": keep(alive, mean, params["mean"]), "var": var}

    @override
    def floored(self, params: Params) -> Array:
        return jnp.any(params["var"] <= 2 * self._floor(params["mean"]), axis=1)

    @override
    def log_prior(self, params: Params) -> Array:
        if self.prior is None:
            return jnp.zeros(params["mean"].shape[0], params["mean"].dtype)
        return self.prior.log_prob(params["mean"], params["var"])

    @override
    def posterior(self, params: Params, stats: Moments, constants: Any) -> NormalInverseGamma:
        return self.prior.posterior(self.summary(params, stats, constants))

    @override
    def draw(self, key: Key, hyper: NormalInverseGamma) -> Params:
        mean, var = hyper.draw(key)
        return {"mean": mean, "var": var}

    @override
    def from_prior(self, key: Key, k: int) -> Params:
        return self.draw(key, self.prior.posterior(nothing(k, self.prior.mean, "diag")))

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
