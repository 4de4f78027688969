"""Hyperpriors: what may stand in the place of a hyperparameter that is to be learnt.

References
----------
M. S. Bartlett (1933), On the theory of statistical regression, Proc. R. Soc. Edinburgh 53, 260-283:
    the triangular factor of a Wishart matrix.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key
from bayesclust.core.gamma import gamma
from bayesclust.core.linalg import cholesky, diagonal, inverse_lower, matmul
from bayesclust.core.random import normal


def check_hyperparameters(owner: Any, size: int) -> None:
    """Refuse hyperparameters of a wrong shape, sign or kind; None and traced ones pass.

    Parameters
    ----------
    owner : object
        Of a dataclass its fields are looked at, and those of hyperpriors among them. A field
        `mean` is any number, `df` is that of a matrix if there is one, all others are positive.
    size : int
        Length of every axis of an array.

    Raises
    ------
    ValueError
        It names the field and the class.
    """
    if not dataclasses.is_dataclass(owner):
        return
    fields = {f.name: getattr(owner, f.name) for f in dataclasses.fields(owner)}
    least = size - 1 if {"scale"} & fields.keys() else 0
    for name, value in fields.items():
        if dataclasses.is_dataclass(value):
            check_hyperparameters(value, size)
        elif value is not None and not isinstance(value, jax.core.Tracer):
            wrong = _what_is_wrong(name, np.asarray(value, np.float64), size, least)
            if wrong:
                raise ValueError(f"{name} of {type(owner).__name__} {wrong}")


def _what_is_wrong(name: str, value: np.ndarray, size: int, least: int) -> str:
    if value.ndim > 2 or any(axis != size for axis in value.shape):
        return f"has shape {value.shape}: its axes must have length {size}"
    if not np.isfinite(value).all():
        return "holds NaN or infinity: give finite numbers"
    if name == "mean":
        return ""
    if value.ndim == 2:
        sure = np.allclose(value, value.T) and np.linalg.eigvalsh(value).min() > 0
        return "" if sure else "must be symmetric and positive definite"
    bound = least if name == "df" else 0
    return "" if (value > bound).all() else f"must be above {bound}"


@final
@pytree
class Gamma:
    """Gamma distribution of positive numbers.

    Attributes
    ----------
    shape, rate : scalars or arrays
        Mean ``shape / rate``. Inside a prior of components, None is set for the data.
    """

    shape: Any = None
    rate: Any = None

    @property
    def mean(self) -> Any:
        """Its mean."""
        return self.shape / self.rate

    def log_prob(self, x: Array) -> Array:
        """Log density, with its constant."""
        a, b = jnp.asarray(self.shape), jnp.asarray(self.rate)
        return a * jnp.log(b) - jax.scipy.special.gammaln(a) + (a - 1) * jnp.log(x) - b * x

    def draw(self, key: Key, dtype: Any) -> Array:
        """One draw, of the shape of the parameters."""
        shape = jnp.broadcast_shapes(jnp.shape(self.shape), jnp.shape(self.rate))
        a = jnp.broadcast_to(jnp.asarray(self.shape, dtype), shape)
        return gamma(key, a) / self.rate


@final
@pytree
class Wishart:
    """Wishart distribution of positive definite matrices.

    Attributes
    ----------
    df : scalar
        Degrees of freedom, above ``d - 1``.
    scale : (d, d) array
        Positive definite; mean ``df * scale``. Inside a prior, None is set for the data.
    """

    df: Any = None
    scale: Any = None

    @property
    def mean(self) -> Any:
        """Its mean."""
        return self.df * self.scale

    def log_prob(self, x: Array) -> Array:
        """Log density of ``(d, d)``, with its constant (Gelman et al. 2013, appendix A)."""
        d = x.shape[-1]
        df = jnp.asarray(self.df)
        own = cholesky(jnp.asarray(self.scale))
        ratio = matmul(inverse_lower(own), cholesky(x))
        half_det = jnp.sum(jnp.log(diagonal(own)), axis=-1)
        return (
            (df - d - 1) * half_log_det(x)
            - 0.5 * jnp.sum(ratio * ratio, axis=(-2, -1))
            - 0.5 * df * d * math.log(2)
            - df * half_det
            - jax.scipy.special.multigammaln(0.5 * df, d)
        )

    def draw(self, key: Key, dtype: Any) -> Array:
        """One draw ``(d, d)``."""
        d = jnp.shape(self.scale)[-1]
        factor = matmul(cholesky(jnp.asarray(self.scale)), bartlett(key, self.df, (), d, dtype))
        return matmul(factor, factor.T)


def half_log_det(a: Array) -> Array:
    """Half the log determinant of positive definite matrices."""
    return jnp.sum(jnp.log(diagonal(cholesky(a))), axis=-1)


def bartlett(key: Key, df: Any, lead: tuple[int, ...], d: int, dtype: Any) -> Array:
    """Lower triangular ``A (*lead, d, d)`` with ``A A^T`` standard Wishart (Bartlett 1933).

    Parameters
    ----------
    key : PRNG key
    df : scalar or array
        Degrees of freedom, of shape `lead` or less.
    lead : tuple of int
    d : int
    dtype : dtype
    """
    key_diagonal, key_below = jax.random.split(key)
    shape = 0.5 * (jnp.asarray(df, dtype)[..., None] - jnp.arange(d, dtype=dtype))
    chi = jnp.sqrt(2 * gamma(key_diagonal, jnp.broadcast_to(shape, (*lead, d))))
    below = jnp.tril(normal(key_below, (*lead, d, d), dtype), -1)
    return below + chi[..., None] * jnp.eye(d, dtype=dtype)


def inverse_wishart(key: Key, df: Any, scale: Array) -> tuple[Array, Array]:
    """Draws of ``IW(df, scale)`` and a square root ``F`` of each: ``F F^T``."""
    d = scale.shape[-1]
    root = bartlett(key, df, scale.shape[:-2], d, scale.dtype)
    factor = matmul(cholesky(scale), inverse_lower(root).mT)
    return matmul(factor, factor.mT), factor
