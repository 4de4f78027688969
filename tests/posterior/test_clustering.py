"""The tree, the summary, and what is said of doubtful fits."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from bayesclust import GaussianMixture, KMeans
from bayesclust.posterior import Alignment

ALWAYS = {
    "posterior",
    "sample_stats",
    "point_estimate",
    "point_stats",
    "optimization",
    "constant_data",
    "membership",
    "members",
    "observed_data",
    "log_likelihood",
}


def test_groups_and_dims(model: Any, frame: pd.DataFrame) -> None:
    tree = model.posterior_
    many = model.clustering_.draws is not None
    assert set(tree.children) == ALWAYS | ({"alignment"} if many else set())
    lead = ("chain", "draw")
    sizes = {"chain": 4, "draw": 2} if many else {"chain": 1, "draw": 1}
    posterior = tree["posterior"]
    assert {d: posterior.sizes[d] for d in lead} == sizes
    assert posterior["mean"].dims == (*lead, "cluster", "feature")
    assert posterior["weights"].dims == (*lead, "cluster")
    np.testing.assert_allclose(posterior["weights"].sum("cluster"), 1)
    assert list(posterior["feature"].values) == list(frame.columns)
    spread = {
        "KMeans": ("var", (*lead, "cluster")),
        "MiniBatchKMeans": ("var", (*lead, "cluster")),
        "GaussianMixture": ("cov", (*lead, "cluster", "feature", "feature_bis")),
    }[type(model).__name__]
    if model.standardize:
        spread = ("cov", (*lead, "feature", "feature_bis"))
    assert posterior[spread[0]].dims == spread[1]
    assert all(v.dims == lead for v in tree["sample_stats"].data_vars.values())
    assert tree["log_likelihood"]["x"].dims == (*lead, "obs")
    assert tree["observed_data"]["x"].dims == ("obs", "feature")
    np.testing.assert_array_equal(tree["observed_data"]["x"], frame)
    for group in ("membership", "observed_data", "log_likelihood"):
        assert list(tree[group]["obs"].values) == list(frame.index)
    centers = "means_" if isinstance(model, GaussianMixture) else "cluster_centers_"
    np.testing.assert_allclose(tree["point_estimate"]["mean"], getattr(model, centers))
    np.testing.assert_array_equal(tree["membership"]["label"], model.clustering_.labels)
    if many:
        assert tree["alignment"]["permutation"].dims == (*lead, "cluster")
        assert tree["alignment"]["confidence"].dims == lead


def test_log_likelihood_is_the_objective(models: Any) -> None:
    tree = models["mixture"].posterior_
    total = tree["log_likelihood"]["x"].sum().item()
    assert total == pytest.approx(tree["sample_stats"]["log_likelihood"].item(), abs=0.01)
    trace = tree["optimization"]["objective_trace"].values[0]
    assert (np.diff(trace[np.isfinite(trace)]) >= -1e-12).all()


def test_arviz_reads_it(models: Any) -> None:
    table = az.summary(models["mixture-drawn"].posterior_, var_names=["weights"])
    np.testing.assert_allclose(
        table["mean"].astype(float), models["mixture-drawn"].weights_, atol=0.15
    )


def test_weights_are_kept(X: np.ndarray) -> None:
    weight = np.tile([1.0, 2.0, 0.5], 20)
    model = KMeans(3, random_state=0).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(model.posterior_["observed_data"]["sample_weight"], weight)


def test_summary(model: Any, frame: pd.DataFrame) -> None:
    table = model.summary()
    many = model.clustering_.draws is not None
    errors = ["se(height)", "se(width)"] if many else []
    share = "weight" if isinstance(model, GaussianMixture) else "share"
    means = ["mean(height)", "mean(width)"]
    assert list(table.columns) == ["size", "probability", share, *means, *errors]
    centers = model.means_ if isinstance(model, GaussianMixture) else model.cluster_centers_
    np.testing.assert_allclose(table[means], centers)
    member = model.membership(frame)
    label = member["label"].values
    np.testing.assert_array_equal(table["size"], np.bincount(label, minlength=3))
    own = member["probability"].values[np.arange(60), label]
    np.testing.assert_allclose(
        table["probability"], [own[label == j].mean() for j in range(3)], atol=1e-12
    )
    if share == "share":
        np.testing.assert_allclose(table["share"], np.bincount(label) / 60)
    assert (table[errors] > 0).all().all()


def test_nothing_to_say(model: Any) -> None:
    assert model.diagnose() == []


def test_diagnose(models: Any, X: np.ndarray) -> None:
    with pytest.warns(ConvergenceWarning):
        stopped = GaussianMixture(3, max_iter=2, random_state=0).fit(X)
    assert "before it converged" in stopped.diagnose()[0]
    same = np.repeat(X[:2], 30, axis=0)
    with pytest.warns(ConvergenceWarning, match="distinct rows"):
        short = KMeans(3, random_state=0).fit(same)
    assert "fewer distinct rows than clusters" in short.diagnose()[0]
    floored = GaussianMixture(2, random_state=0).fit(same)
    assert "2 of 2 components" in floored.diagnose()[0]

    clustering = models["mixture-drawn"].clustering_
    doubtful = object.__new__(type(clustering))
    draws = dataclasses.replace(clustering.draws, flags={"converged": np.zeros((4, 2), bool)})
    point = dataclasses.replace(clustering.point, flags={"imprecise": np.ones((1, 1), bool)})
    weak = Alignment(clustering.alignment.permutation, np.full((4, 2), 0.4))
    doubtful.__dict__ |= {**vars(clustering), "draws": draws, "point": point, "alignment": weak}
    text = " ".join(doubtful.diagnose())
    assert "100% of the draws do not match" in text
    assert "100% of the refits stopped" in text
    assert "rounding" in text


def test_repr(models: Any) -> None:
    assert repr(models["kmeans"].clustering_) == "Clustering(KMeans, 3 clusters, point fit)"
    drawn = models["mixture-drawn"].clustering_
    assert repr(drawn) == "Clustering(GaussianMixture, 3 clusters, 8 bootstrap refits)"
    tree = models["mixture-drawn"].posterior_
    assert tree["posterior"].attrs["draws"] == "bootstrap refits"
    assert "chain" not in " ".join(models["mixture-drawn"].diagnose())


OURS = ["size", "weight", "share", "probability", "cluster", "obs", "draw", "chain", "feature"]


@pytest.mark.parametrize("drawn", [False, True])
def test_features_may_be_called_as_anything_of_ours(X: np.ndarray, drawn: bool) -> None:
    names = [*OURS, "mean", "mean(size)", "se(size)", "", "outlier", "margin", "label"]
    rows = np.random.default_rng(0).normal(size=(60, len(names))) + np.repeat([[0], [9]], 30, 0)
    frame = pd.DataFrame(rows, columns=names)
    how = {"uncertainty": "bootstrap", "num_draws": 8} if drawn else {}
    model = KMeans(2, random_state=0, **how).fit(frame)
    plain = KMeans(2, random_state=0, **how).fit(rows)
    table = model.summary()
    assert table.columns.is_unique
    expected = plain.summary()
    np.testing.assert_allclose(table, expected, rtol=1e-9)
    halves = [rows[:30].mean(axis=0), rows[30:].mean(axis=0)]
    for j, name in enumerate(names):
        found = table[f"mean({name})"].to_numpy()
        np.testing.assert_allclose(found, [halves[0][j], halves[1][j]])
    assert table["size"].tolist() == [30, 30]
    assert table["share"].tolist() == [0.5, 0.5]
    card = model.scorecard(frame)
    pd.testing.assert_frame_equal(card, plain.scorecard(rows), rtol=1e-9)
    tree = model.posterior_
    assert tree["posterior"]["feature"].values.tolist() == names
    assert tree["observed_data"]["feature"].values.tolist() == names
    center = tree["posterior"]["mean"].sel(feature="cluster", cluster=0)
    assert center.dims == ("chain", "draw")
    if drawn:
        assert model.standard_errors()["mean"].sel(feature="draw").dims == ("cluster",)


def test_rows_may_share_a_name(X: np.ndarray) -> None:
    index = pd.Index(["a", "b"] * 30, name="cluster")
    frame = pd.DataFrame(X, columns=["x", "y"], index=index)
    model = KMeans(3, random_state=0).fit(frame)
    answer = model.membership(frame)
    assert answer["obs"].values.tolist() == index.tolist()
    np.testing.assert_array_equal(answer["label"], model.labels_)
    card = model.scorecard(frame)
    assert card.index.equals(index)
    np.testing.assert_array_equal(card["cluster"], model.labels_)
    assert model.posterior_["membership"].sizes["obs"] == 60


def test_margins_say_their_unit(models: Any, frame: pd.DataFrame) -> None:
    assert models["kmeans"].membership(frame)["margin"].attrs["units"] == "data"
    wide = models["standardized"].membership(frame)["margin"]
    assert wide.attrs["units"] == "column standard deviations"


def test_many_threads_ask_at_once(X: np.ndarray) -> None:
    model = GaussianMixture(3, random_state=0).fit(X)
    expected = GaussianMixture(3, random_state=0).fit(X).scorecard(X)

    def ask(i: int) -> pd.DataFrame:
        if i % 4 == 0:
            assert "membership" in model.posterior_.children
        return model.scorecard(X)

    with ThreadPoolExecutor(8) as pool:
        for card in pool.map(ask, range(24)):
            pd.testing.assert_frame_equal(card, expected)
    assert "membership" in model.posterior_.children
