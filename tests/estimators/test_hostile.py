"""Degenerate and hostile input: a clear refusal that leaves nothing behind, or the right answer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from bayesclust import GaussianMixture, KMeans
from bayesclust.estimators import _base
from tests.estimators.conftest import MAKERS
from tests.problems import blobs, slowly

DRAWN: dict[str, Any] = {"uncertainty": "bootstrap", "num_draws": 4}


def k_name(model: Any) -> str:
    return "n_components" if isinstance(model, GaussianMixture) else "n_clusters"


def centers(model: Any) -> np.ndarray:
    return model.means_ if hasattr(model, "means_") else model.cluster_centers_


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    """Sixty rows in three clusters that nobody can mistake."""
    return clear()


def clear(dtype: str = "float64") -> np.ndarray:
    middle = np.array([[0.0, 0.0], [10.0, 4.0], [-4.0, 12.0]])
    return (middle[np.arange(60) % 3] + np.random.default_rng(0).normal(size=(60, 2))).astype(dtype)


def with_cell(value: float) -> np.ndarray:
    X = clear()
    X[7, 1] = value
    return X


# -- refused -----------------------------------------------------------------------------------

BAD_ROWS = {
    "nan": (lambda: with_cell(np.nan), "NaN"),
    "infinity": (lambda: with_cell(-np.inf), "infinity"),
    "no rows": (lambda: np.zeros((0, 2)), "0 sample"),
    "no columns": (lambda: np.zeros((60, 0)), "0 feature"),
    "one axis": (lambda: np.zeros(60), "Reshape your data"),
    "three axes": (lambda: np.zeros((60, 2, 2)), "dim 3"),
    "complex": (lambda: blobs(60)[0] + 1j, "Complex data not supported"),
    "words": (lambda: np.array([["a", "b"]] * 60, object), "could not convert string to float"),
    "nothing": (lambda: None, "Expected 2D array|array"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows(make: Any, case: str) -> None:
    rows, message = BAD_ROWS[case]
    model = make()
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(rows())
    assert_unfitted(model)


def assert_same(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def assert_unfitted(model: Any) -> None:
    left = set(vars(model)) - set(model.get_params())
    assert not left
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((3, 2)))


BAD_WEIGHTS = {
    "negative": (lambda n: -np.ones(n), "sample_weight.*negative.*drop or clip"),
    "one negative": (lambda n: np.r_[np.ones(n - 1), -1e-3], "sample_weight.*negative"),
    "all zero": (lambda n: np.zeros(n), "sample_weight is zero.*positive"),
    "nan": (lambda n: np.full(n, np.nan), "sample_weight.*NaN"),
    "infinite": (lambda n: np.full(n, np.inf), "sample_weight.*infinity"),
    "too short": (lambda n: np.ones(n - 1), "sample_weight"),
    "two axes": (lambda n: np.ones((n, 2)), "[Ss]ample.weight"),
    "too few positive": (lambda n: np.eye(n)[0], "n_samples=1 of positive weight.*=3.*fewer"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(make: Any, X: np.ndarray, case: str) -> None:
    weights, message = BAD_WEIGHTS[case]
    model = make()
    with pytest.raises(ValueError, match=message):
        model.fit(X, sample_weight=weights(len(X)))
    assert_unfitted(model)


BAD_SETTINGS = {
    "k zero": lambda m: {k_name(m): 0},
    "k negative": lambda m: {k_name(m): -3},
    "k a float": lambda m: {k_name(m): 2.5},
    "max_iter": lambda m: {"max_iter": 0},
    "n_init": lambda m: {"n_init": 0},
    "tol": lambda m: {"tol": -1.0},
    "standardize": lambda m: {"standardize": "yes"},
    "uncertainty": lambda m: {"uncertainty": "bootstrp"},
    "num_draws": lambda m: {"num_draws": 1},
    "random_state": lambda m: {"random_state": "zero"},
    "start": lambda m: {"init_params" if k_name(m) == "n_components" else "init": "k-mean"},
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings(make: Any, X: np.ndarray, case: str) -> None:
    model = make()
    settings = BAD_SETTINGS[case](model)
    model.set_params(**settings)
    name = next(iter(settings))
    with pytest.raises((ValueError, TypeError), match=f"'{name}' parameter .* must be"):
        model.fit(X)
    assert_unfitted(model)


BAD_STARTS: list[tuple[str, dict[str, Any], str]] = [
    ("kmeans", {"init": np.zeros((2, 2))}, r"init.*\(2, 2\).*\(3, 2\)"),
    ("kmeans", {"init": np.full((3, 2), np.nan)}, "init holds NaN.*finite"),
    ("minibatch", {"init": np.zeros((3, 1))}, "init"),
    ("mixture", {"covariance_type": "round"}, "covariance_type.*must be"),
    ("mixture", {"reg_covar": -1.0}, "reg_covar"),
    ("mixture", {"weight_concentration": 0.0}, "weight_concentration"),
    ("mixture", {"means_init": np.zeros((2, 2))}, "means_init has shape"),
    ("mixture", {"weights_init": [0.5, 0.5, 0.5]}, "weights_init.*sum to 1.*divide"),
    ("mixture", {"weights_init": [1.5, -0.5, 0.0]}, "weights_init.*non-negative"),
    ("mixture", {"precisions_init": np.zeros((3, 2, 2))}, "precisions_init.*positive definite"),
    ("mixture", {"precisions_init": np.ones((3, 2))}, "precisions_init has shape"),
]


@pytest.mark.parametrize(("name", "settings", "message"), BAD_STARTS)
def test_bad_starts(name: str, settings: Any, message: str, X: np.ndarray) -> None:
    model = MAKERS[name](**settings)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert_unfitted(model)


def test_fewer_rows_than_clusters(make: Any, X: np.ndarray) -> None:
    model = make(5)
    with pytest.raises(ValueError, match=rf"n_samples=4 should be >= {k_name(model)}=5: .*fewer"):
        model.fit(X[:4])
    assert_unfitted(model)


def test_a_failed_fit_leaves_the_last_one(make: Any, X: np.ndarray) -> None:
    model = make().fit(X)
    labels = model.labels_.copy()
    before = vars(model).copy()
    with pytest.raises(ValueError, match="NaN"):
        model.fit(pd.DataFrame(with_cell(np.nan), columns=["a", "b"]))
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X[:, :1], sample_weight=np.zeros(60))
    assert_same(vars(model), before)
    np.testing.assert_array_equal(model.predict(X), labels)


@pytest.mark.parametrize("name", ["kmeans", "mixture"])
def test_interrupted(name: str, X: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    model, fitted = MAKERS[name](**DRAWN), MAKERS[name](**DRAWN).fit(X)
    before = vars(fitted).copy()
    monkeypatch.setattr(_base.Bootstrap, "run", interrupt)
    for m in (model, fitted):
        with pytest.raises(KeyboardInterrupt):
            m.fit(X)
    assert_unfitted(model)
    assert_same(vars(fitted), before)


def test_bad_rows_to_score(make: Any, X: np.ndarray) -> None:
    model = make().fit(X)
    calls = [model.predict, model.predict_proba, model.score, model.membership, model.scorecard]
    for call in calls:
        with pytest.raises(ValueError, match=r"X has 1 features, but .* is expecting 2 features"):
            call(X[:, :1])
        with pytest.raises(ValueError, match="NaN"):
            call(with_cell(np.nan))
    for level in (0, 1, -0.5, "0.9", None):
        with pytest.raises(ValueError, match=r"level=.* between 0 and 1"):
            model.membership(X, level)
    for to in (3, -1, 1.5, "1"):
        with pytest.raises(ValueError, match=r"to=.* no cluster.*0 .. 2"):
            model.membership(X, to=to)
    clustering = model.clustering_
    for call in (clustering.predict, clustering.membership):
        with pytest.raises(ValueError, match=r"shape.*expected"):
            call(X[:, :1])
        with pytest.raises(ValueError, match="shape"):
            call(X[0])
        with pytest.raises(ValueError, match="NaN or infinity"):
            call(with_cell(np.inf))
        with pytest.raises(ValueError, match="numeric"):
            call(np.array([["a", "b"]], object))


def test_wrong_names_to_score(make: Any, X: np.ndarray) -> None:
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = make().fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"b": "c"}))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a"]])
    with pytest.raises(ValueError, match=r"lacks the columns \['b'\].*Rename"):
        model.clustering_.predict(frame.rename(columns={"b": "c"}))
    swapped = model.clustering_.predict(frame[["b", "a"]])  # picked by name
    np.testing.assert_array_equal(swapped, model.labels_)


# -- degenerate ----------------------------------------------------------------------------------


def assert_finite(model: Any, X: np.ndarray) -> None:
    answer = model.membership(X)
    for name in ("probability", "tail_probability", "entropy", "log_density", "density_rank"):
        assert np.isfinite(answer[name]).all(), name
    assert not np.isnan(answer["margin"]).any()
    np.testing.assert_allclose(answer["probability"].sum("cluster"), 1, atol=1e-6)
    assert np.isfinite(centers(model)).all()
    assert np.isfinite(model.score(X))


def test_as_many_clusters_as_rows(make: Any, X: np.ndarray) -> None:
    rows = X[:6]
    model = make(6).fit(rows)
    assert sorted(model.labels_) == list(range(6))
    np.testing.assert_allclose(centers(model)[model.labels_], rows, atol=1e-6)
    assert_finite(model, rows)
    if isinstance(model, GaussianMixture):
        assert model.n_floored_ == 6
        assert "6 of 6" in model.diagnose()[0]
    else:
        assert model.inertia_ == pytest.approx(0, abs=1e-12)


def test_duplicates(make: Any) -> None:
    rows = np.repeat([[0.0, 0.0], [5.0, 1.0], [9.0, -3.0]], 20, axis=0)
    model = make().fit(rows)
    np.testing.assert_array_equal(model.labels_, np.repeat([0, 1, 2], 20))
    np.testing.assert_allclose(centers(model), rows[::20], atol=1e-6)
    assert_finite(model, rows)


@pytest.mark.parametrize("weighted", [False, True])
def test_fewer_distinct_rows_than_clusters(weighted: bool) -> None:
    rows = np.repeat([[0.0, 0.0], [5.0, 1.0], [9.0, -3.0]], 20, axis=0)
    weight = np.repeat([1.0, 2.0, 0.0], 20) if weighted else None
    distinct = 2 if weighted else 3
    for name in MAKERS:
        model = MAKERS[name](5)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(rows, sample_weight=weight)
        assert [w.category for w in caught] == [ConvergenceWarning]
        assert f"only {distinct} distinct rows" in str(caught[0].message)
        assert caught[0].filename == __file__
        assert f"{k_name(model)}={distinct}" in str(caught[0].message)
        if name != "mixture":  # whose components may share a row
            seen = model.labels_ if weight is None else model.labels_[weight > 0]
            assert len(np.unique(seen)) == distinct
        assert any("distinct rows" in line for line in model.diagnose())
        assert_finite(model, rows)


@pytest.mark.parametrize("kind", slowly(["full", "tied", "diag", "spherical"], {"tied"}))
def test_constant_and_collinear_columns(kind: str, X: np.ndarray) -> None:
    truth = MAKERS["mixture"](covariance_type=kind).fit(X)
    wide = np.column_stack([X, np.full(60, 7.0), X.sum(axis=1)])
    model = MAKERS["mixture"](covariance_type=kind).fit(wide)
    np.testing.assert_array_equal(model.labels_, truth.labels_)
    assert_finite(model, wide)
    assert truth.n_floored_ == 0
    assert not truth.diagnose()
    assert model.n_floored_ == (0 if kind == "spherical" else 3)


def test_constant_columns_to_kmeans(X: np.ndarray) -> None:
    wide = np.column_stack([X, np.full(60, 7.0), X.sum(axis=1)])
    for name in ("kmeans", "minibatch"):
        for standardize in (False, True):
            model = MAKERS[name](standardize=standardize).fit(wide)
            np.testing.assert_array_equal(model.labels_, MAKERS[name]().fit(X).labels_)
            np.testing.assert_allclose(model.cluster_centers_[:, 2], 7.0)
            assert_finite(model, wide)


def test_all_rows_alike(make: Any) -> None:
    rows = np.full((60, 2), 3.0)
    model = make(1).fit(rows)
    np.testing.assert_allclose(centers(model), 3.0)
    assert_finite(model, rows)


@pytest.mark.parametrize(("dtype", "offset"), [("float64", 1e8), ("float32", 1e6)])
@pytest.mark.parametrize("settings", [{}, {"standardize": True}], ids=["plain", "standardized"])
def test_offset(make: Any, dtype: str, offset: float, settings: Any) -> None:
    # Thirds of a unit would be lost to float32 beyond the offset.
    X = np.round(clear() * 4) / 4
    near = X.astype(dtype)
    far = (X + offset).astype(dtype)
    plain, moved = make(**settings).fit(near), make(**settings).fit(far)
    np.testing.assert_array_equal(moved.labels_, plain.labels_)
    np.testing.assert_array_equal(moved.predict(far), plain.labels_)
    assert_finite(moved, far)
    np.testing.assert_allclose(moved.predict_proba(far), plain.predict_proba(near), atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scale(make: Any, dtype: str, scale: float) -> None:
    X = clear(dtype)
    plain, scaled = make().fit(X), make().fit(X * np.asarray(scale, dtype))
    np.testing.assert_array_equal(scaled.labels_, plain.labels_)
    rows = X * np.asarray(scale, dtype)
    np.testing.assert_allclose(scaled.predict_proba(rows), plain.predict_proba(X), atol=1e-3)
    assert_finite(scaled, rows)


@pytest.mark.parametrize(
    "kind", slowly(["full", "tied", "diag", "spherical", None], {"full", None})
)
@pytest.mark.parametrize(
    "settings", [{}, pytest.param(DRAWN, marks=pytest.mark.slow)], ids=["point", "drawn"]
)
def test_tight_and_far_apart_in_float32(kind: str | None, settings: Any) -> None:
    """Clusters 0.1 wide, two of them 3 apart, the third 5000 away."""
    rng = np.random.default_rng(0)
    z = np.repeat([0, 1, 2], 20)
    middle = np.array([[0.0, 0.0], [3.0, 0.0], [5_000.0, 0.0]])
    X = (middle[z] + 0.1 * rng.normal(size=(60, 2))).astype(np.float32)
    name = "kmeans" if kind is None else "mixture"
    # The default floor, a thousandth of a column's spread, is wider than what is near.
    extra = {} if kind is None else {"covariance_type": kind, "reg_covar": 1e-14}
    with warnings.catch_warnings():
        # The third cluster makes its column wide; here that is meant.
        warnings.filterwarnings("ignore", "column standard deviations", UserWarning)
        model = MAKERS[name](**extra, **settings).fit(X)
    np.testing.assert_array_equal(model.labels_, z)
    answer = model.membership(X)
    np.testing.assert_array_equal(answer["label"], z)
    assert (answer["probability"].max("cluster") > 0.99).all()
    assert model.predict_proba(X).dtype == centers(model).dtype == np.float32
    # No row is outlying: the tails are those of a sample, not of rounding.
    own = answer["tail_probability"].values[np.arange(60), z]
    assert 0.3 < own.mean() < 0.7
    assert own.min() > 1e-5


def test_what_em_redid_in_double_precision_is_scored_in_it() -> None:
    rng = np.random.default_rng(0)
    z = np.repeat([0, 1, 2], 20)
    X = (np.array([0.0, 3.0, 5_000.0])[z] + 0.1 * rng.normal(size=60))[:, None]
    X = np.concatenate([X, rng.normal(size=(60, 1))], axis=1).astype(np.float32)
    with pytest.warns(UserWarning, match="standardize"):
        narrow = MAKERS["mixture"](reg_covar=1e-12).fit(X)
    with pytest.warns(UserWarning, match="standardize"):
        wide = MAKERS["mixture"](reg_covar=1e-12).fit(X.astype(np.float64))
    assert narrow.clustering_.point.flags["widened"].all()
    assert narrow.clustering_.dtype == np.float64
    np.testing.assert_allclose(narrow.score_samples(X), wide.score_samples(X), rtol=1e-5)
    plain = MAKERS["mixture"]().fit(clear("float32"))
    assert "widened" not in plain.clustering_.point.flags
    assert plain.clustering_.dtype == np.float32


@pytest.mark.parametrize("settings", [{}, {"standardize": True}], ids=["plain", "standardized"])
def test_rows_of_weight_zero_are_absent(make: Any, X: np.ndarray, settings: Any) -> None:
    wild = np.array([[1e6, -1e6], [3e5, 0.0]])
    rows = np.concatenate([wild[:1], X[:30], wild[1:], X[30:]])
    weight = np.ones(62)
    weight[[0, 31]] = 0
    plain = make(**settings).fit(X)
    model = make(**settings).fit(rows, sample_weight=weight)
    np.testing.assert_array_equal(model.labels_[weight > 0], plain.labels_)
    np.testing.assert_allclose(centers(model), centers(plain), rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), atol=1e-9)
    ranks = model.membership(X)["density_rank"], plain.membership(X)["density_rank"]
    np.testing.assert_allclose(*ranks, atol=1 / 59)
    sizes = model.summary()["size"]
    np.testing.assert_array_equal(sizes, plain.summary()["size"])


@pytest.mark.parametrize(
    "settings", [{}, pytest.param(DRAWN, marks=pytest.mark.slow)], ids=["point", "drawn"]
)
def test_one_feature(make: Any, X: np.ndarray, settings: Any) -> None:
    rows = X[:, :1]
    model = make(2, **settings).fit(rows)
    assert sorted(np.unique(model.labels_)) == [0, 1]
    assert_finite(model, rows)


@pytest.mark.slow
def test_more_features_than_rows(make: Any) -> None:
    rows, z = blobs(12, 20, 2, separation=3.0)
    model = make(2).fit(rows)
    assert ((model.labels_ == z).all()) or ((model.labels_ == 1 - z).all())
    assert_finite(model, rows)


def test_one_cluster(make: Any, X: np.ndarray) -> None:
    model = make(1).fit(X)
    np.testing.assert_allclose(centers(model)[0], X.mean(axis=0))
    answer = model.membership(X)
    assert (answer["probability"] == 1).all()
    assert (answer["entropy"] == 0).all()
    assert (answer["margin"] == np.inf).all()
    assert (model.labels_ == 0).all()


@pytest.mark.slow
@settings(max_examples=6)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=12, max_size=12),
    st.sampled_from([1, 3, 5]),
)
def test_never_nan_and_exactly_k(rows: list[tuple[int, int]], k: int) -> None:
    X = np.array(rows, float)
    distinct = len(np.unique(X, axis=0))
    for name, make in MAKERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", UserWarning)
            model = make(k, **({"max_iter": 50} if name == "mixture" else {})).fit(X)
        assert_finite(model, X)
        assert centers(model).shape == (k, 2)
        assert ((0 <= model.labels_) & (model.labels_ < k)).all()
        if isinstance(model, KMeans) and name == "kmeans":
            assert len(np.unique(model.labels_)) == min(k, distinct)
