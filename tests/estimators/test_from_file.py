"""Estimators made from files answer as the saved ones did."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bayesclust
from bayesclust import BayesianMixture, GaussianMixture, KMeans, MiniBatchKMeans
from bayesclust.engines import CAVI, SVI, Gibbs
from tests.problems import blobs, slowly

X = blobs(60)[0]
MODELS: dict[str, Any] = {
    "kmeans": KMeans(3, random_state=0),
    "kmeans-bootstrap": KMeans(3, uncertainty="bootstrap", num_draws=8, random_state=0),
    "kmeans-gibbs": KMeans(3, uncertainty="gibbs", num_draws=10, random_state=0),
    "minibatch": MiniBatchKMeans(3, random_state=0),
    "mixture": GaussianMixture(3, random_state=0),
    "mixture-bootstrap": GaussianMixture(
        3, covariance_type="tied", uncertainty="bootstrap", num_draws=8, random_state=0
    ),
    "gibbs": BayesianMixture(3, engine=Gibbs(20, 10, 2), random_state=0),
    "svi": BayesianMixture(2, engine=SVI(num_steps=200, num_draws=20), random_state=0),
    "cavi": BayesianMixture(2, prior="conjugate", engine=CAVI(num_draws=20), random_state=0),
}
QUICK = {"kmeans", "minibatch", "mixture", "gibbs"}
pytestmark = pytest.mark.filterwarnings("ignore:SVI stopped before")


@pytest.fixture(scope="module")
def fits() -> dict[str, Any]:
    class Fits(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            self[name] = clone(MODELS[name]).fit(X)
            return self[name]

    return Fits()


@pytest.fixture(params=slowly(MODELS, QUICK))
def model(request: Any, fits: Any) -> Any:
    return fits[request.param]


def attributes(model: Any) -> dict[str, Any]:
    """What a fit has set, but for what only the fit itself can know."""
    unknown = {"clustering_", "counts_", "n_iter_", "labels_", "prior_"}
    found = {n: v for n, v in vars(model).items() if n.endswith("_") and n not in unknown}
    return {n: v for n, v in found.items() if not n.startswith("_")}


@pytest.mark.parametrize("rows", [True, False])
def test_it_answers_as_the_saved_one(model: Any, rows: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.nc"
    model.save(path, rows=rows)
    again = type(model).from_file(path)
    new = X[::-1] * 1.1
    pd.testing.assert_frame_equal(again.scorecard(new), model.scorecard(new))
    np.testing.assert_array_equal(again.predict(new), model.predict(new))
    np.testing.assert_array_equal(again.predict_proba(new), model.predict_proba(new))
    for name in ("transform", "score_samples", "score"):
        if hasattr(model, name):
            np.testing.assert_array_equal(getattr(again, name)(new), getattr(model, name)(new))
    right, found = attributes(model), attributes(again)
    assert right.keys() == found.keys()
    for name, value in right.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    pd.testing.assert_frame_equal(again.summary(), model.summary())
    assert again.diagnose() == model.diagnose()
    assert hasattr(again, "labels_") == rows
    if rows:
        np.testing.assert_array_equal(again.labels_, model.labels_)
    else:
        with pytest.raises(AttributeError, match=r"without training rows.*predict\(X\)"):
            _ = again.labels_
    pickled = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(pickled.predict(new), model.predict(new))
    given = {n: v for n, v in again.get_params().items() if n not in ("random_state", "engine")}
    wanted = {n: model.get_params()[n] for n in given}
    assert given == {**wanted, **({"family": "full"} if "family" in given else {})}


def test_it_works_in_a_pipeline(fits: Any, tmp_path: Path) -> None:
    scaler = StandardScaler().fit(X)
    fitted = clone(MODELS["mixture"]).fit(scaler.transform(X))
    fitted.save(tmp_path / "model.nc", rows=False)
    pipeline = make_pipeline(scaler, GaussianMixture.from_file(tmp_path / "model.nc"))
    labels = fitted.predict(scaler.transform(X))
    np.testing.assert_array_equal(pipeline.predict(X), labels)
    again = clone(pipeline).fit(X)  # a clone has the parameters, and no fit
    assert len(again[-1].weights_) == 3


@pytest.mark.parametrize("columns", [["x0", "x1"], ["height", "width"]])
def test_names_of_columns_are_known_again(columns: list[str], tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=columns)
    path = tmp_path / "model.nc"
    for rows in (frame, X):
        fitted = clone(MODELS["kmeans"]).fit(rows)
        fitted.save(path)
        again = KMeans.from_file(path)
        assert hasattr(again, "feature_names_in_") == (rows is frame)
        again.predict(rows)  # no warning of names
    KMeans(3, random_state=0).fit(frame).save(path)
    with pytest.raises(ValueError, match="feature names"):
        KMeans.from_file(path).predict(frame.rename(columns={columns[0]: "other"}))


def test_the_prior_is_known_again(fits: Any, tmp_path: Path) -> None:
    model = fits["gibbs"]
    model.save(tmp_path / "model.nc")
    again = BayesianMixture.from_file(tmp_path / "model.nc")
    prior, right = again.prior_.family.prior, model.prior_.family.prior
    for name in ("mean", "strength", "df", "scale"):
        np.testing.assert_array_equal(getattr(prior, name), getattr(right, name))
    X, y = again.prior_predictive(5, 7)
    assert X.shape == (5, 7, 2) and y.max() < 3


def test_weights_have_their_prior(tmp_path: Path) -> None:
    fitted = GaussianMixture(3, weight_concentration=2.5, random_state=0).fit(X)
    fitted.save(tmp_path / "model.nc")
    assert bayesclust.load(tmp_path / "model.nc").mixture.weights.concentration == 2.5
    assert GaussianMixture.from_file(tmp_path / "model.nc").weight_concentration == 2.5


def test_a_file_of_another_estimator(fits: Any, tmp_path: Path) -> None:
    fits["kmeans"].save(tmp_path / "model.nc")
    for kind in (GaussianMixture, MiniBatchKMeans, BayesianMixture):
        with pytest.raises(ValueError, match=r"model\.nc holds the fit of a 'KMeans', not of a?"):
            kind.from_file(tmp_path / "model.nc")


def test_no_batches_are_added_to_a_file(fits: Any, tmp_path: Path) -> None:
    fits["minibatch"].save(tmp_path / "model.nc")
    again = MiniBatchKMeans.from_file(tmp_path / "model.nc")
    with pytest.raises(ValueError, match=r"no further batches.*fit a new one"):
        again.partial_fit(X)
    assert again.fit(X).partial_fit(X).n_steps_ > 1
