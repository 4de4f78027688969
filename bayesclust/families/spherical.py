"""Gaussian components with one variance each."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, final, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key, Params
from bayesclust.core.linalg import matmul, outer_sum, squared_distance
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
    """Log density as ``constant + linear x + square |x|^2``, and its value at the mean."""

    constant: Array
    linear: Array
    square: Array
    peak: Array
    mean: Array


class Moments(NamedTuple):
    """Sums of ``1, x, |x|^2`` by component."""

    count: Array
    first: Array
    second: Array


@final
@pytree
class SphericalGaussian(GaussianFamily):
    """Gaussian with mean ``(k, d)`` and one variance ``var (k,)`` per component.

    Its floor is `ridge` times the mean column variance. Other attributes as for `FullGaussian`.

    Attributes
    ----------
    direct : bool
        Score rows by differences from the means, as k-means measures distances, so that equal
        spheres are in the order of the distances; else by a product of matrices, which is quicker.
    """

    ridge: Any = 1e-6
    spread: Any = 1.0
    prior: Any = None
    direct: bool = static(default=False)

    kind: ClassVar = "sphere"
    usual: ClassVar = NormalInverseGamma
    dims: ClassVar = {"mean": ("cluster", "feature"), "var": ("cluster",)}

    def _variance(self, dtype: Any) -> Array:
        return jnp.mean(jnp.square(jnp.asarray(self.spread, dtype)))

    @override
    def located(self, centers: Array) -> Params:
        variance = self._variance(centers.dtype)
        return {"mean": centers, "var": jnp.broadcast_to(variance, centers.shape[:1])}

    @override
    def prepare(self, params: Params) -> Prepared:
        mean, var = params["mean"], params["var"]
        d = mean.shape[1]
        peak = -0.5 * d * (jnp.log(var) + LOG_2PI)
        linear = mean / var[:, None]
        constant = peak - 0.5 * jnp.sum(linear * mean, axis=1)
        return Prepared(constant, linear, -0.5 / var, peak, mean)

    @override
    def score(self, prepared: Prepared, x: Array) -> Array:
        if self.direct:
            distance = squared_distance(x, prepared.mean)
            return prepared.peak[:, None] + prepared.square[:, None] * distance
        norm = jnp.sum(x * x, axis=0)
        linear = matmul(prepared.linear, x)
        return prepared.constant[:, None] + linear + prepared.square[:, None] * norm

    @override
    def stats(self, prepared: Prepared, x: Array, resp: Array) -> Moments:
        norm = jnp.sum(x * x, axis=0)
        return Moments(jnp.sum(resp, axis=1), outer_sum(resp, x), jnp.sum(resp * norm, axis=1))

    @override
    def summary(self, params: Params, stats: Moments, constants: Any) -> Summary:
        """Counts, means and sums of squared distances from them."""
        count, _ = safe_counts(stats.count)
        mean = stats.first / count[:, None]
        square = stats.second - count * jnp.sum(mean * mean, axis=1)
        return Summary(stats.count, mean, jnp.maximum(square, 0))

    @override
    def likeliest(self, params: Params, seen: Summary) -> Params:
        count, alive = safe_counts(seen.count)
        mean, var = seen.mean, seen.scatter / (count * seen.mean.shape[1])
        floor = self.ridge * self._variance(mean.dtype)
        var = keep(alive, var + floor, params["var"])
        var = jnp.maximum(var, jnp.maximum(floor, jnp.finfo(var.dtype).eps ** 2))
        return {"mean": keep(alive, mean, params["mean"]), "var": var}

    @override
    def floored(self, params: Params) -> Array:
        return params["var"] <= 2 * self.ridge * self._variance(params["var"].dtype)

    @override
    def sample(self, key: Key, params: Params, z: Array) -> Array:
        mean, var = params["mean"], params["var"]
        noise = jax.random.normal(key, (z.shape[0], mean.shape[-1]), mean.dtype)
        return mean[z] + jnp.sqrt(var)[z, None] * noise

    @override
    def tail_probability(self, prepared: Prepared, x: Array) -> Array:
        return chi2_tail(self.score(prepared, x), prepared.peak, x.shape[0])

    @override
    def in_units(self, params: Params, shift: Array, scale: Array) -> Params:
        # A sphere stays one only under a common scale.
        return {
            "mean": params["mean"] * scale + shift,
            "var": params["var"] * (scale ** (2.0 / scale.shape[0])).prod(),
        }

    @override
    def n_parameters(self, k: int, d: int) -> int:
        return k * d + k

    @override
    def cancellation(self, params: Params) -> Array:
        mean = params["mean"]
        return ((mean * mean).sum(-1) / params["var"]).max()
