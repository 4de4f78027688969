"""Priors of Gaussian means and covariances that know nothing of each other.

The spread may have a hyperprior on its scale: the hierarchical prior of Richardson and Green, and
Stephens' for several columns. Not conjugate, but each part is, given the others.

References
----------
S. Richardson and P. J. Green (1997), On Bayesian analysis of mixtures with an unknown number of
    components, J. R. Stat. Soc. B 59, 731-792, section 2.4: the prior and its defaults.
M. Stephens (1997), Bayesian methods for mixtures of normal distributions, D.Phil. thesis, Oxford,
    section 2.2: the same for several columns.
X.-L. Meng and D. B. Rubin (1993), Maximum likelihood estimation via the ECM algorithm, Biometrika
    80, 267-278: maximising one part given the other still climbs.
"""

from __future__ import annotations

from typing import Any, Self, final, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key
from bayesclust.core.gamma import gamma
from bayesclust.core.linalg import cholesky, inverse_lower, matmul
from bayesclust.core.random import normal
from bayesclust.families.conjugate import (
    covariance_sites,
    inverse_gamma_log_prob,
    inverse_wishart_log_prob,
    squared_units,
    variance_sites,
    wide,
)
from bayesclust.families.gaussian import LOG_2PI
from bayesclust.families.prior import Kind, Prior, State, Summary, mapped
from bayesclust.hyper import Gamma, Wishart, half_log_det, inverse_wishart

RANGE = 4.0
"""Standard deviations that a range is read as: the middle 95 % of a normal distribution."""


