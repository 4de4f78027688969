"""Precisions of Gaussian components, shaped and factored as in scikit-learn."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

SPREAD = {"full": "cov", "tied": "cov", "diag": "var", "spherical": "var"}
"""Name of the family's parameter that a precision inverts."""


def inverted(precision: np.ndarray, kind: str) -> np.ndarray:
    """Invert precisions that a user gave; a ValueError if they are none.

    Parameters
    ----------
    precision : ndarray
        (k, d, d), (d, d), (k, d) or (k,), by `kind`.
    kind : {"full", "tied", "diag", "spherical"}
    """
    if SPREAD[kind] == "var":
        if (precision <= 0).any():
            raise ValueError("precisions_init must be positive")
        return 1.0 / precision
    eigenvalues = np.linalg.eigvalsh(precision)
    least = 1e-8 * np.abs(precision).max()
    even = np.allclose(precision, np.swapaxes(precision, -1, -2), atol=least)
    if not even or (eigenvalues <= 0).any():
        raise ValueError("precisions_init must be symmetric and positive definite")
    return np.linalg.inv(precision)


def precisions_cholesky(covariance: np.ndarray, kind: str) -> np.ndarray:
    """Factor ``P`` with ``P P^T`` the precision; upper triangular, as in scikit-learn."""
    if SPREAD[kind] == "var":
        return 1.0 / np.sqrt(covariance)
    d = covariance.shape[-1]

    def factor(cov: np.ndarray) -> np.ndarray:
        return solve_triangular(np.linalg.cholesky(cov), np.eye(d), lower=True).T

    return factor(covariance) if kind == "tied" else np.stack([factor(c) for c in covariance])


def precisions(chol: np.ndarray, kind: str) -> np.ndarray:
    """Multiply the factors of `precisions_cholesky` out."""
    return chol**2 if SPREAD[kind] == "var" else chol @ np.swapaxes(chol, -1, -2)
