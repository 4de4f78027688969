"""Fits that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayesclust import GaussianMixture, KMeans, MiniBatchKMeans
from tests.problems import blobs, slowly

DRAWS = 8
SETTINGS: dict[str, Any] = {"random_state": 0}
DRAWN: dict[str, Any] = {**SETTINGS, "uncertainty": "bootstrap", "num_draws": DRAWS}
MODELS: dict[str, Any] = {
    "kmeans": KMeans(3, **SETTINGS),
    "kmeans-drawn": KMeans(3, **DRAWN),
    "minibatch": MiniBatchKMeans(3, **SETTINGS),
    "minibatch-drawn": MiniBatchKMeans(3, **DRAWN),
    "mixture": GaussianMixture(3, **SETTINGS),
    "mixture-drawn": GaussianMixture(3, **DRAWN),
    "standardized": GaussianMixture(3, covariance_type="tied", standardize=True, **DRAWN),
}


@pytest.fixture(scope="session")
def X() -> np.ndarray:
    """Sixty rows in three clusters that overlap."""
    return blobs(60, separation=2.0, seed=3)[0]


@pytest.fixture(scope="session")
def frame(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=["height", "width"], index=[f"row {i}" for i in range(60)])


@pytest.fixture(scope="session")
def models(frame: pd.DataFrame) -> dict[str, Any]:
    """Every kind of fit, to be read only; made when first asked for."""

    class Fits(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            self[name] = MODELS[name].fit(frame)
            return self[name]

    return Fits()


@pytest.fixture(params=slowly(MODELS, {"kmeans", "mixture-drawn", "standardized"}))
def model(request: Any, models: dict[str, Any]) -> Any:
    return models[request.param]


@pytest.fixture(
    params=slowly(
        [name for name in MODELS if "drawn" in name or name == "standardized"], {"mixture-drawn"}
    )
)
def drawn(request: Any, models: dict[str, Any]) -> Any:
    return models[request.param]
