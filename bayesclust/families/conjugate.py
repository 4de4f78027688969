"""Conjugate priors of Gaussian means and covariances.

A prior and the posterior under it are the same class: a posterior has a leading axis of
components on its hyperparameters.

References
----------
A. Gelman et al. (2013), Bayesian Data Analysis, 3rd ed., sections 3.3 and 3.6.
K. P. Murphy (2007), Conjugate Bayesian analysis of the Gaussian distribution, eq. 250-254.
C. Fraley and A. E. Raftery (2007), Bayesian regularization for normal mixture estimation and
    model-based clustering, J. Classif. 24, 155-181, section 3.2: the default hyperparameters.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key
from bayesclust.core.linalg import cholesky, inverse_lower, matmul
from bayesclust.families.gaussian import LOG_2PI

STRENGTH = 0.01
"""Rows that the default prior of a mean is worth."""


class Summary(NamedTuple):
    """What a Gaussian component has seen.

    Attributes
    ----------
    count : (k,) array
        Weight of its rows.
    mean : (k, d) array
    scatter : (k, d, d), (d, d), (k, d) or (k,) array
        Sum of (outer) squares about the mean: full, pooled, by column, or over all columns.
    """

    count: Array
    mean: Array
    scatter: Array


def nothing(k: int, mean: Array, kind: str) -> Summary:
    """A summary of no rows, with a scatter of this kind: full, tied, diag or sphere."""
    d = mean.shape[-1]
    shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "sphere": (k,)}[kind]
    zeros = functools.partial(jnp.zeros, dtype=mean.dtype)
    return Summary(zeros(k), jnp.broadcast_to(mean, (k, d)), zeros(shape))


@final
@pytree
class NormalInverseWishart:
    """``cov ~ IW(df, scale)``, ``mean | cov ~ N(mean, cov / strength)``.

    Attributes
    ----------
    mean : (d,) array
    strength : scalar
        Rows the prior mean is worth, positive.
    df : scalar
        Degrees of freedom, above ``d - 1``; the covariance has a mean if above ``d + 1``.
    scale : (d, d) array
        Positive definite; ``E cov = scale / (df - d - 1)``.
    """

    mean: Any
    strength: Any
    df: Any
    scale: Any

    @classmethod
    def default(cls, spread: Array, k: int) -> NormalInverseWishart:
        """Weak prior for centred data of these column standard deviations, see the module."""
        d = spread.shape[-1]
        return cls(
            mean=jnp.zeros_like(spread),
            strength=jnp.asarray(STRENGTH, spread.dtype),
            df=jnp.asarray(d + 2.0, spread.dtype),
            scale=jnp.diag(jnp.square(spread)) / k ** (2.0 / d),
        )

    def in_units(self, shift: Any, scale: Any) -> NormalInverseWishart:
        """The prior of ``x * scale + shift`` if this is the prior of ``x``."""
        return NormalInverseWishart(
            self.mean * scale + shift, self.strength, self.df, self.scale * scale[:, None] * scale
        )

    def posterior(self, seen: Summary) -> NormalInverseWishart:
        """Posterior given rows (Murphy 2007, eq. 250-254); a pooled scatter gives a tied one."""
        strength = self.strength + seen.count
        gap = seen.mean - self.mean
        mean = self.mean + (seen.count / strength)[:, None] * gap
        pull = (self.strength * seen.count / strength)[:, None, None]
        between = pull * gap[:, :, None] * gap[:, None, :]
        if seen.scatter.ndim == 2:
            # Integrating the means out leaves IW for the shared covariance.
            df = self.df + jnp.sum(seen.count)
            return NormalInverseWishart(
                mean, strength, df, self.scale + seen.scatter + jnp.sum(between, axis=0)
            )
        return NormalInverseWishart(
            mean, strength, self.df + seen.count, self.scale + seen.scatter + between
        )

    def draw(self, key: Key) -> tuple[Array, Array]:
        """Means ``(k, d)`` and covariances ``(k, d, d)`` or ``(d, d)`` of a posterior.

        By Bartlett's decomposition: with ``scale = L L^T`` and ``A`` lower triangular, squared
        diagonal chi-squared with ``df - i`` degrees of freedom and standard normal below,
        ``cov = (L A^-T)(L A^-T)^T``.
        """
        key_diagonal, key_normal = jax.random.split(key)
        k, d = self.mean.shape
        dtype = self.scale.dtype
        lead = self.scale.shape[:-2]
        shape = 0.5 * (jnp.asarray(self.df)[..., None] - jnp.arange(d, dtype=dtype))
        chi = jnp.sqrt(2 * jax.random.gamma(key_diagonal, jnp.broadcast_to(shape, (*lead, d))))
        rows = math.prod(lead) * d
        noise = jax.random.normal(key_normal, (rows + k, d), dtype)
        below = jnp.tril(noise[:rows].reshape(*lead, d, d), -1)
        bartlett = below + chi[..., None] * jnp.eye(d, dtype=dtype)
        factor = matmul(cholesky(self.scale), inverse_lower(bartlett).mT)
        strength = jnp.asarray(self.strength)[:, None]
        step = matmul(factor, noise[rows:, :, None])[..., 0]
        return self.mean + step / jnp.sqrt(strength), matmul(factor, factor.mT)

    def mode(self) -> tuple[Array, Array]:
        """Mean and covariance of greatest density; a tied covariance has met `k` means."""
        k, d = self.mean.shape
        met = k if self.scale.ndim == 2 else 1
        total = jnp.asarray(self.df + d + 1 + met)
        return self.mean, self.scale / total[..., None, None]

    def log_prob(self, mean: Array, cov: Array) -> Array:
        """Log prior density by component ``(k,)``; a shared covariance is split evenly.

        The inverse Wishart's (Gelman et al. 2013, appendix A) and the normal's.
        """
        k, d = mean.shape
        factor = cholesky(cov)
        whiten = inverse_lower(factor)
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
        own = cholesky(self.scale)
        own_det = 2 * jnp.sum(jnp.log(jnp.diagonal(own, axis1=-2, axis2=-1)), axis=-1)
        trace = jnp.sum(jnp.square(matmul(whiten, own)), axis=(-2, -1))
        covariance = 0.5 * (
            self.df * own_det - (self.df + d + 1) * log_det - trace - self.df * d * math.log(2)
        ) - jax.scipy.special.multigammaln(0.5 * jnp.asarray(self.df), d)
        if cov.ndim == 2:
            covariance = covariance / k
        y = matmul(whiten, (mean - self.mean)[:, :, None])[..., 0]
        square = self.strength * jnp.sum(y * y, axis=-1)
        normal = -0.5 * (d * LOG_2PI - d * jnp.log(self.strength) + log_det + square)
        return covariance + normal


@final
@pytree
class NormalInverseGamma:
    """``var ~ IG(shape, rate)``, ``mean | var ~ N(mean, var / strength)``.

    Attributes
    ----------
    mean : (d,) array
    strength : scalar
        Rows the prior mean is worth, positive.
    shape : scalar
        Positive; the variance has a mean if above 1.
    rate : (d,) array or scalar
        ``E var = rate / (shape - 1)``: by column, or a scalar for spheres.
    """

    mean: Any
    strength: Any
    shape: Any
    rate: Any

    @classmethod
    def default(cls, spread: Array, k: int, *, sphere: bool) -> NormalInverseGamma:
        """Weak prior for centred data of these column standard deviations, see the module."""
        d = spread.shape[-1]
        rate = 0.5 * jnp.square(spread) / k ** (2.0 / d)
        return cls(
            mean=jnp.zeros_like(spread),
            strength=jnp.asarray(STRENGTH, spread.dtype),
            shape=jnp.asarray(1.5, spread.dtype),
            rate=jnp.mean(rate) if sphere else rate,
        )

    def in_units(self, shift: Any, scale: Any) -> NormalInverseGamma:
        """The prior of ``x * scale + shift`` if this is the prior of ``x``."""
        by_column = jnp.ndim(self.rate) == jnp.ndim(self.mean)
        factor = scale * scale if by_column else (scale ** (2.0 / scale.shape[0])).prod()
        return NormalInverseGamma(
            self.mean * scale + shift, self.strength, self.shape, self.rate * factor
        )

    def posterior(self, seen: Summary) -> NormalInverseGamma:
        """Posterior given rows, column by column or over all columns (Gelman et al., 3.3)."""
        strength = self.strength + seen.count
        gap = seen.mean - self.mean
        mean = self.mean + (seen.count / strength)[:, None] * gap
        between = (self.strength * seen.count / strength)[:, None] * gap * gap
        if seen.scatter.ndim == 1:
            d = seen.mean.shape[1]
            square = seen.scatter + jnp.sum(between, axis=1)
            return NormalInverseGamma(
                mean, strength, self.shape + 0.5 * d * seen.count, self.rate + 0.5 * square
            )
        return NormalInverseGamma(
            mean,
            strength,
            self.shape + 0.5 * seen.count,
            self.rate + 0.5 * (seen.scatter + between),
        )

    def draw(self, key: Key) -> tuple[Array, Array]:
        """Means ``(k, d)`` and variances ``(k, d)`` or ``(k,)`` of a posterior."""
        key_var, key_mean = jax.random.split(key)
        by_column = self.rate.ndim == 2
        shape = jnp.asarray(self.shape)
        shape = jnp.broadcast_to(shape[:, None] if by_column else shape, self.rate.shape)
        var = self.rate / jax.random.gamma(key_var, shape)
        noise = jax.random.normal(key_mean, self.mean.shape, self.mean.dtype)
        wide = var if by_column else var[:, None]
        return self.mean + noise * jnp.sqrt(wide / jnp.asarray(self.strength)[:, None]), var

    def mode(self) -> tuple[Array, Array]:
        """Mean and variance of greatest density."""
        by_column = self.rate.ndim == 2
        met = 1 if by_column else self.mean.shape[1]
        total = jnp.asarray(self.shape) + 1 + 0.5 * met
        return self.mean, self.rate / (total[:, None] if by_column else total)

    def log_prob(self, mean: Array, var: Array) -> Array:
        """Log prior density by component, ``(k,)``."""
        wide = var if var.ndim == 2 else jnp.broadcast_to(var[:, None], mean.shape)
        gap = jnp.square(mean - self.mean)
        normal = -0.5 * jnp.sum(
            LOG_2PI + jnp.log(wide / self.strength) + self.strength * gap / wide, axis=1
        )
        shape = jnp.asarray(self.shape)
        variance = (
            shape * jnp.log(self.rate)
            - jax.scipy.special.gammaln(shape)
            - (shape + 1) * jnp.log(var)
            - self.rate / var
        )
        return normal + (jnp.sum(variance, axis=1) if var.ndim == 2 else variance)
