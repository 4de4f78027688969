"""Problems and estimators that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayesclust import GaussianMixture, KMeans, MiniBatchKMeans
from tests.problems import blobs, slowly

MAKERS: dict[str, Any] = {
    "kmeans": lambda k=3, **kw: KMeans(k, random_state=0, **kw),
    "minibatch": lambda k=3, **kw: MiniBatchKMeans(k, random_state=0, **kw),
    "mixture": lambda k=3, **kw: GaussianMixture(k, random_state=0, **kw),
}


@pytest.fixture(params=slowly(MAKERS, {"kmeans", "mixture"}))
def make(request: Any) -> Any:
    """A constructor ``make(k, **settings)`` of every estimator."""
    return MAKERS[request.param]


@pytest.fixture(scope="session")
def X() -> np.ndarray:
    """Sixty rows in three clusters."""
    return blobs(60)[0]
