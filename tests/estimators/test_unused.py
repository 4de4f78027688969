"""A parameter that was set and has no effect is refused; one left at its default is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayesclust import GaussianMixture, KMeans, MiniBatchKMeans

X = np.concatenate([np.random.default_rng(0).normal(m, 1, (30, 2)) for m in (0, 8)])
CENTRES = np.array([[0.0, 0.0], [8.0, 8.0]])
GIVEN: dict[str, Any] = {"means_init": CENTRES, "precisions_init": np.stack([np.eye(2)] * 2)}

UNUSED = [
    (KMeans, "num_draws", {"num_draws": 50}),
    (MiniBatchKMeans, "num_draws", {"num_draws": 50}),
    (GaussianMixture, "num_draws", {"num_draws": 50}),
    (KMeans, "n_init", {"init": CENTRES, "n_init": 5}),
    (MiniBatchKMeans, "n_init", {"init": CENTRES, "n_init": 5}),
    (KMeans, "seeding_rows", {"init": CENTRES, "seeding_rows": 20}),
    (GaussianMixture, "n_init", {**GIVEN, "n_init": 5}),
    (GaussianMixture, "init_params", {**GIVEN, "init_params": "random"}),
]


@pytest.mark.parametrize(("kind", "name", "settings"), UNUSED)
def test_refused(kind: Any, name: str, settings: dict[str, Any]) -> None:
    model = kind(2, random_state=0, **settings)
    with pytest.raises(ValueError, match=f"{name}=.* has no effect"):
        model.fit(X)
    assert not hasattr(model, "clustering_")
    if kind is MiniBatchKMeans:
        with pytest.raises(ValueError, match=f"{name}=.* has no effect"):
            model.partial_fit(X)


def test_used_or_left_alone() -> None:
    KMeans(2, init=CENTRES, n_init=1, num_draws=200).fit(X)
    KMeans(2, init=CENTRES).fit(X)
    GaussianMixture(2, **GIVEN, n_init=1).fit(X)
    GaussianMixture(2, means_init=CENTRES, n_init=2).fit(X)
