"""Which rows lie together, and which chains."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayesclust
from bayesclust import BayesianMixture, Gibbs
from bayesclust.posterior import membership
from bayesclust.posterior.diagnostics import doubts, modes
from bayesclust.posterior.together import PAIRS, SURE, label_free, unsure
from tests.problems import blobs

X, Z = blobs(60, separation=2.0, seed=3)
ENGINE = Gibbs(num_warmup=50, num_draws=60, num_chains=2)


@pytest.fixture(scope="module")
def fitted() -> Any:
    return BayesianMixture(3, family="diag", engine=ENGINE, random_state=0).fit(X).clustering_


# -- rows ----------------------------------------------------------------------------------------


def test_equals_a_sum_over_all_pairs(fitted: Any) -> None:
    label = membership.labels(fitted.point_model, X)
    flat = {n: v.reshape(-1) for n, v in fitted.draws.stats.items()}
    followed = [n.split("_")[1:] for n in flat if n.startswith("coclustering")]
    assert 1 <= len(followed) <= PAIRS
    for s in (0, 17, 119):
        one = fitted.model._replace(
            params={n: v[s : s + 1] for n, v in fitted.model.params.items()},
            log_weights=fitted.model.log_weights[s : s + 1],
        )
        p = membership.probabilities(one, X)
        wrong = [
            1 - p[i] @ p[j] if label[i] == label[j] else p[i] @ p[j]
            for i in range(60)
            for j in range(i)
        ]
        assert flat["reference_distance"][s] == pytest.approx(np.mean(wrong))
        for a, b in followed:
            expected = p[int(a)] @ p[int(b)]
            assert flat[f"coclustering_{a}_{b}"][s] == pytest.approx(expected)


def test_labels_do_not_matter(fitted: Any) -> None:
    turned = fitted.model._replace(
        params={n: v[:, [2, 0, 1]] for n, v in fitted.model.params.items()},
        log_weights=fitted.model.log_weights[:, [2, 0, 1]],
    )
    rows = np.arange(60)
    a = label_free(fitted.point_model, fitted.model, X, rows)
    b = label_free(fitted.point_model, turned, X, rows)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], atol=1e-12)


def test_a_draw_sure_of_the_points_partition_is_at_no_distance(fitted: Any) -> None:
    tight = fitted.point_model._replace(
        params={"mean": fitted.point_model.params["mean"], "var": np.full((1, 3, 2), 1e-3)}
    )
    rows = fitted.point.params["mean"][0, 0][Z]
    found = label_free(tight, tight, rows, np.arange(60))
    assert found == {"reference_distance": pytest.approx([0.0], abs=1e-12)}


def test_one_cluster_has_nothing_to_follow() -> None:
    fit = BayesianMixture(1, family="diag", engine=ENGINE, random_state=0).fit(X)
    assert not {"reference_distance"} & set(fit.clustering_.draws.stats)
    assert not [n for n in fit.clustering_.draws.stats if "coclustering" in n]


def test_they_are_kept_reported_and_saved(fitted: Any, tmp_path: Any) -> None:
    names = {n for n in fitted.draws.stats if n.startswith(("reference", "coclustering"))}
    assert names <= set(fitted.tree["sample_stats"].data_vars)
    assert names <= set(fitted.diagnostics().index)
    fitted.save(tmp_path / "model.nc")
    again = bayesclust.load(tmp_path / "model.nc")
    assert again.diagnostics().equals(fitted.diagnostics())
    assert set(fitted.realigned("stephens").draws.stats) == set(fitted.draws.stats)


@given(st.integers(0, 10**6), st.integers(2, 9))
def test_pairs_are_disjoint_and_the_least_sure(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    together = rng.beta(0.2, 0.2, size=(m, m))
    together = np.triu(together, 1) + np.triu(together, 1).T + np.eye(m)
    pairs = unsure(together)
    assert len(set(pairs.ravel())) == 2 * len(pairs) <= 2 * PAIRS
    value = together[pairs[:, 0], pairs[:, 1]]
    assert ((value >= SURE) & (value <= 1 - SURE)).all()
    assert (np.diff(np.abs(value - 0.5)) >= 0).all()
    above = np.triu(np.ones((m, m), bool), 1)
    least = np.abs(together - 0.5)[above].min()
    if least < 0.5 - SURE:
        assert np.abs(value[0] - 0.5) == least


# -- chains --------------------------------------------------------------------------------------


def chains(means: list[float], s: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(means), s)) + np.array(means)[:, None]


def test_chains_are_grouped_by_where_they_sit() -> None:
    assert modes({"a": chains([0, 0, 0, 0])}) == [[0, 1, 2, 3]]
    assert modes({"a": chains([0, 9, 0, 0])}) == [[0, 2, 3], [1]]
    assert modes({"a": chains([9, 0, 9, 0])}) == [[0, 2], [1, 3]]
    # One quantity that tells them apart is enough.
    assert modes({"a": chains([0, 0, 0]), "b": chains([0, 0, 9])}) == [[0, 1], [2]]
    # A chain that visits both places joins them.
    both = chains([0, 0, 9])
    both[1, ::2] += 9
    assert modes({"a": both}) == [[0, 1, 2]]
    # Discrete quantities that never move.
    stuck = np.repeat([[3.0], [3.0], [4.0]], 50, axis=1)
    assert modes({"a": stuck}) == [[0, 1], [2]]
    assert modes({"a": chains([0.0])}) == [[0]]


@given(st.permutations(range(4)))
def test_groups_follow_the_numbering_of_the_chains(order: list[int]) -> None:
    value = chains([0, 0, 9, 18])
    expected = {frozenset(order.index(i) for i in g) for g in modes({"a": value})}
    assert {frozenset(g) for g in modes({"a": value[order]})} == expected


def test_chains_in_different_modes_are_named() -> None:
    stats = {"log_posterior": chains([-100, -130, -100, -100])}
    said = doubts(stats)[0]
    assert "different modes" in said
    assert "chains 0, 2 and 3 (mean log posterior 0." in said
    assert "apart from chain 1 (mean log posterior 30." in said
    assert "different modes" in doubts({"inertia": chains([0, 9])})[0]


def test_slow_chains_are_not_taken_for_modes() -> None:
    said = doubts({"log_posterior": chains([0, 0.8], s=400)})[0]
    assert "The chains disagree" in said
    assert "different modes" not in said
    assert doubts({"log_posterior": chains([0, 0], s=1000)}) == []


def test_diagnose_names_chains_of_a_fit(fitted: Any) -> None:
    """A chain planted in another mode, far below; draws dealt out at random mix perfectly."""

    def sentences(stats: dict[str, np.ndarray]) -> list[str]:
        draws = dataclasses.replace(fitted.draws, stats=stats)
        return fitted.relabelled(fitted.point, draws, fitted.alignment).diagnose()

    order = np.random.default_rng(0).permutation(fitted.draws.log_weights[..., 0].size)
    stats = {n: v.reshape(-1)[order].reshape(v.shape) for n, v in fitted.draws.stats.items()}
    assert not any("different modes" in line for line in sentences(stats))
    stats["log_posterior"][1] -= 1000
    assert any("chain 0" in line and "apart from chain 1" in line for line in sentences(stats))


def test_divergences_are_told_and_kept(fitted: Any, tmp_path: Any) -> None:
    diverging = np.zeros(fitted.draws.shape, bool)
    diverging[0, :7] = True
    draws = dataclasses.replace(fitted.draws, flags={**fitted.draws.flags, "diverging": diverging})
    fit = fitted.relabelled(fitted.point, draws, fitted.alignment)
    assert any(line.startswith("7 transitions diverged") for line in fit.diagnose())
    assert not any("diverged" in line for line in fitted.diagnose())
    fit.save(tmp_path / "model.nc")
    again = bayesclust.load(tmp_path / "model.nc")
    assert again.diagnose() == fit.diagnose()
    assert "diverging" not in again.diagnostics().index
