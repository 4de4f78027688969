"""Cluster ids that refits keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayesclust
from bayesclust import Clustering, GaussianMixture, KMeans, align
from bayesclust.posterior.align import overlaps, places
from bayesclust.posterior.relabel import permute
from tests.problems import slowly

CORNERS = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
Z = np.arange(80) % 4
X = CORNERS[Z] + np.random.default_rng(0).normal(size=(80, 2))


@pytest.fixture(scope="module")
def fits() -> dict[int, Any]:
    return {k: KMeans(k, random_state=0).fit(X) for k in (2, 3, 4)}


def turned(fit: Clustering, order: Any) -> Clustering:
    order = np.asarray(order)
    return fit.relabelled(permute(fit.point, fit.mixture.family, order[None, None]), None, None)


def assert_same(a: Clustering, b: Clustering) -> None:
    np.testing.assert_array_equal(a.point.log_weights, b.point.log_weights)
    for name in a.point.params:
        np.testing.assert_array_equal(a.point.params[name], b.point.params[name])


@pytest.mark.parametrize(
    ("k", "known"),
    slowly([(4, 4), (4, 3), (4, 2), (3, 4), (2, 4), (2, 3)], {(4, 3), (2, 4)}),
)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2], [1, 2, 3, 0]])
def test_idempotent_and_the_same_for_any_labels(
    fits: dict[int, Any], k: int, known: int, order: list[int]
) -> None:
    old = fits[known].clustering_
    order = [j for j in order if j < k]
    plain, table = align(fits[k], to=old)
    other, moved = align(turned(fits[k].clustering_, order), to=old)
    assert_same(other, plain)
    np.testing.assert_array_equal(np.array(order)[moved["before"]], table["before"])
    pd.testing.assert_frame_equal(table.drop(columns="before"), moved.drop(columns="before"))
    again, last = align(plain, to=old)
    assert_same(again, plain)
    np.testing.assert_array_equal(last["before"], range(k))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2], [1, 2, 3, 0]])
def test_ids_follow_those_of_the_old_fit(fits: dict[int, Any], order: list[int]) -> None:
    old = turned(fits[4].clustering_, order)
    found, table = align(fits[4], to=old)
    assert_same(found, old)
    np.testing.assert_array_equal(table["before"], order)
    np.testing.assert_array_equal(table["matched"], range(4))
    np.testing.assert_allclose(table["overlap"], 1)
    np.testing.assert_array_equal(found.predict(X), old.predict(X))


@pytest.mark.slow
def test_a_refit_to_other_rows_keeps_its_ids() -> None:
    old = GaussianMixture(4, random_state=0).fit(X)
    fresh = CORNERS[::-1][Z] + np.random.default_rng(1).normal(size=(80, 2))
    new = GaussianMixture(
        4, random_state=1, uncertainty="bootstrap", num_draws=8, means_init=old.means_[[2, 0, 3, 1]]
    ).fit(fresh)
    assert (new.predict(X) != old.predict(X)).any()
    found, table = align(new, to=old)
    np.testing.assert_array_equal(found.predict(X), old.predict(X))
    assert (table["overlap"] > 0.9).all()
    # Draws and everything said of the training rows move along.
    np.testing.assert_allclose(
        found.predict_proba(X), new.predict_proba(X)[:, table["before"]], atol=1e-12
    )
    for group in ("posterior", "point_estimate"):
        np.testing.assert_array_equal(
            found.tree[group]["mean"].values,
            new.posterior_[group]["mean"].values[..., table["before"], :],
        )
    np.testing.assert_array_equal(found.labels, np.argsort(table["before"])[new.labels_])
    np.testing.assert_array_equal(
        found.tree["observed_data"]["x"], new.posterior_["observed_data"]["x"]
    )
    # So do the raw draws: another alignment forgets the ids, but not the draws.
    for fit in (found, new.clustering_):
        np.testing.assert_allclose(
            fit.realigned("order").draws.params["mean"],
            new.clustering_.realigned("order").draws.params["mean"],
        )


def test_more_clusters_than_before(fits: dict[int, Any]) -> None:
    found, table = align(fits[4], to=fits[3])
    assert table["matched"].isna().sum() == 1
    assert table["matched"].isna()[3]
    np.testing.assert_array_equal(table["matched"][:3], range(3))
    assert table["matched"].dtype == "Int64"
    same = found.predict(X) == fits[3].predict(X)
    assert same.mean() >= 0.75 - 1e-9
    # Two old clusters are still there; the third was the union of two.
    assert (table["overlap"] > 0.95).sum() == 2


def test_fewer_clusters_than_before(fits: dict[int, Any]) -> None:
    old = fits[4].clustering_
    found, table = align(fits[3], to=old)
    assert table["matched"].notna().all()
    for cluster, line in table.iterrows():
        if line["matched"] < 3:
            assert line["matched"] == cluster
    agree = found.predict(X) == old.predict(X)
    assert agree[np.isin(old.predict(X), [j for j in range(3) if j in set(table["matched"])])].any()


def test_what_shares_nothing_is_not_matched(fits: dict[int, Any]) -> None:
    far = KMeans(2, random_state=0).fit(np.concatenate([X[Z == 0], X[Z == 0] + 1000]))
    found, table = align(far, to=fits[4])
    # One cluster holds all the rows compared, the other none.
    assert table["matched"].isna().tolist().count(True) == 1
    assert table.loc[table["matched"].isna(), "overlap"].item() < 0.1
    assert found.n_clusters == 2


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_ids_are_a_permutation_that_keeps_what_it_can(seed: int, k: int, known: int) -> None:
    rng = np.random.default_rng(seed)
    matched = np.full(k, -1)
    size = int(rng.integers(0, min(k, known) + 1))
    matched[rng.permutation(k)[:size]] = rng.permutation(known)[:size]
    order = rng.permutation(k)
    out = places(matched, known, order)
    assert sorted(out) == list(range(k))
    for j in range(k):
        if 0 <= matched[j] < k:
            assert out[matched[j]] == j
    # New clusters avoid ids that have meant something else, while there are others.
    fresh = set(np.flatnonzero(matched[out] < 0))
    if any(i < known for i in fresh):
        assert set(range(known, k)) <= set(np.flatnonzero((matched[out] < 0) | (matched[out] >= k)))


def test_overlap_is_jaccards_index_for_hard_labels() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 50), rng.integers(0, 4, 50)
    found = overlaps(np.eye(3)[a], np.eye(4)[b])
    for i in range(3):
        for j in range(4):
            both = ((a == i) & (b == j)).sum() / ((a == i) | (b == j)).sum()
            assert found[i, j] == pytest.approx(both)
    soft = rng.dirichlet(np.ones(3), 50)
    np.testing.assert_allclose(np.diagonal(overlaps(soft, soft)), 1)
    np.testing.assert_array_equal(overlaps(np.zeros((5, 1)), np.zeros((5, 1))), 0)


def test_columns_go_by_name(fits: dict[int, Any]) -> None:
    frame = pd.DataFrame(X, columns=["a", "b"])
    old = KMeans(4, random_state=0).fit(frame)
    new = KMeans(4, random_state=3).fit(frame[["b", "a"]])
    found, table = align(new, to=old, X=frame)
    np.testing.assert_array_equal(found.predict(frame), old.predict(frame))
    assert (table["overlap"] > 0.99).all()
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        align(old, to=fits[4])


def test_rows_are_needed(fits: dict[int, Any], tmp_path: Any) -> None:
    fits[4].save(tmp_path / "old.nc")
    old = bayesclust.load(tmp_path / "old.nc")
    found, _ = align(fits[4], to=old)
    assert_same(found, fits[4].clustering_)
    del old._groups["observed_data"]
    old._tree = None
    with pytest.raises(ValueError, match="pass rows as X"):
        align(fits[4], to=old)
    found, _ = align(fits[4], to=old, X=X)
    assert_same(found, fits[4].clustering_)
