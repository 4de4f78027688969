"""The tree, the summary, and what is said of doubtful fits."""

from __future__ import annotations

import dataclasses
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
