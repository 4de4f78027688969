"""Conjugate priors of Gaussian means and covariances.

A prior and the posterior under it are the same class: a posterior has a leading axis of
components on its hyperparameters. Defaults follow Fraley and Raftery (2007).

References
----------
A. Gelman et al. (2013), Bayesian Data Analysis, 3rd ed., sections 3.3 and 3.6.
K. P. Murphy (2007), Conjugate Bayesian analysis of the Gaussian distribution, eq. 250-254.
C. M. Bishop (2006), Pattern Recognition and Machine Learning, section 10.2: expectations and
    divergences that variational Bayes needs.
C. Fraley and A. E. Raftery (2007), Bayesian regularization for normal mixture estimation and
    model-based clustering, J. Classif. 24, 155-181, section 3.2: the default hyperparameters.
"""

from __future__ import annotations

import math
from typing import Any, Self, final, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key
from bayesclust.core.gamma import gamma
from bayesclust.core.linalg import cholesky, diagonal, inverse_lower, matmul
from bayesclust.core.random import normal
from bayesclust.families.gaussian import LOG_2PI
from bayesclust.families.prior import (
    ConjugatePrior,
    Kind,
    State,
    Summary,
    expected_chi_log,
    mapped,
    nothing,
)
from bayesclust.hyper import half_log_det, inverse_wishart

STRENGTH = 0.01
"""Rows that the default prior of a mean is worth."""


