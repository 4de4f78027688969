"""What the Gaussian families share: constants, the floor on spreads, tails, means."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from bayesclust._typing import Array

LOG_2PI = math.log(2 * math.pi)


def chi2_tail(score: Array, peak: Array, d: int) -> Array:
    """P(chi2_d >= squared Mahalanobis distance), the latter read off a Gaussian log density.

    Parameters
    ----------
    score : (k, b) array
        Log densities.
    peak : (k,) array
        Log densities at the means.
    d : int
    """
    half = jnp.maximum(peak[:, None] - score, 0)
    return jax.scipy.special.gammaincc(jnp.asarray(d / 2, half.dtype), half)


def safe_counts(counts: Array) -> tuple[Array, Array]:
    """Counts to divide by, and which components have any mass at all."""
    alive = counts > 10 * jnp.finfo(counts.dtype).tiny
    return jnp.where(alive, counts, 1), alive


def keep(alive: Array, new: Array, old: Array) -> Array:
    """New parameters where a component has mass, else the old ones."""
    return jnp.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def mostly_floor(whiten: Array, floor: Array) -> Array:
    """Whether the variance in some direction is mostly floor, by covariance.

    Parameters
    ----------
    whiten : (.., d, d) array
        Inverse Cholesky factors of covariances, the floor included.
    floor : (d,) array

    Notes
    -----
    In units of the floor all eigenvalues are at least one. The sum of their reciprocals is the
    trace of ``floor cov^{-1}``, which is at least 1/2 if an eigenvalue is at most two.
    """
    return jnp.sum(jnp.square(whiten) * floor, axis=(-2, -1)) >= 0.5
