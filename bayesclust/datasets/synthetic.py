"""Generators of clustered data that keep their truth.

Each returns a `Sample`: the rows, the cluster each row came from, the parameters it was drawn
with, and the true probability p(z = j | x, truth) of each cluster, for its own rows and for any
others. Parameters are drawn before rows, so one seed gives the same clusters for every `n`.

Letters: n rows, d features, k clusters, m new rows.
"""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesclust.datasets.sample import (
    Array,
    Sample,
    log_normal,
    log_student_t,
    log_truncated,
    log_uniform,
    sample,
)

__all__ = [
    "Sample",
    "make_anisotropic",
    "make_blobs",
    "make_gaussian_board",
    "make_student_t",
    "make_uniform_board",
]

Seed = int | np.random.Generator | None


def make_uniform_board(n: int, d: int = 2, *, seed: Seed = None) -> Sample:
    """Rows uniform on the box [-1, 1]^d: no clusters at all, one if any.

    Parameters
    ----------
    n, d : int
        Numbers of rows and of features, at least 1.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same integer gives the same sample.

    Returns
    -------
    Sample
        With k = 1: labels are all 0 and membership is a column of ones.

    Raises
    ------
    ValueError
        If `n` or `d` is below 1.

    Examples
    --------
    >>> from bayesclust.datasets import make_uniform_board
    >>> make_uniform_board(50, seed=0).membership.shape
    (50, 1)
    """
    n, d = _count("n", n), _count("d", d)
    X = np.random.default_rng(seed).uniform(-1.0, 1.0, (n, d))
    parameters = {
        "weights": np.ones(1),
        "means": np.zeros((1, d)),
        "covariances": np.eye(d)[None] / 3,
    }
    return sample("uniform_board", X, np.zeros(n, np.intp), parameters, log_uniform)


def make_gaussian_board(
    n: int,
    k: int,
    d: int = 2,
    *,
    spread: tuple[float, float] = (0.05, 0.5),
    seed: Seed = None,
) -> Sample:
    """Spherical clusters of random size on a board, with no row outside the box (-1, 1)^d.

    Centres are uniform on the box, each cluster has one standard deviation uniform in `spread`,
    and rows are normal given that they fall inside the box. Clusters may overlap as they please.

    Parameters
    ----------
    n, k, d : int
        Numbers of rows, clusters and features, at least 1; k at most n. Cluster sizes are n / k,
        the first n % k clusters having one row more; rows come in random order.
    spread : pair of float, default (0.05, 0.5)
        Smallest and largest standard deviation, positive, in units of half the box.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same integer gives the same sample.

    Returns
    -------
    Sample
        `weights` are the shares of the rows, `means`, `covariances` and the additional `spreads`
        (k,) describe the normals before they are cut off at the box; membership is that of the
        normals cut off.

    Raises
    ------
    ValueError
        If a count is below 1, k exceeds n, or `spread` is not positive and ascending.

    Examples
    --------
    >>> from bayesclust.datasets import make_gaussian_board
    >>> sample = make_gaussian_board(200, 3, seed=0)
    >>> bool(abs(sample.X).max() < 1)
    True
    """
    from scipy.special import erf, erfinv

    n, k, d = _count("n", n), _count("k", k), _count("d", d)
    if k > n:
        raise ValueError(
            f"k={k} clusters need a row each and n={n}; pass a smaller k or a larger n"
        )
    low, high = _spread(spread)
    rng = np.random.default_rng(seed)
    means = rng.uniform(-1.0, 1.0, (k, d))
    spreads = rng.uniform(low, high, k)
    labels = rng.permutation(np.arange(n) % k)

    # Inverse cdf about the centre, which lies inside the box: no tail, no difference of near ones.
    centre, width = means[labels], math.sqrt(2) * spreads[labels, None]
    left, right = erf((1 + centre) / width), erf((1 - centre) / width)
    X = centre + width * erfinv(rng.random((n, d)) * (left + right) - left)
    edge = np.nextafter(1.0, 0.0)

    parameters = {
        "weights": np.bincount(labels, minlength=k) / n,
        "means": means,
        "covariances": spreads[:, None, None] ** 2 * np.eye(d),
        "spreads": spreads,
    }
    return sample("gaussian_board", X.clip(-edge, edge), labels, parameters, log_truncated)


