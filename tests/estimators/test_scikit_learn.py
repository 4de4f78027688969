"""Life among scikit-learn's tools: pipelines, searches, frames, routing, pickles."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import jax.numpy as jnp
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bayesclust import GaussianMixture, KMeans
from tests.estimators.conftest import MAKERS

NAMES = ["height", "width"]


def test_pipeline_and_clone(make: Any, X: np.ndarray) -> None:
    model = make(standardize=True)
    pipe = make_pipeline(StandardScaler(), model).fit(X)
    np.testing.assert_array_equal(pipe.predict(X), pipe[-1].labels_)
    copy = clone(pipe[-1])
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "labels_")


@pytest.mark.parametrize("name", ["kmeans", "minibatch"])
def test_set_output(name: str, X: np.ndarray) -> None:
    model = MAKERS[name]().fit(X)
    plain = model.transform(X)
    columns = [f"{type(model).__name__.lower()}{j}" for j in range(3)]
    for library, frame in (("pandas", pd.DataFrame), ("polars", pl.DataFrame)):
        out = model.set_output(transform=library).transform(X)
        assert isinstance(out, frame)
        assert list(out.columns) == list(model.get_feature_names_out()) == columns
        np.testing.assert_array_equal(out.to_numpy(), plain)


@pytest.mark.slow
def test_grid_search(X: np.ndarray) -> None:
    grid = {"n_components": [1, 3], "covariance_type": ["spherical"]}
    search = GridSearchCV(GaussianMixture(random_state=0), grid, cv=2).fit(X)
    assert search.best_params_["n_components"] == 3
    search = GridSearchCV(KMeans(random_state=0), {"n_clusters": [1, 3]}, cv=2).fit(X)
    assert search.best_params_ == {"n_clusters": 3}


def test_sample_weight_is_routed(make: Any, X: np.ndarray) -> None:
    weight = np.where(X[:, 0] > np.median(X[:, 0]), 5.0, 1.0)
    alone = make(1).fit(X, sample_weight=weight)
    plain = make(1).fit(X)
    with sklearn.config_context(enable_metadata_routing=True):
        model = make(1).set_fit_request(sample_weight=True)
        pipe = make_pipeline(StandardScaler(with_mean=False, with_std=False), model)
        pipe[0].set_fit_request(sample_weight=False)
        pipe.fit(X, sample_weight=weight)
    where = "means_" if isinstance(model, GaussianMixture) else "cluster_centers_"
    np.testing.assert_array_equal(getattr(pipe[-1], where), getattr(alone, where))
    assert abs(getattr(alone, where) - getattr(plain, where)).max() > 0.1


# -- what rows may come in ---------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_data_frames(make: Any, X: np.ndarray, library: str) -> None:
    frame: Any = pd.DataFrame(X, columns=NAMES)
    if library == "polars":
        frame = pl.DataFrame(X, schema=NAMES)
    elif library == "pyarrow":
        frame = pa.table({name: X[:, j] for j, name in enumerate(NAMES)})
    plain = make().fit(X)
    model = make().fit(frame)
    np.testing.assert_array_equal(model.labels_, plain.labels_)
    # The rows may lie column by column in memory, so sums may round otherwise.
    np.testing.assert_allclose(model.predict_proba(frame), plain.predict_proba(X), atol=1e-12)
    assert list(model.feature_names_in_) == NAMES
    for group in ("posterior", "constant_data", "observed_data"):
        assert list(model.posterior_[group]["feature"].values) == NAMES
    assert list(model.summary().columns[-2:]) == [f"mean({name})" for name in NAMES]
    assert isinstance(model.scorecard(frame), type(frame))


def test_pandas_index_names_the_rows(X: np.ndarray) -> None:
    index = [f"row {i}" for i in range(len(X))]
    frame = pd.DataFrame(X, columns=NAMES, index=index)
    model = MAKERS["kmeans"]().fit(frame)
    assert list(model.posterior_["membership"]["obs"].values) == index
    part = frame.iloc[[7, 3]]
    assert list(model.membership(part)["obs"].values) == ["row 7", "row 3"]
    assert list(model.scorecard(part).index) == ["row 7", "row 3"]


def test_columns_that_are_numbers_go_by_place(X: np.ndarray) -> None:
    frame = pd.DataFrame(X)
    model = MAKERS["kmeans"]().fit(frame)
    assert not hasattr(model, "feature_names_in_")
    np.testing.assert_array_equal(model.clustering_.predict(frame), model.labels_)


def test_jax_arrays_and_lists(make: Any, X: np.ndarray) -> None:
    X = X.astype(np.float32)
    plain = make().fit(X).predict_proba(X)
    ours = jnp.asarray(X)
    np.testing.assert_array_equal(make().fit(ours).predict_proba(ours), plain)
    rows = X.astype(np.float64)
    np.testing.assert_array_equal(make().fit(rows.tolist()).labels_, make().fit(rows).labels_)


# -- before the fit ----------------------------------------------------------------------------


METHODS = ["predict", "predict_proba", "membership", "scorecard", "score"]


def test_not_fitted(make: Any, X: np.ndarray) -> None:
    model = make()
    names = ["labels_", "posterior_", "clustering_", "n_iter_", "means_", "cluster_centers_"]
    for name in names:
        with pytest.raises(NotFittedError, match="fit") as error:
            getattr(model, name)
        assert isinstance(error.value, AttributeError)
        assert not hasattr(model, name)
    methods = [*METHODS, "transform"] if isinstance(model, KMeans) else [*METHODS, "bic", "aic"]
    for name in methods:
        with pytest.raises(NotFittedError, match="fit"):
            getattr(model, name)(X)
    for call in (model.summary, model.diagnose, model.standard_errors, lambda: model.save("x")):
        with pytest.raises(NotFittedError, match="fit"):
            call()
    with pytest.raises(AttributeError, match="no attribute 'labels'"):
        _ = model.labels
    model.fit(X)
    with pytest.raises(AttributeError, match="no attribute 'label_'") as error:
        _ = model.label_
    assert not isinstance(error.value, NotFittedError)


# -- chance and persistence --------------------------------------------------------------------


def test_an_int_repeats_and_a_generator_moves_on(make: Any) -> None:
    X = np.random.default_rng(0).random((60, 2))  # no clusters: every start ends elsewhere
    k = 8
    settings: dict[str, Any] = {"n_init": 1}
    if isinstance(make(), GaussianMixture):
        settings |= {"init_params": "random", "covariance_type": "spherical"}
    one, two = make(k, **settings).fit(X), make(k, **settings).fit(X)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    other = make(k, **settings).set_params(random_state=1).fit(X)
    assert (one.predict_proba(X) != other.predict_proba(X)).any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generator = np.random.RandomState(0)
        first = make(k, **settings).set_params(random_state=generator).fit(X).predict_proba(X)
        second = make(k, **settings).set_params(random_state=generator).fit(X).predict_proba(X)
        again = make(k, **settings).set_params(random_state=np.random.RandomState(0)).fit(X)
    assert (first != second).any()
    np.testing.assert_array_equal(first, again.predict_proba(X))


def test_a_second_fit_has_labels_of_its_own(make: Any, X: np.ndarray) -> None:
    model = make().fit(X)
    assert model.labels_.shape == (len(X),)
    few = X[:20]
    assert model.fit(few).labels_.shape == (20,)
    np.testing.assert_array_equal(model.labels_, model.predict(few))


@pytest.mark.parametrize("settings", [{}, {"uncertainty": "bootstrap", "num_draws": 4}])
def test_pickle_and_joblib(make: Any, X: np.ndarray, settings: Any, tmp_path: Any) -> None:
    model = make(**settings).fit(X)
    joblib.dump(model, tmp_path / "model.joblib")
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(copy.predict(X), model.predict(X))
        pd.testing.assert_frame_equal(copy.scorecard(X), model.scorecard(X))
        np.testing.assert_array_equal(copy.labels_, model.labels_)
