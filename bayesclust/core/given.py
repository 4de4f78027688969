"""Rows, weights and keys as callers give them, checked on the host before anything is built."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import traced


def checked(key: Any, X: Any, sample_weight: Any, k: int) -> tuple[np.ndarray, Any]:
    """Rows and weights as arrays.

    Parameters
    ----------
    key : PRNG key
    X : (n, d) array
    sample_weight : (n,) array or None
    k : int
        Components.

    Returns
    -------
    X : (n, d) float32 or float64 ndarray
        Whole numbers and truth values become float64.
    sample_weight : (n,) ndarray or None

    Raises
    ------
    ValueError, TypeError
        It names the argument.
    """
    if not _is_key(key):
        raise TypeError(f"key must be a random key of JAX, not {key!r}: pass jax.random.key(0)")
    check_least("k", k, 1)
    X = np.asarray(X)
    if X.dtype.kind in "biu":
        X = X.astype(np.float64)
    if X.dtype not in (np.float32, np.float64):
        raise ValueError(f"X holds {X.dtype}: give float32 or float64 numbers")
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X has shape {X.shape}: give (n, d), one row per observation")
    if not _finite(X):
        raise ValueError("X holds NaN or infinity: drop or fill those rows")
    if sample_weight is None or traced(sample_weight):
        return X, sample_weight
    weight = np.asarray(sample_weight)
    if weight.shape != X.shape[:1] or weight.dtype.kind not in "biuf":
        raise ValueError(
            f"sample_weight is {weight.dtype} {weight.shape}: give {len(X)} numbers, one per row"
        )
    if not _finite(weight) or (weight < 0).any() or not weight.any():
        raise ValueError(
            "sample_weight must be finite and not negative, and positive for some row: it counts "
            "rows"
        )
    return X, weight


def check_least(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number, or below the least one there may be."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def _finite(values: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        # The sum tells in most cases, and takes no memory.
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def _is_key(key: Any) -> bool:
    dtype = getattr(key, "dtype", None)
    if dtype is None:
        return False
    if dtype == np.uint32 or jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return True
    # K-means takes the numbers themselves, too, see `kmeans.seeding.numbers`.
    return jnp.issubdtype(dtype, np.floating) and np.ndim(key) > 0