def make_blobs(
    n: int,
    k: int,
    d: int = 2,
    *,
    separation: float = 4.0,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    seed: Seed = None,
) -> Sample:
    """Round Gaussian clusters of one size, the closest two a known distance apart.

    Parameters
    ----------
    n, k, d : int
        Numbers of rows, clusters and features, at least 1. Labels are drawn from `weights`, so a
        cluster may be left without rows.
    separation : float, default 4.0
        Smallest distance between two centres, in standard deviations, positive.
    weights : array-like of shape (k,), optional
        Probabilities of the clusters, summing to one; equal by default.
    scale : float, default 1.0
        Standard deviation of each cluster along each axis, positive.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same integer gives the same sample.

    Returns
    -------
    Sample
        `covariances` are ``scale**2`` times the identity.

    Raises
    ------
    ValueError
        If an argument is outside the range stated above.

    Examples
    --------
    >>> import numpy as np
    >>> from bayesclust.datasets import make_blobs
    >>> means = make_blobs(100, 2, separation=5.0, seed=0).parameters["means"]
    >>> round(float(np.linalg.norm(means[0] - means[1])), 6)
    5.0
    """
    n, k, d = _count("n", n), _count("k", k), _count("d", d)
    weights, scale = _weights(weights, k), _positive("scale", scale)
    rng = np.random.default_rng(seed)
    parameters = {
        "weights": weights,
        "means": _centres(rng, k, d, scale * _positive("separation", separation)),
        "covariances": np.tile(scale**2 * np.eye(d), (k, 1, 1)),
    }
    labels = rng.choice(k, n, p=weights)
    X = _place(rng.standard_normal((n, d)), labels, parameters["means"], parameters["covariances"])
    return sample("blobs", X, labels, parameters, log_normal)


def make_anisotropic(
    n: int,
    k: int,
    d: int = 2,
    *,
    separation: float = 4.0,
    condition: float = 10.0,
    weights: ArrayLike | None = None,
    seed: Seed = None,
) -> Sample:
    """Gaussian clusters, each stretched in random directions of its own.

    Parameters
    ----------
    n, k, d : int
        Numbers of rows, clusters and features, at least 1. Labels are drawn from `weights`, so a
        cluster may be left without rows.
    separation : float, default 4.0
        Smallest distance between two centres, in standard deviations along the longest axis
        (which is 1), positive.
    condition : float, default 10.0
        Largest over smallest eigenvalue of each covariance, 1 to 1e12. The largest is 1, the
        others lie between, log-uniformly. Without effect for one feature.
    weights : array-like of shape (k,), optional
        Probabilities of the clusters, summing to one; equal by default.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same integer gives the same sample.

    Returns
    -------
    Sample
        `covariances` are full matrices.

    Raises
    ------
    ValueError
        If an argument is outside the range stated above.

    Examples
    --------
    >>> import numpy as np
    >>> from bayesclust.datasets import make_anisotropic
    >>> sample = make_anisotropic(100, 3, condition=25.0, seed=0)
    >>> np.linalg.cond(sample.parameters["covariances"]).round(6)
    array([25., 25., 25.])
    """
    n, k, d = _count("n", n), _count("k", k), _count("d", d)
    condition = _positive("condition", condition)
    if not 1 <= condition <= 1e12:
        raise ValueError(
            f"condition must lie between 1 (round) and 1e12, got {condition!r}; pass it as "
            "largest over smallest eigenvalue"
        )
    weights = _weights(weights, k)
    rng = np.random.default_rng(seed)
    means = _centres(rng, k, d, _positive("separation", separation))

    share = rng.random((k, d))
    share[:, -1], share[:, 0] = 1.0, 0.0
    turn, upper = np.linalg.qr(rng.standard_normal((k, d, d)))
    turn = turn * np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None, :]  # uniform rotations
    covariances = (turn * condition ** -share[:, None, :]) @ turn.swapaxes(1, 2)
    covariances = (covariances + covariances.swapaxes(1, 2)) / 2

    parameters = {"weights": weights, "means": means, "covariances": covariances}
    labels = rng.choice(k, n, p=weights)
    X = _place(rng.standard_normal((n, d)), labels, means, covariances)
    return sample("anisotropic", X, labels, parameters, log_normal)


