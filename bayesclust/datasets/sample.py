"""A sample that keeps its truth: rows, labels, parameters, and the probability of each cluster.

Letters: n rows, d features, k clusters, m new rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Parameters = dict[str, Array]


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """Rows drawn from a known mixture, together with the truth about them.

    Attributes
    ----------
    name : str
        Which generator made it.
    X : ndarray of shape (n, d)
        The rows, float64.
    labels : ndarray of shape (n,)
        The cluster each row was drawn from, 0 to k - 1.
    parameters : dict of str to ndarray
        What the rows were drawn with; the first axis counts clusters. Always `weights` (k,),
        which sum to one, `means` (k, d) and `covariances` (k, d, d); each generator says what
        else it adds.
    membership : ndarray of shape (n, k)
        True posterior probability p(z = j | x, parameters) of each cluster for each row; rows
        sum to one.
    log_prob : callable
        ``log_prob(X, parameters)``, log density of rows (m, d) under each cluster, (m, k).

    Examples
    --------
    >>> from bayesclust.datasets import make_blobs
    >>> sample = make_blobs(100, 3, seed=0)
    >>> sample
    Sample('blobs', n=100, k=3, d=2)
    >>> sample.membership_of(sample.parameters["means"]).argmax(axis=1)
    array([0, 1, 2])
    """

    name: str
    X: Array
    labels: NDArray[np.intp]
    parameters: Parameters
    membership: Array
    log_prob: Callable[[Array, Parameters], Array]

    def __repr__(self) -> str:
        """Name and sizes, without the arrays."""
        (n, d), k = self.X.shape, self.membership.shape[1]
        return f"Sample({self.name!r}, n={n}, k={k}, d={d})"

    def membership_of(self, X_new: ArrayLike) -> Array:
        """Return the true membership probabilities of any rows.

        Parameters
        ----------
        X_new : array-like of shape (m, d)
            Rows, finite.

        Returns
        -------
        ndarray of shape (m, k)
            p(z = j | x, parameters); rows sum to one.

        Raises
        ------
        ValueError
            If `X_new` is not a finite table of d columns, or has a row where the truth has no
            density (outside a board), so that no probability is defined.
        """
        return _membership(X_new, self.parameters, self.log_prob)


# Log densities of rows (m, d) under each cluster, (m, k)


def log_uniform(X: Array, parameters: Parameters) -> Array:
    """Uniform on the box [-1, 1]^d; -inf outside."""
    inside = np.abs(X).max(axis=1, keepdims=True) <= 1
    return np.where(inside, -X.shape[1] * math.log(2), -np.inf)


def log_truncated(X: Array, parameters: Parameters) -> Array:
    """Spherical normals cut off at the box [-1, 1]^d; -inf outside."""
    from scipy.special import erf

    means, spreads = parameters["means"], parameters["spreads"][:, None]
    width = math.sqrt(2) * spreads
    mass = (erf((1 + means) / width) + erf((1 - means) / width)) / 2
    log_scale = np.log(math.sqrt(2 * math.pi) * spreads * mass).sum(axis=1)
    squared, _ = _squared_distances(X, means, parameters["covariances"])
    inside = np.abs(X).max(axis=1, keepdims=True) <= 1
    return np.where(inside, -squared / 2 - log_scale, -np.inf)


def log_normal(X: Array, parameters: Parameters) -> Array:
    """Normal densities with full covariances."""
    squared, log_scale = _squared_distances(X, parameters["means"], parameters["covariances"])
    return -(squared + X.shape[1] * math.log(2 * math.pi)) / 2 - log_scale


def log_student_t(X: Array, parameters: Parameters) -> Array:
    """Multivariate t densities (Kotz and Nadarajah 2004, eq. 1.1)."""
    from scipy.special import gammaln

    df, d = parameters["df"], X.shape[1]
    squared, log_scale = _squared_distances(X, parameters["means"], parameters["scale_matrices"])
    constant = gammaln((df + d) / 2) - gammaln(df / 2) - d * np.log(math.pi * df) / 2
    return constant - log_scale - (df + d) / 2 * np.log1p(squared / df)


def _squared_distances(X: Array, means: Array, matrices: Array) -> tuple[Array, Array]:
    """Squared Mahalanobis distances (m, k) and half log determinants (k,)."""
    from scipy.linalg import solve_triangular

    lower = np.linalg.cholesky(matrices)
    columns = [
        np.square(solve_triangular(half, (X - mean).T, lower=True)).sum(axis=0)
        for half, mean in zip(lower, means, strict=True)
    ]
    return np.stack(columns, axis=1), np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)


def _membership(
    X: ArrayLike, parameters: Parameters, log_prob: Callable[[Array, Parameters], Array]
) -> Array:
    X = np.asarray(X, dtype=np.float64)
    d = parameters["means"].shape[1]
    if X.ndim != 2 or X.shape[1] != d:
        raise ValueError(f"X_new has shape {X.shape}; pass rows of {d} features, shape (m, {d})")
    if not np.isfinite(X).all():
        raise ValueError("X_new has missing or infinite cells; drop those rows")
    with np.errstate(divide="ignore"):  # a weight of zero is a cluster that is not there
        log_joint = np.log(parameters["weights"]) + log_prob(X, parameters)
    top = log_joint.max(axis=1, keepdims=True)
    if np.isneginf(top).any():
        raise ValueError("X_new has rows where the truth has no density; drop those rows")
    joint = np.exp(log_joint - top)
    return joint / joint.sum(axis=1, keepdims=True)


def sample(
    name: str,
    X: Array,
    labels: NDArray[np.intp],
    parameters: Parameters,
    log_prob: Callable[[Array, Parameters], Array],
) -> Sample:
    """The sample with its true membership probabilities."""
    return Sample(name, X, labels, parameters, _membership(X, parameters, log_prob), log_prob)
