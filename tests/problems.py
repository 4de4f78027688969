"""Small problems that many tests share, so that shapes, and compiled programs, repeat."""

import jax
import numpy as np
import pytest

from bayesclust.core.rows import pack_host
from bayesclust.core.units import Units
from bayesclust.engines.em import EMState, EMStep
from bayesclust.families import DiagonalGaussian, FullGaussian, SphericalGaussian, TiedGaussian
from bayesclust.kmeans.lloyd import KMeansState, LloydStep, total_square
from bayesclust.mixture import Mixture

FAMILIES = {
    "full": FullGaussian,
    "tied": TiedGaussian,
    "diag": DiagonalGaussian,
    "spherical": SphericalGaussian,
}
ALGORITHMS = ["kmeans", "kmeans-direct", *FAMILIES]
KEY = jax.random.key(0)


def slowly(names, quick):
    """Names as parameters; all but the quick ones belong to the long proofs, ``-m slow``."""
    return [
        pytest.param(*(n if isinstance(n, tuple) else (n,)), marks=[pytest.mark.slow][n in quick :])
        for n in names
    ]


def blobs(n, d=2, k=3, *, seed=0, separation=6.0, dtype="float64"):
    """Rows ``(n, d)`` around `k` random centres, with their components ``(n,)``."""
    rng = np.random.default_rng(seed)
    centers = separation * rng.normal(size=(k, d))
    z = np.arange(n) % k
    return (centers[z] + rng.normal(size=(n, d))).astype(dtype), z


def plain(d):
    """Units in which a fit works on the data as they are."""
    return Units(np.zeros(d), np.ones(d))


def packed(X, weight=None, block=64):
    """Rows in blocks, unshifted."""
    d = X.shape[1]
    return pack_host(X, weight, shift=np.zeros(d), scale=np.ones(d), block=block)


def random_params(name, k, d, *, seed=0, dtype="float64"):
    """Parameters of a Gaussian family by name: means apart, spreads of all shapes."""
    rng = np.random.default_rng(seed)
    mean = 3 * rng.normal(size=(k, d))
    factor = rng.normal(size=(k, d, d)) / np.sqrt(d)
    cov = factor @ factor.swapaxes(1, 2) + 0.3 * np.eye(d)
    spread = {
        "full": {"cov": cov},
        "tied": {"cov": cov[0]},
        "diag": {"var": np.diagonal(cov, axis1=1, axis2=2)},
        "spherical": {"var": cov[:, 0, 0]},
    }[name]
    return {name: np.array(v, dtype) for name, v in {"mean": mean, **spread}.items()}


def covariances(name, params, k, d):
    """Covariance ``(k, d, d)`` of every component."""
    if name == "full":
        return np.asarray(params["cov"])
    if name == "tied":
        return np.broadcast_to(params["cov"], (k, d, d))
    var = np.asarray(params["var"])
    return (var[..., None] if name == "diag" else var[:, None, None]) * np.eye(d)


def algorithm_at(name, rows, *, k=3, trace_length=0, tol=0.0):
    """An algorithm by name, and a state on the way."""
    d, dtype = rows.n_features, rows.dtype
    tol = np.asarray(tol, dtype)
    if name.startswith("kmeans"):
        centers = random_params("full", k, d, dtype=dtype)["mean"]
        algorithm = LloydStep(tol, total_square(rows), name == "kmeans-direct")
        return algorithm, KMeansState.start(jax.numpy.asarray(centers), trace_length)
    mixture = Mixture(FAMILIES[name](), k)
    params = jax.tree.map(jax.numpy.asarray, random_params(name, k, d, dtype=dtype))
    log_weights = jax.numpy.log(jax.numpy.arange(1.0, k + 1, dtype=dtype) * 2 / (k * (k + 1)))
    weight = jax.numpy.sum(rows.weight)
    algorithm = EMStep(mixture, mixture.family.constants(rows), weight, tol)
    return algorithm, EMState.start(params, log_weights, trace_length)


def assert_close(actual, expected, tol):
    """Two pytrees agree up to `tol` of the largest entry of each leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        e = np.asarray(e, np.float64)
        size = np.max(np.abs(e), where=np.isfinite(e), initial=1e-30)
        np.testing.assert_allclose(np.asarray(a, np.float64), e, rtol=0, atol=tol * size)