@final
@pytree
class NormalInverseWishart(ConjugatePrior):
    """``cov ~ IW(df, scale)``, ``mean | cov ~ N(mean, cov / strength)``.

    What is None is set for the data: the prior mean is theirs, worth 0.01 rows, ``df = d + 2``,
    and the covariance has the mean ``diag(variances) / k^(2/d)``.

    Attributes
    ----------
    mean : (d,) array, optional
    strength : scalar, optional
        Rows the prior mean is worth, positive.
    df : scalar, optional
        Degrees of freedom, above ``d - 1``; the covariance has a mean if above ``d + 1``.
    scale : (d, d) array, optional
        Positive definite; ``E cov = scale / (df - d - 1)``.
    """

    mean: Any = None
    strength: Any = None
    df: Any = None
    scale: Any = None

    @override
    def informed(self, spread: Array, k: int, kind: Kind) -> Self:
        d = spread.shape[-1]
        df = d + 2.0 if self.df is None else self.df
        wide = jnp.diag(jnp.square(spread)) * ((df - d - 1) / k ** (2.0 / d))
        return type(self)(
            jnp.zeros_like(spread) if self.mean is None else self.mean,
            STRENGTH if self.strength is None else self.strength,
            df,
            wide if self.scale is None else self.scale,
        )

    @override
    def in_units(self, shift: Any, scale: Any) -> Self:
        return type(self)(
            mapped(lambda v: v * scale + shift, self.mean),
            self.strength,
            self.df,
            mapped(lambda v: v * (scale[:, None] * scale), self.scale),
        )

    @override
    def begin(self) -> State:
        return {}

    @override
    def posterior(self, seen: Summary) -> Self:
        """Posterior given rows (Murphy 2007, eq. 250-254); a pooled scatter gives a tied one."""
        strength = self.strength + seen.count
        gap = seen.mean - self.mean
        mean = self.mean + (seen.count / strength)[:, None] * gap
        pull = (self.strength * seen.count / strength)[:, None, None]
        between = pull * gap[:, :, None] * gap[:, None, :]
        if seen.scatter.ndim == 2:
            # Integrating the means out leaves IW for the shared covariance.
            df = self.df + jnp.sum(seen.count)
            scale = self.scale + seen.scatter + jnp.sum(between, axis=0)
            return type(self)(mean, strength, df, scale)
        scale = self.scale + seen.scatter + between
        return type(self)(mean, strength, self.df + seen.count, scale)

    @override
    def draw(self, key: Key) -> tuple[Array, Array]:
        key_cov, key_mean = jax.random.split(key)
        cov, factor = inverse_wishart(key_cov, self.df, self.scale)
        noise = normal(key_mean, self.mean.shape, cov.dtype)
        step = matmul(factor, noise[:, :, None])[..., 0]
        return self.mean + step / jnp.sqrt(jnp.asarray(self.strength))[:, None], cov

    @override
    def update(
        self, key: Key, seen: Summary, mean: Array, spread: Array, state: State
    ) -> tuple[Array, Array, State]:
        return *self.posterior(seen).draw(key), state

    @override
    def mode(self) -> tuple[Array, Array]:
        k, d = self.mean.shape
        met = k if self.scale.ndim == 2 else 1  # means that share the covariance
        total = jnp.asarray(self.df + d + 1 + met)
        return self.mean, self.scale / total[..., None, None]

    @override
    def maximise(self, seen: Summary, mean: Array, spread: Array) -> tuple[Array, Array]:
        return self.posterior(seen).mode()

    @override
    def log_prob(self, mean: Array, spread: Array, state: State) -> Array:
        """The inverse Wishart's (Gelman et al. 2013, appendix A) and the normal's."""
        k, d = mean.shape
        covariance = inverse_wishart_log_prob(spread, self.df, self.scale)
        if spread.ndim == 2:
            covariance = covariance / k
        factor = cholesky(spread)
        log_det = 2 * jnp.sum(jnp.log(diagonal(factor)), axis=-1)
        y = matmul(inverse_lower(factor), (mean - self.mean)[:, :, None])[..., 0]
        square = self.strength * jnp.sum(y * y, axis=-1)
        normal = -0.5 * (d * LOG_2PI - d * jnp.log(self.strength) + log_det + square)
        return covariance + normal

    @override
    def from_prior(self, key: Key, k: int, kind: Kind) -> tuple[Array, Array, State]:
        return *self.posterior(nothing(k, jnp.asarray(self.mean), kind)).draw(key), {}

    @override
    def expected(self) -> tuple[Array, Array, Array]:
        """Bishop (2006), eq. 10.64-10.65: the density at ``scale / df``, corrected."""
        k, d = self.mean.shape
        df = jnp.asarray(self.df)
        offset = 0.5 * (expected_chi_log(df, d) - d * jnp.log(df)) - 0.5 * d / self.strength
        return self.mean, self.scale / df[..., None, None], jnp.broadcast_to(offset, (k,))

    @override
    def kl(self, prior: Self) -> Array:
        """Of the Wishart precisions, and of the means given them (Bishop 2006, eq. 10.74-10.77)."""
        d = self.mean.shape[1]
        df, df0 = jnp.asarray(self.df), jnp.asarray(prior.df)
        whiten = inverse_lower(cholesky(self.scale))
        ratio = matmul(whiten, cholesky(jnp.asarray(prior.scale)))
        gammaln = jax.scipy.special.multigammaln
        precision = (
            0.5 * (df - df0) * (expected_chi_log(df, d) - d * math.log(2))
            + 0.5 * df * (jnp.sum(ratio * ratio, axis=(-2, -1)) - d)
            + df0 * (half_log_det(self.scale) - half_log_det(prior.scale))
            + gammaln(0.5 * df0, d)
            - gammaln(0.5 * df, d)
        )
        y = matmul(whiten, (self.mean - prior.mean)[:, :, None])[..., 0]
        share = prior.strength / self.strength
        mean = 0.5 * (d * (share - 1 - jnp.log(share)) + prior.strength * df * jnp.sum(y * y, -1))
        return jnp.sum(precision) + jnp.sum(mean)

    @override
    def blend(self, other: Self, rate: Array) -> Self:
        def natural(v: Self) -> Self:
            pull = v.strength[:, None] * v.mean
            square = pull[:, :, None] * v.mean[:, None, :]
            if v.scale.ndim == 2:
                square = jnp.sum(square, axis=0)
            return type(self)(pull, v.strength, v.df, v.scale + square)

        mid = jax.tree.map(lambda a, b: a + rate * (b - a), natural(self), natural(other))
        mean = mid.mean / mid.strength[:, None]
        square = mid.mean[:, :, None] * mean[:, None, :]
        if mid.scale.ndim == 2:
            square = jnp.sum(square, axis=0)
        return type(self)(mean, mid.strength, mid.df, mid.scale - square)

    @override
    def sample_sites(self, k: int, kind: Kind) -> tuple[Array, Array]:
        import numpyro
        from numpyro import distributions as dist

        plate = numpyro.plate("cluster", k)
        cov = covariance_sites(plate, kind, self.df, self.scale)
        with plate:
            normal = dist.MultivariateNormal(
                self.mean, scale_tril=cholesky(cov) / jnp.sqrt(self.strength)
            )
            mean = numpyro.sample("mean", normal, infer={"event_dims": ["feature"]})
        return mean, cov


def covariance_sites(plate: Any, kind: Kind, df: Any, scale: Any) -> Array:
    """Covariances through the Cholesky factors of their Wishart precisions, which NUTS moves in."""
    import numpyro
    from numpyro import distributions as dist

    d = jnp.shape(scale)[-1]
    wishart = dist.WishartCholesky(df, rate_matrix=scale)
    dims = {"event_dims": ["feature", "feature_bis"]}

    def sites() -> Array:
        if d > 1:
            factor = numpyro.sample("precision_cholesky", wishart, infer=dims)
        else:  # NumPyro has no transform for one by one
            gamma = dist.Gamma(0.5 * df, 0.5 * jnp.reshape(scale, ()))
            precision = numpyro.sample("precision", gamma)
            factor = jnp.sqrt(precision)[..., None, None]
        root = inverse_lower(factor)
        return numpyro.deterministic("cov", matmul(root.mT, root))

    if kind == "tied":
        return sites()
    with plate:
        return sites()