def make_student_t(
    n: int,
    k: int,
    d: int = 2,
    *,
    df: float = 4.0,
    separation: float = 6.0,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    seed: Seed = None,
) -> Sample:
    """Round clusters with heavy tails: multivariate Student t.

    Parameters
    ----------
    n, k, d : int
        Numbers of rows, clusters and features, at least 1. Labels are drawn from `weights`, so a
        cluster may be left without rows.
    df : float, default 4.0
        Degrees of freedom, positive; the smaller, the heavier the tails.
    separation : float, default 6.0
        Smallest distance between two centres, in units of `scale`, positive.
    weights : array-like of shape (k,), optional
        Probabilities of the clusters, summing to one; equal by default.
    scale : float, default 1.0
        Scale of each cluster along each axis, positive. The standard deviation is larger by
        ``sqrt(df / (df - 2))``.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same integer gives the same sample.

    Returns
    -------
    Sample
        `means` are the centres (for ``df <= 1`` no mean exists), `covariances` are NaN for
        ``df <= 2``, where none exists. Additional: `scale_matrices` (k, d, d) and `df` (k,).

    Raises
    ------
    ValueError
        If an argument is outside the range stated above, or `df` is so small that rows overflow.

    Examples
    --------
    >>> from bayesclust.datasets import make_student_t
    >>> sample = make_student_t(100, 3, df=3.0, seed=0)
    >>> sample.parameters["df"]
    array([3., 3., 3.])
    """
    n, k, d = _count("n", n), _count("k", k), _count("d", d)
    df, scale = _positive("df", df), _positive("scale", scale)
    weights = _weights(weights, k)
    rng = np.random.default_rng(seed)
    scale_matrices = np.tile(scale**2 * np.eye(d), (k, 1, 1))
    parameters = {
        "weights": weights,
        "means": _centres(rng, k, d, scale * _positive("separation", separation)),
        "covariances": scale_matrices * (df / (df - 2) if df > 2 else np.nan),
        "scale_matrices": scale_matrices,
        "df": np.full(k, df),
    }
    labels = rng.choice(k, n, p=weights)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        noise = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(df, (n, 1)) / df)
        if not np.abs(noise).max() < 1e100:
            raise ValueError(f"df={df!r} gives tails that overflow; pass df of 0.1 or more")
    X = _place(noise, labels, parameters["means"], scale_matrices)
    return sample("student_t", X, labels, parameters, log_student_t)


# Parts of the draws


def _centres(rng: np.random.Generator, k: int, d: int, distance: float) -> Array:
    """Random centres (k, d) about the origin, the closest two exactly `distance` apart.

    Each is the most remote of ten candidates: plain random centres would leave two of them by
    chance very close, hence all others, after rescaling, very far away.
    """
    centres = rng.uniform(-1.0, 1.0, (k, d))
    smallest = np.inf
    for j in range(1, k):
        candidates = rng.uniform(-1.0, 1.0, (10, d))
        gaps = np.linalg.norm(candidates[:, None] - centres[:j], axis=2).min(axis=1)
        centres[j] = candidates[gaps.argmax()]
        smallest = min(smallest, gaps.max())
    return (centres - centres.mean(axis=0)) * (distance / smallest if k > 1 else 1.0)


def _place(noise: Array, labels: NDArray[np.intp], means: Array, matrices: Array) -> Array:
    """Stretch standard noise (n, d) and move it to where its cluster is."""
    X = np.empty_like(noise)
    for j, half in enumerate(np.linalg.cholesky(matrices)):
        rows = labels == j
        X[rows] = means[j] + noise[rows] @ half.T
    return X


# Arguments


def _count(name: str, value: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}; pass int({name})") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}; pass a positive integer")
    return count


def _positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be finite and above zero, got {value!r}; pass a larger one")
    return float(value)


def _spread(spread: tuple[float, float]) -> tuple[float, float]:
    if np.shape(spread) != (2,) or not (0 < spread[0] <= spread[1] < math.inf):
        raise ValueError(
            f"spread must be (smallest, largest) with 0 < smallest <= largest, got {spread!r}; "
            "pass it in ascending order"
        )
    return float(spread[0]), float(spread[1])


def _weights(weights: ArrayLike | None, k: int) -> Array:
    if weights is None:
        return np.full(k, 1 / k)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (k,):
        raise ValueError(f"weights has shape {array.shape}; pass one for each cluster, ({k},)")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError("weights has negative or missing values; pass probabilities")
    if abs(array.sum() - 1) > 1e-6:
        raise ValueError(f"weights sums to {array.sum():g}, not to one; divide it by its sum")
    return array / array.sum()
