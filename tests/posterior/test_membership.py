"""Laws of memberships and scorecards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from scipy.stats import chi2, entropy

from bayesclust import GaussianMixture, KMeans
from bayesclust.posterior.membership import log_likelihood

PER_CLUSTER = {"probability", "lower", "upper", "tail_probability"}
PER_ROW = {
    "label",
    "outlier",
    "entropy",
    "entropy_overlap",
    "entropy_ignorance",
    "log_density",
    "density_rank",
    "margin",
    "vote_share",
}
OF_DRAWS = {"lower", "upper", "entropy_overlap", "entropy_ignorance", "vote_share"}


@pytest.fixture
def answer(model: Any, frame: pd.DataFrame) -> xr.Dataset:
    return model.membership(frame)


def draws_of(model: Any) -> int:
    return model.clustering_.model.n_draws


def test_names_and_dims(model: Any, answer: xr.Dataset, frame: pd.DataFrame) -> None:
    assert set(answer.data_vars) == PER_CLUSTER | PER_ROW
    for name, value in answer.items():
        assert value.dims == (("obs", "cluster") if name in PER_CLUSTER else ("obs",))
    assert list(answer["obs"].values) == list(frame.index)
    assert answer["cluster"].values.tolist() == [0, 1, 2]


def test_probabilities(model: Any, answer: xr.Dataset, frame: pd.DataFrame) -> None:
    p = answer["probability"].values
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    assert (p >= 0).all()
    np.testing.assert_array_equal(answer["label"], model.predict(frame))
    if draws_of(model) == 1 or isinstance(model, GaussianMixture):
        np.testing.assert_array_equal(answer["label"], p.argmax(axis=1))
    np.testing.assert_allclose(p, model.predict_proba(frame), atol=1e-12)
    np.testing.assert_allclose(answer["entropy"], entropy(p, axis=1), atol=1e-10)
    assert p.max(axis=1).min() < 0.9  # there is something to be unsure of


def test_label_of_a_mixture_is_what_fit_reported(models: Any, frame: pd.DataFrame) -> None:
    for name in ("mixture", "mixture-drawn", "standardized"):
        model = models[name]
        np.testing.assert_array_equal(model.membership(frame)["label"], model.labels_)
        np.testing.assert_array_equal(model.predict(frame), model.labels_)


def test_columns_that_need_draws(model: Any, answer: xr.Dataset) -> None:
    missing = {str(name) for name, v in answer.items() if np.isnan(v).all()}
    assert missing == (OF_DRAWS if draws_of(model) == 1 else set())
    assert not any(np.isnan(v).any() for name, v in answer.items() if name not in missing)


def test_intervals(drawn: Any, frame: pd.DataFrame) -> None:
    few, many = drawn.membership(frame, 0.5), drawn.membership(frame, 0.9)
    for a in (few, many):
        assert (0 <= a["lower"]).all()
        assert (a["lower"] <= a["upper"]).all()
        assert (a["upper"] <= 1).all()
    assert (many["lower"] <= few["lower"]).all()
    assert (many["upper"] >= few["upper"]).all()
    assert (many["upper"] - many["lower"] > few["upper"] - few["lower"]).any()
    assert few.attrs["level"] == 0.5


@pytest.mark.parametrize("level", [1e-6, 0.5, 0.9])
def test_the_interval_holds_the_probability(drawn: Any, frame: pd.DataFrame, level: float) -> None:
    answer = drawn.membership(frame, level)
    assert (answer["lower"] <= answer["probability"]).all()
    assert (answer["probability"] <= answer["upper"]).all()
    card = drawn.scorecard(frame, level)
    assert card["probability"].between(card["lower"], card["upper"]).all()


def test_answers_are_those_of_the_draws(drawn: Any, frame: pd.DataFrame) -> None:
    """Probability, interval, entropies and votes again, from each draw by itself."""
    model = drawn.clustering_.model
    rows = (frame.to_numpy() - model.units.shift) / model.units.scale
    p = []
    for i in range(model.n_draws):
        mean = model.params["mean"][i]
        spread = model.params.get("cov", model.params.get("var"))[i]
        gap = rows[:, None] - mean
        if spread.ndim == 1:
            square = (gap**2).sum(axis=2) / spread
            log_det = 2 * np.log(spread)
        else:
            cov = np.broadcast_to(spread, (3, 2, 2))
            square = np.einsum("nki,kij,nkj->nk", gap, np.linalg.inv(cov), gap)
            log_det = np.log(np.linalg.det(cov))
        joint = model.log_weights[i] - 0.5 * (square + log_det)
        q = np.exp(joint - joint.max(axis=1, keepdims=True))
        p.append(q / q.sum(axis=1, keepdims=True))
    p = np.stack(p)
    answer = drawn.membership(frame, 0.8)
    np.testing.assert_allclose(answer["probability"], p.mean(axis=0), atol=1e-10)
    low, high = np.quantile(p, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(answer["lower"], np.minimum(low, p.mean(axis=0)), atol=1e-10)
    np.testing.assert_allclose(answer["upper"], np.maximum(high, p.mean(axis=0)), atol=1e-10)
    overlap = entropy(p, axis=2).mean(axis=0)
    np.testing.assert_allclose(answer["entropy_overlap"], overlap, atol=1e-10)
    label = drawn.predict(frame)
    votes = (p.argmax(axis=2) == label).mean(axis=0)
    np.testing.assert_allclose(answer["vote_share"], votes)
    assert votes.min() < 1


def test_entropy_is_overlap_and_ignorance(drawn: Any, frame: pd.DataFrame) -> None:
    answer = drawn.membership(frame)
    both = answer["entropy_overlap"] + answer["entropy_ignorance"]
    np.testing.assert_allclose(both, answer["entropy"], atol=1e-10)
    assert (answer["entropy_ignorance"] >= 0).all()
    assert (answer["entropy_ignorance"] > 1e-3).any()


def test_rows_are_scored_alone(model: Any, answer: xr.Dataset, frame: pd.DataFrame) -> None:
    """Twice, in another order, one at a time: the answer to a row is the same."""
    order = np.random.default_rng(0).permutation(60)
    xr.testing.assert_identical(answer, model.membership(frame))
    shuffled = model.membership(frame.iloc[order]).sel(obs=answer["obs"])
    xr.testing.assert_allclose(shuffled, answer, rtol=1e-12, atol=1e-12)
    alone = xr.concat([model.membership(frame.iloc[[i]]) for i in (3, 17)], "obs")
    # The rank of a row among itself may turn on the last bit.
    few = answer.isel(obs=[3, 17])
    xr.testing.assert_allclose(
        alone.drop_vars("density_rank"), few.drop_vars("density_rank"), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(alone["density_rank"], few["density_rank"], atol=1 / 60 + 1e-12)


def test_tail_probability(models: Any, frame: pd.DataFrame) -> None:
    model = models["mixture"]
    gap = frame.to_numpy()[:, None] - model.means_
    square = np.einsum("nki,kij,nkj->nk", gap, model.precisions_, gap)
    answer = model.membership(frame)["tail_probability"]
    np.testing.assert_allclose(answer, chi2.sf(square, 2), atol=1e-9)


def test_tail_probability_of_kmeans(models: Any, frame: pd.DataFrame) -> None:
    km = models["kmeans"]
    square = 2 * km.temperature_ * km.transform(frame) ** 2
    answer = km.membership(frame)["tail_probability"]
    np.testing.assert_allclose(answer, chi2.sf(square, 2), atol=1e-9)


def test_density_rank(model: Any, answer: xr.Dataset, frame: pd.DataFrame) -> None:
    density = answer["log_density"].values
    ranks = (density[None] <= density[:, None]).mean(axis=1)
    np.testing.assert_allclose(answer["density_rank"], ranks, atol=1 / 60 + 1e-12)
    assert answer["density_rank"].max() == 1
    far = frame.iloc[:1] + 1e3
    assert model.membership(far)["density_rank"].item() == 0


def test_log_density_averages_densities(drawn: Any, frame: pd.DataFrame) -> None:
    each = log_likelihood(drawn.clustering_.model, frame.to_numpy())
    expected = np.log(np.exp(each).mean(axis=0))
    answer = drawn.membership(frame)["log_density"]
    np.testing.assert_allclose(answer, expected, rtol=1e-10)
    np.testing.assert_allclose(
        drawn.posterior_["log_likelihood"]["x"].values.reshape(each.shape), each, rtol=1e-12
    )


# -- scorecard -----------------------------------------------------------------------------------

COLUMNS = [
    "cluster",
    "probability",
    "lower",
    "upper",
    "entropy",
    "entropy_overlap",
    "entropy_ignorance",
    "tail_probability",
    "outlier",
    "log_density",
    "density_rank",
    "margin",
    "vote_share",
    "probability_0",
    "probability_1",
    "probability_2",
]


def test_scorecard(model: Any, answer: xr.Dataset, frame: pd.DataFrame) -> None:
    card = model.scorecard(frame)
    assert list(card.columns) == COLUMNS
    assert list(card.index) == list(frame.index)
    label = answer["label"].values
    np.testing.assert_array_equal(card["cluster"], label)
    for name in COLUMNS[1:13]:
        value = answer[name].values
        own = value[np.arange(60), label] if value.ndim == 2 else value
        np.testing.assert_array_equal(card[name], own, err_msg=name)
    np.testing.assert_array_equal(card.iloc[:, 13:], answer["probability"])
    pd.testing.assert_frame_equal(model.clustering_.scorecard(frame), card)


def test_scorecard_in_the_library_of_the_caller(models: Any, frame: pd.DataFrame) -> None:
    model = models["mixture-drawn"]
    expected = model.scorecard(frame).to_numpy(float)
    polars = pl.DataFrame(frame.to_numpy(), schema=list(frame.columns))
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    for rows, kind in ((polars, pl.DataFrame), (arrow, pa.Table)):
        for call in (model.scorecard, model.clustering_.scorecard):
            card = call(rows)
            assert isinstance(card, kind)
            assert list(getattr(card, "column_names", card.columns)) == COLUMNS
            values = card.to_numpy() if kind is pl.DataFrame else card.to_pandas().to_numpy()
            np.testing.assert_allclose(values.astype(float), expected, rtol=1e-9, atol=1e-12)
    plain = model.clustering_.scorecard(frame.to_numpy())
    assert isinstance(plain, pd.DataFrame)
    assert list(plain.index) == list(range(60))


def test_weighted_sizes(X: np.ndarray) -> None:
    weight = np.tile([1.0, 2.0, 0.0], 20)
    model = KMeans(3, random_state=0).fit(X, sample_weight=weight)
    twice = KMeans(3, random_state=0).fit(np.repeat(X, weight.astype(int), axis=0))
    pd.testing.assert_frame_equal(
        model.summary(), twice.summary(), check_dtype=False, rtol=1e-9, atol=1e-9
    )


def test_drawn_labels_have_the_memberships(models: Any, frame: pd.DataFrame) -> None:
    clustering = models["mixture-drawn"].clustering_
    found = [clustering.label_draws(frame, seed=s)["label"] for s in range(100)]
    assert found[0].dims == ("chain", "draw", "obs")
    assert found[0].dtype == np.int8
    labels = np.concatenate([v.values.reshape(-1, 60) for v in found])
    share = np.stack([(labels == j).mean(axis=0) for j in range(3)], axis=1)
    p = clustering.predict_proba(frame)
    error = np.sqrt(p * (1 - p) / len(labels)) + 1e-3
    assert (np.abs(share - p) < 5 * error).all()
    np.testing.assert_array_equal(found[3], clustering.label_draws(frame, seed=3)["label"])


def test_labels_beyond_the_budget_are_refused(models: Any, monkeypatch: Any) -> None:
    from bayesclust.posterior import answers

    monkeypatch.setattr(answers, "LABEL_BYTES", 100)
    clustering = models["mixture-drawn"].clustering_
    with pytest.raises(ValueError, match="fewer rows at a time"):
        clustering.label_draws(np.zeros((60, 2)))
