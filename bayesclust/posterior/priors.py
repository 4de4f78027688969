"""Priors as text: descriptions in a file, and back."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from bayesclust import families
from bayesclust.hyper import check_hyperparameters
from bayesclust.weights.base import WeightPrior
from bayesclust.weights.dirichlet import Dirichlet

KNOWN = {
    kind.__name__: kind
    for kind in (
        families.Gamma,
        families.IndependentNormalGamma,
        families.IndependentNormalWishart,
        families.NormalInverseGamma,
        families.NormalInverseWishart,
        families.Wishart,
        Dirichlet,
    )
}
"""What a description may name."""


def is_described(value: Any) -> bool:
    """Whether a value is a number, a list of such values, or a named set of them.

    Infinite is what the user's units cannot hold, see `Clustering.tree`.
    """
    if isinstance(value, dict):
        inner = [v for name, v in value.items() if name != "name"]
        return isinstance(value.get("name"), str) and all(map(is_described, inner))
    if isinstance(value, list):
        return all(map(is_described, value))
    return isinstance(value, (int, float)) and not math.isnan(value)


def is_known(value: Any) -> bool:
    """Whether `restored` knows all the names of a description."""
    if not isinstance(value, dict):
        return True
    return value["name"] in KNOWN and all(is_known(v) for n, v in value.items() if n != "name")


def described(value: Any) -> Any:
    """Describe a prior by its name and hyperparameters, as JSON has them."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: described(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": type(value).__name__, **fields}
    return np.asarray(value, np.float64).tolist()


def restored(value: Any, size: int) -> Any:
    """Make a prior from its description.

    Parameters
    ----------
    value : number, list or dict
    size : int
        Length of every axis of a hyperparameter.

    Raises
    ------
    ValueError
        If it describes none of bayesclust's priors, or hyperparameters that none can have.
    """
    if not isinstance(value, dict):
        return np.asarray(value, np.float64) if isinstance(value, list) else float(value)
    kind = KNOWN.get(value.get("name", ""))
    if kind is None:
        raise ValueError(f"there is no prior {value.get('name')!r}")
    given = {name: restored(v, size) for name, v in value.items() if name != "name"}
    if given.keys() != {f.name for f in dataclasses.fields(kind)}:
        raise ValueError(f"{kind.__name__} has other hyperparameters than {sorted(given)}")
    prior = kind(**given)
    check_hyperparameters(prior, size)
    return prior


def described_weights(weights: WeightPrior) -> dict[str, str]:
    """Describe a prior on weights as an attribute of a file; one of another's making not at all."""
    if not isinstance(weights, Dirichlet):
        return {}
    return {"weights": json.dumps(described(weights))}


def restored_weights(value: Any, k: int) -> WeightPrior:
    """Make the prior on weights from an attribute; a flat one if there is none."""
    if value is None:
        return Dirichlet()
    prior = restored(json.loads(value), k) if isinstance(value, str) else None
    if not isinstance(prior, Dirichlet):
        raise ValueError("weights describes no prior on weights")
    return prior
