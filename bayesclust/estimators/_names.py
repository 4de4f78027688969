"""The only table of strings: what names in estimator parameters stand for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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


_SHORT_CHAINS = "it is the engine's: engine=Gibbs({0}=..) or engine=NUTS({0}=..)"
_OF_MINI_BATCHES = "it belongs to MiniBatchKMeans"
_OF_THE_PRIOR = "it is the prior's: family=FullGaussian(prior=NormalInverseWishart({0}=..))"
_WEIGHT_PRIOR = "use weights=Dirichlet(concentration)"

SKLEARN_PRIORS = (
    "weight_concentration_prior_type",
    "mean_prior",
    "mean_precision_prior",
    "degrees_of_freedom_prior",
    "covariance_prior",
)

ADVICE: dict[str, dict[str, str]] = {
    "Clusterer": {
        "n_jobs": "leave it out; all cores that the process may use are used",
        "copy_x": "leave it out; X is never changed",
        "k": "use {k}",
        "n_clusters": "use {k}",
        "n_components": "use {k}",
        "seed": "use random_state",
        "key": "use random_state",
        "rng": "use random_state",
        "sample_weight": "give it to fit",
        "X": "give it to fit",
        "dtype": "leave it out; it follows X, e.g. X.astype(np.float32)",
        "scale": "use standardize=True",
        "normalize": "use standardize=True",
        "verbose_interval": "leave it out; verbose=1 prints what there is",
        "progress": "use verbose=1",
    },
    "KMeans": {
        "algorithm": "leave it out; Lloyd's algorithm gives what 'lloyd' and 'elkan' give",
        "precompute_distances": "leave it out; nothing is precomputed",
        "init_params": "use init",
        "batch_size": _OF_MINI_BATCHES,
        "max_no_improvement": _OF_MINI_BATCHES,
        "reassignment_ratio": _OF_MINI_BATCHES,
        "compute_labels": _OF_MINI_BATCHES,
        "init_size": "use seeding_rows",
        "warm_start": "give init=km.cluster_centers_",
        "covariance_type": "it belongs to GaussianMixture",
        "num_chains": "leave it out; uncertainty='gibbs' runs four",
    },
    "MiniBatchKMeans": {
        "compute_labels": "leave it out; labels_ are always there",
        "init_size": "leave it out; seeding reads three batches, so raise batch_size",
        "seeding_rows": "leave it out; seeding reads three batches, so raise batch_size",
        "history": "it belongs to KMeans",
    },
    "GaussianMixture": {
        "init": "use init_params for a kind of start, means_init for means",
        "family": "use covariance_type",
        "covariance": "use covariance_type",
        "weight_concentration_prior": "use weight_concentration, or BayesianMixture",
        **dict.fromkeys(SKLEARN_PRIORS, "it belongs to BayesianMixture"),
        "prior": "it belongs to BayesianMixture",
        "engine": "it belongs to BayesianMixture",
    },
    "BayesianMixture": {
        "covariance_type": "use family='full', 'tied', 'diag' or 'spherical'",
        "weight_concentration": _WEIGHT_PRIOR,
        "weight_concentration_prior": _WEIGHT_PRIOR,
        "weight_concentration_prior_type": "use weights; 'dirichlet' is over n_components",
        "mean_prior": _OF_THE_PRIOR.format("mean"),
        "mean_precision_prior": _OF_THE_PRIOR.format("strength"),
        "degrees_of_freedom_prior": _OF_THE_PRIOR.format("df"),
        "covariance_prior": _OF_THE_PRIOR.format("scale"),
        "reg_covar": "leave it out; the prior keeps covariances away from zero",
        "uncertainty": "leave it out; there is always a posterior",
        "n_init": "use num_chains of the engine, e.g. engine=Gibbs(num_chains=8)",
        **dict.fromkeys(
            ("init", "init_params", "weights_init", "means_init", "precisions_init"),
            "leave it out; each engine finds starts of its own",
        ),
        "algorithm": "use engine",
        "max_iter": "it is the engine's: engine=CAVI(max_iter=..), or num_draws of Gibbs and NUTS",
        "tol": "it is the engine's: engine=CAVI(tol=..)",
        "warm_start": "leave it out; chains start apart to be compared",
        **{n: _SHORT_CHAINS.format(n) for n in ("num_draws", "num_warmup", "num_chains")},
    },
}
"""What to use for parameters that people bring along, by class; a base class speaks for all."""


def advice(kind: type, name: str, known: Iterable[str]) -> str:
    """Say what to use for a parameter that an estimator does not take.

    Parameters
    ----------
    kind : type
        The estimator's class.
    name : str
    known : iterable of str
        Parameters that it takes.
    """
    known = list(known)
    k = next((n for n in known if n in ("n_clusters", "n_components")), "")
    for base in kind.__mro__:
        if name in ADVICE.get(base.__name__, {}):
            return ADVICE[base.__name__][name].format(k=k)
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
