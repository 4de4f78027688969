"""Draws under one labelling, whatever labels they came with."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from bayesclust.posterior.align import align, match, overlaps, permute


def aligned(clustering: Any, draws: Any, X: np.ndarray) -> Any:
    """Draws aligned to the point fit, as a fit does it."""
    plug, raw = clustering.point_model, clustering._model(draws)
    with jax.enable_x64(True):
        own, overlap = overlaps(
            clustering.mixture,
            ({n: v[0] for n, v in plug.params.items()}, plug.log_weights[0]),
            (raw.params, raw.log_weights),
            clustering.units.inward(X),
        )
    return align(draws, clustering.mixture.family, own, overlap)


def assert_same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.log_weights, b.log_weights)
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name])


def test_idempotent(drawn: Any, X: np.ndarray) -> None:
    clustering = drawn.clustering_
    again, alignment = aligned(clustering, clustering.draws, X)
    assert_same(again, clustering.draws)
    np.testing.assert_array_equal(alignment.permutation, np.broadcast_to(np.arange(3), (4, 2, 3)))
    np.testing.assert_allclose(alignment.confidence, clustering.alignment.confidence)


def test_relabelling_draws_changes_nothing(drawn: Any, X: np.ndarray) -> None:
    clustering = drawn.clustering_
    rng = np.random.default_rng(0)
    shuffle = rng.permuted(np.broadcast_to(np.arange(3), (4, 2, 3)), axis=2)
    relabelled = permute(clustering.draws, clustering.mixture.family, shuffle)
    assert (relabelled.params["mean"] != clustering.draws.params["mean"]).any()
    back, alignment = aligned(clustering, relabelled, X)
    assert_same(back, clustering.draws)
    # The permutation leads from the raw draw to the aligned one.
    whole = np.take_along_axis(shuffle, alignment.permutation, axis=2)
    np.testing.assert_array_equal(whole, np.broadcast_to(np.arange(3), (4, 2, 3)))


def test_identical_draws_are_certain(drawn: Any, X: np.ndarray) -> None:
    clustering = drawn.clustering_
    point = clustering.point
    copies = type(point)(
        params={n: np.repeat(v, 2, axis=1) for n, v in point.params.items()},
        log_weights=np.repeat(point.log_weights, 2, axis=1),
        stats={},
        trace=point.trace,
        flags={},
    )
    _, alignment = aligned(clustering, copies, X)
    np.testing.assert_allclose(alignment.confidence, 1, atol=1e-12)
    assert (clustering.alignment.confidence <= 1).all()
    assert (clustering.alignment.confidence > 0.5).all()


def test_match_is_the_best_permutation() -> None:
    overlap = np.array([[[0.0, 0.9, 0.8], [0.0, 0.8, 0.0], [1.0, 0.0, 0.0]]])
    np.testing.assert_array_equal(match(overlap), [[2, 1, 0]])


def test_aligned_draws_lie_about_the_point_fit(drawn: Any, frame: pd.DataFrame) -> None:
    means = drawn.clustering_.draws.params["mean"].reshape(-1, 3, 2)
    point = drawn.clustering_.point.params["mean"][0, 0]
    distance = np.linalg.norm(means[:, :, None] - point, axis=-1).mean(axis=0)
    np.testing.assert_array_equal(distance.argmin(axis=1), range(3))


@pytest.mark.parametrize("name", ["kmeans-drawn", "mixture-drawn"])
def test_standard_errors(models: Any, name: str) -> None:
    errors = models[name].standard_errors()
    draws = models[name].posterior_["posterior"]
    assert "chain" not in errors.sizes
    for parameter in ("mean", "weights"):
        flat = draws[parameter].values.reshape(8, *errors[parameter].shape)
        np.testing.assert_allclose(errors[parameter], flat.std(axis=0, ddof=1), rtol=1e-12)
        assert (errors[parameter] > 0).any()
    with pytest.raises(ValueError, match="uncertainty='bootstrap'"):
        models[name.removesuffix("-drawn")].standard_errors()
