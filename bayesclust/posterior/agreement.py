"""Memberships of a few rows under many draws, compared on the device, a few draws at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._typing import Array
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.chunks import refuse_overflow
from bayesclust.core.fork import refuse_forked
from bayesclust.core.linalg import matmul
from bayesclust.mixture import Mixture
from bayesclust.posterior.membership import Model

TOGETHER = 16
"""Draws whose memberships are held at the same time."""


def inward(model: Model, X: np.ndarray) -> np.ndarray:
    """Rows in the units and the precision of a model."""
    refuse_forked()
    with np.errstate(over="ignore", invalid="ignore"):
        return model.units.inward(X.astype(model.dtype, copy=False))


def agreements(model: Model, reference: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum over rows of a reference times the memberships of each draw.

    With memberships as the reference this is how much of the rows' mass two components share;
    with their logarithms, minus the cross entropy.

    Parameters
    ----------
    model : Model
        Of `s` draws.
    reference : (m, k) ndarray
    x : (m, d) ndarray
        In the model's units, see `inward`.

    Returns
    -------
    (s, k, k) ndarray
        Components of the reference first.
    """
    with arithmetic(model.dtype == np.float64):
        found = _agreements(
            model.mixture, model.params, model.log_weights, reference.astype(model.dtype), x
        )
        return np.asarray(found)


def mean_membership(
    model: Model, x: np.ndarray, permutation: np.ndarray | None = None
) -> np.ndarray:
    """Membership of each row averaged over relabelled draws, ``(m, k)``.

    Parameters
    ----------
    model, x
        As for `agreements`.
    permutation : (s, k) int ndarray, optional
        Component of each draw at each place.
    """
    if permutation is None:
        permutation = np.broadcast_to(np.arange(model.mixture.k), model.log_weights.shape)
    with arithmetic(model.dtype == np.float64):
        found = np.asarray(_mean(model.mixture, model.params, model.log_weights, permutation, x))
    rows = model.units.unscaled(model.units.outward(x))
    refuse_overflow(~np.isnan(found).any(axis=1), rows, model.units, model.dtype)
    return found


@jax.jit
def _agreements(
    mixture: Mixture, params: Any, log_weights: Array, reference: Array, x: Array
) -> Array:
    def one(draw: Any) -> Array:
        return matmul(reference.T, mixture.responsibilities(*draw, x))

    return lax.map(one, (params, log_weights), batch_size=TOGETHER)


@jax.jit
def _mean(mixture: Mixture, params: Any, log_weights: Array, permutation: Array, x: Array) -> Array:
    def add(total: Array, draw: Any) -> tuple[Array, None]:
        *parameters, order = draw
        return total + mixture.responsibilities(*parameters, x)[:, order], None

    zero = jnp.zeros((x.shape[0], mixture.k), x.dtype)
    total, _ = lax.scan(add, zero, (params, log_weights, permutation))
    return total / log_weights.shape[0]
