"""The only table of strings: what names in estimator parameters stand for."""

from __future__ import annotations

from typing import Any

from bayesclust.engines.bootstrap import Bootstrap
from bayesclust.engines.starts import KMeansStart, RandomResponsibilities, SeededStart
from bayesclust.families import (
    DiagonalGaussian,
    FullGaussian,
    Gamma,
    IndependentNormalGamma,
    IndependentNormalWishart,
    NormalInverseGamma,
    NormalInverseWishart,
    SphericalGaussian,
    TiedGaussian,
    Wishart,
)
from bayesclust.kmeans.seeding import greedy, random_rows
from bayesclust.posterior.relabel import METHODS
from bayesclust.weights.dirichlet import Dirichlet

SEEDINGS: dict[str, Any] = {"k-means++": greedy, "random": random_rows}

COVARIANCES: dict[str, Any] = {
    "full": FullGaussian,
    "tied": TiedGaussian,
    "diag": DiagonalGaussian,
    "spherical": SphericalGaussian,
}

STARTS: dict[str, Any] = {
    "kmeans": KMeansStart(),
    "k-means++": SeededStart(greedy),
    "random_from_data": SeededStart(random_rows),
    "random": RandomResponsibilities(),
}

UNCERTAINTIES: dict[str, Any] = {"bootstrap": Bootstrap}


def _partition_gibbs(base: Any, num_draws: int) -> Any:
    from bayesclust.engines.partition_gibbs import PartitionGibbs

    return PartitionGibbs(base.shape, base.rate, num_draws=num_draws)


HARD_UNCERTAINTIES: dict[str, Any] = {**UNCERTAINTIES, "gibbs": _partition_gibbs}

PRIORS: dict[str, Any] = {
    "conjugate": {
        name: NormalInverseWishart() if name in ("full", "tied") else NormalInverseGamma()
        for name in COVARIANCES
    },
    "independent": {
        name: IndependentNormalWishart() if name in ("full", "tied") else IndependentNormalGamma()
        for name in COVARIANCES
    },
    "hierarchical": {
        name: IndependentNormalWishart(scale=Wishart())
        if name in ("full", "tied")
        else IndependentNormalGamma(rate=Gamma())
        for name in COVARIANCES
    },
}

FAMILIES: dict[str, Any] = {**COVARIANCES, "gaussian": FullGaussian}

WEIGHTS: dict[str, Any] = {"dirichlet": Dirichlet()}

ENGINES: dict[str, str] = {
    "gibbs": "bayesclust.engines.gibbs:Gibbs",
    "nuts": "bayesclust.engines.nuts:NUTS",
    "svi": "bayesclust.engines.svi:SVI",
    "cavi": "bayesclust.engines.cavi:CAVI",
}
"""Where they are: each is loaded when it is first asked for."""


def covariance_of(family: Any) -> str:
    """Name of a family's covariances."""
    return next(name for name, kind in COVARIANCES.items() if type(family) is kind)


ALIGNMENTS: dict[str, Any] = METHODS


def check_prior(prior: Any, covariance: str) -> None:
    """Refuse a prior that is none of a family's; a ValueError."""
    if type(prior) not in {type(group[covariance]) for group in PRIORS.values()}:
        raise ValueError(f"{type(prior).__name__} is no prior of {covariance} covariances")


def look_up(table: dict[str, Any], name: Any, parameter: str) -> Any:
    """What a name stands for; a ValueError that lists the names if it is none of them."""
    try:
        return table[name]
    except (KeyError, TypeError):
        raise ValueError(
            f"{parameter}={name!r} is not known: give one of {sorted(table)}"
        ) from None