@final
@pytree
class IndependentNormalWishart(Prior):
    """``mean ~ N(mean, cov)`` and ``covariance ~ IW(df, scale)``, independent of each other.

    What is None is set for the data, of range ``R`` (four standard deviations) by column: the
    prior mean is theirs, ``cov = diag(R^2)``, ``df = d + 3``, and the scale has, or is, the mean
    ``diag(R^2) / 25``, as in Richardson and Green (1997).

    Attributes
    ----------
    mean : (d,) array, optional
    cov : (d, d) array, optional
        Of the means, positive definite.
    df : scalar, optional
        Degrees of freedom, above ``d - 1``.
    scale : (d, d) array or Wishart, optional
        Positive definite, ``E covariance = scale / (df - d - 1)``; or its hyperprior, whose own
        `df` and `scale` may be None: ``d - 0.6``, and what gives the mean above.
    """

    mean: Any = None
    cov: Any = None
    df: Any = None
    scale: Any = None

    @override
    def informed(self, spread: Array, k: int, kind: Kind) -> Self:
        d = spread.shape[-1]
        wide_square = jnp.diag(jnp.square(RANGE * spread))
        scale: Any = self.scale
        if scale is None:
            scale = wide_square / 25.0
        elif isinstance(scale, Wishart):
            df = d - 0.6 if scale.df is None else scale.df
            scale = Wishart(df, wide_square / (25.0 * df) if scale.scale is None else scale.scale)
        return type(self)(
            jnp.zeros_like(spread) if self.mean is None else self.mean,
            wide_square if self.cov is None else self.cov,
            d + 3.0 if self.df is None else self.df,
            scale,
        )

    @override
    def in_units(self, shift: Any, scale: Any) -> Self:
        square = scale[:, None] * scale
        own: Any = self.scale
        if isinstance(own, Wishart):
            own = Wishart(own.df, mapped(lambda v: v * square, own.scale))
        else:
            own = mapped(lambda v: v * square, own)
        return type(self)(
            mapped(lambda v: v * scale + shift, self.mean),
            mapped(lambda v: v * square, self.cov),
            self.df,
            own,
        )

    @property
    def _fixed(self) -> Any:
        return self.scale.mean if isinstance(self.scale, Wishart) else self.scale

    @override
    def begin(self) -> State:
        return {"prior_scale": self._fixed} if isinstance(self.scale, Wishart) else {}

    def _center(self, seen: Summary, spread: Array) -> tuple[Array, Array]:
        """Means of the means given covariances, and roots of their precisions' inverses."""
        root = inverse_lower(cholesky(spread))
        precision = matmul(root.mT, root)
        own_root = inverse_lower(cholesky(jnp.asarray(self.cov)))
        own = matmul(own_root.T, own_root)
        total = own + seen.count[:, None, None] * precision
        inverse = inverse_lower(cholesky(total))
        pull = seen.count[:, None, None] * matmul(precision, seen.mean[:, :, None])
        right = matmul(own, self.mean[:, None]) + pull
        center = matmul(inverse.mT, matmul(inverse, right))[..., 0]
        return center, inverse.mT

    def _scatter(self, seen: Summary, mean: Array, scale: Any) -> tuple[Array, Array]:
        """Degrees of freedom and scale of the covariances given means."""
        gap = seen.mean - mean
        between = seen.count[:, None, None] * gap[:, :, None] * gap[:, None, :]
        if seen.scatter.ndim == 2:
            df = self.df + jnp.sum(seen.count)
            return df, scale + seen.scatter + jnp.sum(between, axis=0)
        return self.df + seen.count, scale + seen.scatter + between

    @override
    def update(
        self, key: Key, seen: Summary, mean: Array, spread: Array, state: State
    ) -> tuple[Array, Array, State]:
        key_mean, key_cov, key_scale = jax.random.split(key, 3)
        center, root = self._center(seen, spread)
        noise = normal(key_mean, center.shape, center.dtype)
        mean = center + matmul(root, noise[:, :, None])[..., 0]
        scale = state.get("prior_scale", self._fixed)
        spread, _ = inverse_wishart(key_cov, *self._scatter(seen, mean, scale))
        if not isinstance(self.scale, Wishart):
            return mean, spread, state
        root = inverse_lower(cholesky(spread)).reshape(-1, *scale.shape)
        precision = jnp.sum(matmul(root.mT, root), axis=0)
        own = inverse_lower(cholesky(jnp.asarray(self.scale.scale)))
        count = 1 if spread.ndim == 2 else spread.shape[0]
        root = inverse_lower(cholesky(matmul(own.T, own) + precision))
        moved = Wishart(self.scale.df + count * self.df, matmul(root.T, root))
        return mean, spread, {"prior_scale": moved.draw(key_scale, scale.dtype)}

    @override
    def maximise(self, seen: Summary, mean: Array, spread: Array) -> tuple[Array, Array]:
        """Means given covariances, then covariances given means (Meng and Rubin 1993)."""
        mean, _ = self._center(seen, spread)
        df, scale = self._scatter(seen, mean, self._fixed)
        return mean, scale / jnp.asarray(df + mean.shape[1] + 1)[..., None, None]

    @override
    def log_prob(self, mean: Array, spread: Array, state: State) -> Array:
        k, d = mean.shape
        scale = state.get("prior_scale", self._fixed)
        covariance = inverse_wishart_log_prob(spread, self.df, scale)
        if spread.ndim == 2:
            covariance = covariance / k
        own = cholesky(jnp.asarray(self.cov))
        y = matmul(inverse_lower(own), (mean - self.mean).T)
        normal = -0.5 * (d * LOG_2PI + jnp.sum(y * y, axis=0)) - half_log_det(self.cov)
        if state:
            covariance = covariance + self.scale.log_prob(scale) / k
        return covariance + normal

    @override
    def from_prior(self, key: Key, k: int, kind: Kind) -> tuple[Array, Array, State]:
        key_mean, key_cov, key_scale = jax.random.split(key, 3)
        root = cholesky(jnp.asarray(self.cov))
        noise = normal(key_mean, (k, root.shape[0]), root.dtype)
        state: State = {}
        scale = self.scale
        if isinstance(scale, Wishart):
            scale = scale.draw(key_scale, root.dtype)
            state = {"prior_scale": scale}
        lead = () if kind == "tied" else (k,)
        scale = jnp.broadcast_to(jnp.asarray(scale), (*lead, *root.shape))
        cov, _ = inverse_wishart(key_cov, self.df, scale)
        return self.mean + matmul(noise, root.T), cov, state

    @override
    def sample_sites(self, k: int, kind: Kind) -> tuple[Array, Array]:
        import numpyro
        from numpyro import distributions as dist

        plate = numpyro.plate("cluster", k)
        scale = self.scale
        if isinstance(scale, Wishart):
            scale = _scale_site(scale)
        cov = covariance_sites(plate, kind, self.df, scale)
        with plate:
            normal = dist.MultivariateNormal(self.mean, self.cov)
            mean = numpyro.sample("mean", normal, infer={"event_dims": ["feature"]})
        return mean, cov