def inverse_wishart_log_prob(cov: Array, df: Any, scale: Any) -> Array:
    """Log density of ``IW(df, scale)`` (Gelman et al. 2013, appendix A)."""
    d = cov.shape[-1]
    df, scale = jnp.asarray(df), jnp.asarray(scale)
    factor = cholesky(cov)
    log_det = 2 * jnp.sum(jnp.log(diagonal(factor)), axis=-1)
    ratio = matmul(inverse_lower(factor), cholesky(scale))
    trace = jnp.sum(jnp.square(ratio), axis=(-2, -1))
    return (
        df * half_log_det(scale)
        - 0.5 * ((df + d + 1) * log_det + trace + df * d * math.log(2))
        - jax.scipy.special.multigammaln(0.5 * df, d)
    )


@final
@pytree
class NormalInverseGamma(ConjugatePrior):
    """``var ~ IG(shape, rate)``, ``mean | var ~ N(mean, var / strength)``.

    What is None is set for the data: the prior mean is theirs, worth 0.01 rows, ``shape = 1.5``,
    and the precision has the mean ``k^(2/d) / variance``, for spheres of the mean variance.

    Attributes
    ----------
    mean : (d,) array, optional
    strength : scalar, optional
        Rows the prior mean is worth, positive.
    shape : scalar, optional
        Positive; the variance has a mean if above 1.
    rate : (d,) array or scalar, optional
        ``E var = rate / (shape - 1)``: by column, or a scalar for spheres.
    """

    mean: Any = None
    strength: Any = None
    shape: Any = None
    rate: Any = None

    @override
    def informed(self, spread: Array, k: int, kind: Kind) -> Self:
        d = spread.shape[-1]
        shape = 1.5 if self.shape is None else self.shape
        rate = (shape - 1) * jnp.square(spread) / k ** (2.0 / d)
        return type(self)(
            jnp.zeros_like(spread) if self.mean is None else self.mean,
            STRENGTH if self.strength is None else self.strength,
            shape,
            (jnp.mean(rate) if kind == "sphere" else rate) if self.rate is None else self.rate,
        )

    @override
    def in_units(self, shift: Any, scale: Any) -> Self:
        lead = 0 if self.mean is None else jnp.ndim(self.mean) - 1
        return type(self)(
            mapped(lambda v: v * scale + shift, self.mean),
            self.strength,
            self.shape,
            mapped(lambda v: squared_units(v, scale, lead), self.rate),
        )

    @override
    def begin(self) -> State:
        return {}

    @override
    def posterior(self, seen: Summary) -> Self:
        """Posterior given rows, column by column or over all columns (Gelman et al., 3.3)."""
        strength = self.strength + seen.count
        gap = seen.mean - self.mean
        mean = self.mean + (seen.count / strength)[:, None] * gap
        between = (self.strength * seen.count / strength)[:, None] * gap * gap
        if seen.scatter.ndim == 1:
            d = seen.mean.shape[1]
            square = seen.scatter + jnp.sum(between, axis=1)
            shape = self.shape + 0.5 * d * seen.count
            return type(self)(mean, strength, shape, self.rate + 0.5 * square)
        shape = self.shape + 0.5 * seen.count
        return type(self)(mean, strength, shape, self.rate + 0.5 * (seen.scatter + between))

    def _by_rate(self, value: Any) -> Any:
        """A value by component, next to the rate by component and maybe column."""
        value = jnp.asarray(value)
        return value[:, None] if self.rate.ndim == 2 else value

    @override
    def draw(self, key: Key) -> tuple[Array, Array]:
        key_var, key_mean = jax.random.split(key)
        shape = jnp.broadcast_to(self._by_rate(self.shape), self.rate.shape)
        var = self.rate / gamma(key_var, shape)
        noise = normal(key_mean, self.mean.shape, self.mean.dtype)
        return self.mean + noise * jnp.sqrt(wide(var) / jnp.asarray(self.strength)[:, None]), var

    @override
    def update(
        self, key: Key, seen: Summary, mean: Array, spread: Array, state: State
    ) -> tuple[Array, Array, State]:
        return *self.posterior(seen).draw(key), state

    @override
    def mode(self) -> tuple[Array, Array]:
        met = 1 if self.rate.ndim == 2 else self.mean.shape[1]
        return self.mean, self.rate / self._by_rate(self.shape + 1 + 0.5 * met)

    @override
    def maximise(self, seen: Summary, mean: Array, spread: Array) -> tuple[Array, Array]:
        return self.posterior(seen).mode()

    @override
    def log_prob(self, mean: Array, spread: Array, state: State) -> Array:
        var = wide(spread)
        gap = jnp.square(mean - self.mean)
        normal = -0.5 * jnp.sum(
            LOG_2PI + jnp.log(var / self.strength) + self.strength * gap / var, axis=1
        )
        return normal + inverse_gamma_log_prob(spread, self.shape, self.rate)

    @override
    def from_prior(self, key: Key, k: int, kind: Kind) -> tuple[Array, Array, State]:
        return *self.posterior(nothing(k, jnp.asarray(self.mean), kind)).draw(key), {}

    @override
    def expected(self) -> tuple[Array, Array, Array]:
        """The density at ``rate / shape``, corrected by E log and E of the precision."""
        d = self.mean.shape[1]
        shape = jnp.asarray(self.shape)
        lower = jax.scipy.special.digamma(shape) - jnp.log(shape)
        offset = 0.5 * d * lower - 0.5 * d / self.strength
        return self.mean, self.rate / self._by_rate(shape), offset

    @override
    def kl(self, prior: Self) -> Array:
        """Of the gamma precisions, and of the means given them."""
        a, a0 = self._by_rate(self.shape), jnp.asarray(prior.shape)
        ratio = prior.rate / self.rate
        gammaln = jax.scipy.special.gammaln
        precision = (
            (a - a0) * jax.scipy.special.digamma(a)
            - gammaln(a)
            + gammaln(a0)
            - a0 * jnp.log(ratio)
            + a * (ratio - 1)
        )
        share = jnp.asarray(prior.strength / self.strength)[:, None]
        square = prior.strength * jnp.square(self.mean - prior.mean) * wide(a / self.rate)
        return jnp.sum(precision) + 0.5 * jnp.sum(share - 1 - jnp.log(share) + square)

    @override
    def blend(self, other: Self, rate: Array) -> Self:
        def square(pull: Array, mean: Array, like: Array) -> Array:
            both = 0.5 * pull * mean
            return both if like.ndim == 2 else jnp.sum(both, axis=1)

        def natural(v: Self) -> Self:
            pull = v.strength[:, None] * v.mean
            return type(self)(pull, v.strength, v.shape, v.rate + square(pull, v.mean, v.rate))

        mid = jax.tree.map(lambda a, b: a + rate * (b - a), natural(self), natural(other))
        mean = mid.mean / mid.strength[:, None]
        return type(self)(
            mean, mid.strength, mid.shape, mid.rate - square(mid.mean, mean, mid.rate)
        )

    @override
    def sample_sites(self, k: int, kind: Kind) -> tuple[Array, Array]:
        import numpyro
        from numpyro import distributions as dist

        with numpyro.plate("cluster", k):
            var = variance_sites(kind, self.shape, self.rate, jnp.shape(self.mean)[0])
            normal = dist.Normal(self.mean, jnp.sqrt(wide(var) / self.strength)).to_event(1)
            mean = numpyro.sample("mean", normal, infer={"event_dims": ["feature"]})
        return mean, var


