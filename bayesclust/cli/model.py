"""From options to an estimator."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any


class Model(StrEnum):
    """Estimators the command line fits."""

    kmeans = "kmeans"
    gmm = "gmm"
    bayes = "bayes"


class Covariance(StrEnum):
    """Covariances of a Gaussian mixture."""

    full = "full"
    tied = "tied"
    diag = "diag"
    spherical = "spherical"


class Engine(StrEnum):
    """Ways to find a posterior."""

    gibbs = "gibbs"
    nuts = "nuts"
    svi = "svi"
    cavi = "cavi"


class Prior(StrEnum):
    """Priors of means and covariances."""

    conjugate = "conjugate"
    independent = "independent"
    hierarchical = "hierarchical"


class Uncertainty(StrEnum):
    """Ways to draw around a point fit."""

    bootstrap = "bootstrap"
    gibbs = "gibbs"


def compile_cache() -> None:
    """Keep compiled programs between runs; commands start often, libraries do not."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(home) / "bayesclust" / "jax")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def make(
    model: Model,
    k: int,
    covariance: Covariance,
    uncertainty: Uncertainty | None,
    draws: int | None,
    common: dict[str, Any],
) -> Any:
    """The point estimator that the options describe."""
    compile_cache()
    from bayesclust.estimators import GaussianMixture, KMeans

    settings: dict[str, Any] = {
        **common,
        "uncertainty": None if uncertainty is None else uncertainty.value,
        "num_draws": draws or 200,
    }
    if model is Model.kmeans:
        return KMeans(k, **settings)
    return GaussianMixture(k, covariance_type=covariance.value, n_init=10, **settings)


def posterior(
    k: int,
    covariance: Covariance,
    engine: Engine,
    prior: Prior,
    draws: int | None,
    chains: int | None,
    common: dict[str, Any],
) -> Any:
    """The Bayesian mixture that the options describe."""
    compile_cache()
    from bayesclust import engines
    from bayesclust.estimators import BayesianMixture

    settings: dict[str, Any] = {"num_draws": draws or 1000}
    if chains is not None:
        settings["num_chains"] = chains
    return BayesianMixture(
        k,
        family=covariance.value,
        prior=prior.value,
        engine=getattr(engines, "Gibbs" if engine is Engine.gibbs else engine.upper())(**settings),
        **common,
    )