def _scale_site(hyper: Wishart) -> Array:
    import numpyro
    from numpyro import distributions as dist

    dims = {"event_dims": ["feature", "feature_bis"]}
    if jnp.shape(hyper.scale)[-1] == 1:
        gamma = dist.Gamma(0.5 * hyper.df, 0.5 / jnp.reshape(hyper.scale, ()))
        scale = numpyro.sample("prior_scale_number", gamma)
        return numpyro.deterministic("prior_scale", scale[None, None])
    wishart = dist.WishartCholesky(hyper.df, scale_matrix=hyper.scale)
    factor = numpyro.sample("prior_scale_cholesky", wishart, infer=dims)
    return numpyro.deterministic("prior_scale", matmul(factor, factor.T))


@final
@pytree
class IndependentNormalGamma(Prior):
    """``mean ~ N(mean, var)`` by column and ``variance ~ IG(shape, rate)``, independent.

    What is None is set for the data, of range ``R`` (four standard deviations) by column: the
    prior mean is theirs, ``var = R^2``, ``shape = 2``, and the rate has, or is, the mean
    ``R^2 / 50`` (Richardson and Green 1997, section 2.4).

    Attributes
    ----------
    mean : (d,) array, optional
    var : (d,) array, optional
        Of the means.
    shape : scalar, optional
    rate : (d,) array, scalar or Gamma, optional
        By column, or a scalar for spheres; or its hyperprior, whose own `shape` and `rate` may be
        None: 0.2, and what gives the mean above.
    """

    mean: Any = None
    var: Any = None
    shape: Any = None
    rate: Any = None

    @override
    def informed(self, spread: Array, k: int, kind: Kind) -> Self:
        square = jnp.square(RANGE * spread)
        usual = (jnp.mean(square) if kind == "sphere" else square) / 50.0
        rate: Any = self.rate
        if rate is None:
            rate = usual
        elif isinstance(rate, Gamma):
            shape = 0.2 if rate.shape is None else rate.shape
            rate = Gamma(shape, shape / usual if rate.rate is None else rate.rate)
        return type(self)(
            jnp.zeros_like(spread) if self.mean is None else self.mean,
            square if self.var is None else self.var,
            2.0 if self.shape is None else self.shape,
            rate,
        )

    @override
    def in_units(self, shift: Any, scale: Any) -> Self:
        rate: Any = self.rate
        if isinstance(rate, Gamma):
            rate = Gamma(rate.shape, mapped(lambda v: squared_units(v, 1.0 / scale), rate.rate))
        else:
            rate = mapped(lambda v: squared_units(v, scale), rate)
        return type(self)(
            mapped(lambda v: v * scale + shift, self.mean),
            mapped(lambda v: v * scale * scale, self.var),
            self.shape,
            rate,
        )

    @property
    def _fixed(self) -> Any:
        return self.rate.mean if isinstance(self.rate, Gamma) else self.rate

    @override
    def begin(self) -> State:
        return {"prior_rate": self._fixed} if isinstance(self.rate, Gamma) else {}

    def _center(self, seen: Summary, spread: Array) -> tuple[Array, Array]:
        """Means and variances of the means given variances."""
        precision = seen.count[:, None] / wide(spread)
        total = 1.0 / self.var + precision
        return (self.mean / self.var + precision * seen.mean) / total, 1.0 / total

    def _scatter(self, seen: Summary, mean: Array, rate: Any) -> tuple[Array, Array]:
        """Shapes and rates of the variances given means."""
        between = seen.count[:, None] * jnp.square(seen.mean - mean)
        if seen.scatter.ndim == 1:
            shape = self.shape + 0.5 * mean.shape[1] * seen.count
            return shape, rate + 0.5 * (seen.scatter + jnp.sum(between, axis=1))
        shape = jnp.broadcast_to((self.shape + 0.5 * seen.count)[:, None], mean.shape)
        return shape, rate + 0.5 * (seen.scatter + between)

    @override
    def update(
        self, key: Key, seen: Summary, mean: Array, spread: Array, state: State
    ) -> tuple[Array, Array, State]:
        key_mean, key_var, key_rate = jax.random.split(key, 3)
        center, var = self._center(seen, spread)
        mean = center + jnp.sqrt(var) * normal(key_mean, center.shape, center.dtype)
        rate = state.get("prior_rate", self._fixed)
        shape, total = self._scatter(seen, mean, rate)
        spread = total / gamma(key_var, shape)
        if not isinstance(self.rate, Gamma):
            return mean, spread, state
        moved = Gamma(
            self.rate.shape + spread.shape[0] * self.shape,
            self.rate.rate + jnp.sum(1.0 / spread, axis=0),
        )
        return mean, spread, {"prior_rate": moved.draw(key_rate, spread.dtype)}

    @override
    def maximise(self, seen: Summary, mean: Array, spread: Array) -> tuple[Array, Array]:
        """Means given variances, then variances given means (Meng and Rubin 1993)."""
        mean, _ = self._center(seen, spread)
        shape, rate = self._scatter(seen, mean, self._fixed)
        return mean, rate / (shape + 1)

    @override
    def log_prob(self, mean: Array, spread: Array, state: State) -> Array:
        rate = state.get("prior_rate", self._fixed)
        gap = jnp.square(mean - self.mean)
        normal = -0.5 * jnp.sum(LOG_2PI + jnp.log(self.var) + gap / self.var, axis=1)
        variance = inverse_gamma_log_prob(spread, self.shape, rate)
        if state:
            variance = variance + jnp.sum(self.rate.log_prob(rate)) / mean.shape[0]
        return variance + normal

    @override
    def from_prior(self, key: Key, k: int, kind: Kind) -> tuple[Array, Array, State]:
        key_mean, key_var, key_rate = jax.random.split(key, 3)
        center = jnp.asarray(self.mean)
        noise = normal(key_mean, (k, center.shape[0]), center.dtype)
        state: State = {}
        rate = self.rate
        if isinstance(rate, Gamma):
            rate = rate.draw(key_rate, center.dtype)
            state = {"prior_rate": rate}
        lead = (k,) if kind == "sphere" else (k, center.shape[0])
        shape = jnp.broadcast_to(jnp.asarray(self.shape, center.dtype), lead)
        var = rate / gamma(key_var, shape)
        return center + jnp.sqrt(self.var) * noise, var, state

    @override
    def sample_sites(self, k: int, kind: Kind) -> tuple[Array, Array]:
        import numpyro
        from numpyro import distributions as dist

        d = jnp.shape(self.mean)[0]
        rate = self.rate
        if isinstance(rate, Gamma):
            hyper = dist.Gamma(rate.shape, rate.rate)
            if kind != "sphere":
                hyper = hyper.expand((d,)).to_event(1)
            dims = [] if kind == "sphere" else ["feature"]
            rate = numpyro.sample("prior_rate", hyper, infer={"event_dims": dims})
        with numpyro.plate("cluster", k):
            var = variance_sites(kind, self.shape, rate, d)
            normal = dist.Normal(self.mean, jnp.sqrt(self.var)).to_event(1)
            mean = numpyro.sample("mean", normal, infer={"event_dims": ["feature"]})
        return mean, var