def variance_sites(kind: Kind, shape: Any, rate: Any, d: int) -> Array:
    """Variances of a component, by column or one; within its plate."""
    import numpyro
    from numpyro import distributions as dist

    if kind == "sphere":
        return numpyro.sample("var", dist.InverseGamma(shape, rate))
    columns = dist.InverseGamma(shape, jnp.broadcast_to(jnp.asarray(rate), (d,))).to_event(1)
    return numpyro.sample("var", columns, infer={"event_dims": ["feature"]})


def inverse_gamma_log_prob(var: Array, shape: Any, rate: Any) -> Array:
    """Log density of ``IG(shape, rate)`` by component ``(k,)``, columns added up."""
    shape = jnp.asarray(shape)
    each = (
        shape * jnp.log(rate)
        - jax.scipy.special.gammaln(shape)
        - (shape + 1) * jnp.log(var)
        - rate / var
    )
    return jnp.sum(each, axis=1) if var.ndim == 2 else each


def wide(var: Array) -> Array:
    """Variances by component with an axis of columns."""
    return var if var.ndim == 2 else var[:, None]


def squared_units(value: Any, scale: Any, lead: int = 0) -> Any:
    """Variances in other units: by column behind `lead` axes, or one for all columns.

    A sphere stays one only under a common scale, the geometric mean.
    """
    return value * (
        scale * scale if jnp.ndim(value) > lead else (scale ** (2.0 / len(scale))).prod()
    )
