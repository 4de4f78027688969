"""What must be true of the numbers that a clustering scores rows with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesclust.posterior.relabel import METHODS

if TYPE_CHECKING:
    from bayesclust.draws import Draws
    from bayesclust.posterior.clustering import Clustering
    from bayesclust.posterior.membership import Model
    from bayesclust.posterior.relabel import Alignment

ROUNDING = 1e-3
"""How far weights in float32 may sum beside one."""


def check(clustering: Clustering) -> None:
    """Refuse a clustering by which no row can be scored.

    Raises
    ------
    ValueError
        It names the number that is wrong.
    """
    features, units = clustering.features, clustering.units
    if len(set(features)) < len(features):
        raise ValueError("feature holds a name twice")
    if not np.isfinite(units.shift).all():
        raise ValueError("shift holds NaN or infinity")
    if not (np.isfinite(units.scale) & (units.scale > 0)).all():
        raise ValueError("scale must be positive and finite")
    reference = clustering.reference
    if np.isnan(reference).any() or (reference[1:] < reference[:-1]).any():
        raise ValueError("reference_log_density must be sorted, without NaN")
    _check_draws(clustering.point, clustering.point_model, "point_estimate")
    if clustering.draws is not None:
        _check_draws(clustering.draws, clustering.model, "posterior")
    if clustering.alignment is not None:
        _check_alignment(clustering.alignment)


def _check_draws(draws: Draws, model: Model, where: str) -> None:
    weights = np.exp(np.asarray(draws.log_weights, np.float64))
    # NaN fails both comparisons.
    if not (np.abs(weights.sum(axis=-1) - 1) <= ROUNDING).all():
        raise ValueError(f"{where}/weights must be probabilities that sum to 1")
    wrong = model.mixture.family.wrong(model.params)
    if wrong:
        raise ValueError(f"{where}/{wrong}")
    most = np.sqrt(np.finfo(model.dtype).max)
    for name, value in model.params.items():
        if (np.abs(value) > most).any():
            raise ValueError(f"{where}/{name} is too large for the units of the fit")


def _check_alignment(alignment: Alignment) -> None:
    permutation, confidence, method = alignment
    k = permutation.shape[-1]
    if not (np.sort(permutation, axis=-1) == np.arange(k)).all():
        raise ValueError("alignment/permutation must hold permutations of the clusters")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("alignment/confidence must lie between 0 and 1")
    if method not in METHODS:
        raise ValueError(f"alignment has the unknown method {method!r}")
