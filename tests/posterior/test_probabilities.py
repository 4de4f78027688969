"""Probabilities are probabilities, for any row at any distance; rows that overflow are refused."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.stats import multivariate_normal

from bayesclust import BayesianMixture, FullGaussian, GaussianMixture, Gibbs, KMeans, Mixture
from bayesclust.core.assign import soft
from bayesclust.core.simplex import entropy, log_sum_exp, softmax
from tests.problems import blobs, slowly

NAMES = ["height", "width"]
FARTHEST = {"float32": 18.0, "float64": 150.0}
"""Powers of ten of standard deviations whose squares are numbers."""

BATCHES = (1, 6, 600)
DRAWN: dict[str, Any] = {"uncertainty": "bootstrap", "num_draws": 8}
MODELS: dict[str, Any] = {
    "kmeans": KMeans(3, random_state=0),
    "kmeans-drawn": KMeans(3, random_state=0, **DRAWN),
    "full": GaussianMixture(2, random_state=0),
    "full-drawn": GaussianMixture(2, random_state=0, **DRAWN),
    "tied": GaussianMixture(2, covariance_type="tied", random_state=0),
    "diag": GaussianMixture(2, covariance_type="diag", random_state=0),
    "spherical": GaussianMixture(2, covariance_type="spherical", random_state=0),
    "many": GaussianMixture(50, init_params="random_from_data", tol=1e9, random_state=0),
    "bayes": BayesianMixture(2, engine=Gibbs(20, 4, 2), random_state=0),
}


@pytest.fixture(scope="module")
def fits() -> dict[Any, Any]:
    """Fits by name and precision, made when first asked for."""

    class Fits(dict[Any, Any]):
        def __missing__(self, key: tuple[str, str]) -> Any:
            X = blobs(200, separation=2.0, seed=3)[0].astype(key[1])
            self[key] = type(MODELS[key[0]])(**MODELS[key[0]].get_params()).fit(frame(X))
            return self[key]

    return Fits()


@pytest.fixture(params=slowly(MODELS, {"full", "full-drawn", "kmeans"}), scope="module")
def name(request: Any) -> str:
    return request.param


def frame(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=NAMES)


def laws(model: Any, X: Any) -> None:
    """All that must hold of the answers to any rows."""
    X = frame(X)
    n, k = len(X), model.clustering_.n_clusters
    eps = float(np.finfo(model.clustering_.dtype).eps)
    answer = model.membership(X)
    p = answer["probability"].values
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=4 * k * eps)
    np.testing.assert_allclose(model.predict_proba(X), p, atol=16 * eps)
    for name in ("entropy", "entropy_overlap", "entropy_ignorance"):
        value = answer[name].values
        assert not np.signbit(value[~np.isnan(value)]).any(), name
    if model.clustering_.draws is not None:
        both = answer["entropy_overlap"] + answer["entropy_ignorance"]
        np.testing.assert_allclose(both, answer["entropy"], rtol=4 * eps)
        assert (answer["lower"] <= answer["probability"]).all()
        assert (answer["probability"] <= answer["upper"]).all()
        assert answer["lower"].min() >= 0
        assert answer["upper"].max() <= 1
        assert answer["vote_share"].values.min() >= 0
    tail = answer["tail_probability"].values
    assert ((tail >= 0) & (tail <= 1)).all()
    assert np.isfinite(answer["log_density"]).all()
    assert not answer["margin"].isnull().any()
    label = answer["label"].values
    np.testing.assert_array_equal(model.predict(X), label)
    if not model.clustering_.hard:
        np.testing.assert_array_equal(p.argmax(axis=1), label)
    drawn = model.clustering_.label_draws(X)["label"].values
    assert drawn.shape[2] == n
    assert (drawn >= 0).all() and (drawn < k).all()
    assert np.isfinite(model.clustering_.log_likelihood(X)["x"]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=6)
@given(data=st.data())
def test_at_any_distance(fits: Any, name: str, dtype: str, data: Any) -> None:
    model = fits[name, dtype]
    seed = data.draw(st.integers(0, 2**31))
    power = data.draw(st.floats(0, FARTHEST[dtype] - 0.5))
    n = data.draw(st.sampled_from(BATCHES))
    direction = np.random.default_rng(seed).normal(size=(n, 2)).clip(-3, 3)
    laws(model, (direction * 10.0**power).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rows_of_the_report(fits: Any, dtype: str) -> None:
    """Ten thousand standard deviations out, in batches of every length."""
    rng = np.random.default_rng(0)
    for power in (2, 4, 7, 15):
        for n in BATCHES:
            laws(fits["full", dtype], (rng.normal(size=(n, 2)) * 10.0**power).astype(dtype))


def test_far_memberships_are_those_of_double_precision(fits: Any) -> None:
    model = fits["full", "float64"]
    rows = np.random.default_rng(1).normal(size=(600, 2)) * 30
    joint = [
        np.log(w) + multivariate_normal(m, c).logpdf(rows)
        for w, m, c in zip(model.weights_, model.means_, model.covariances_, strict=True)
    ]
    expected = np.exp(log_softmax(np.stack(joint, axis=1), axis=1))
    np.testing.assert_allclose(model.predict_proba(frame(rows)), expected, atol=1e-9)


def test_responsibilities_inside_programs_sum_to_one(fits: Any) -> None:
    """Of mixtures, and of the sweeps of the engines: one set of scores for all uses of it."""
    model = fits["full", "float32"].clustering_.point_model
    params, log_weights = {n: v[0] for n, v in model.params.items()}, model.log_weights[0]
    rows = (np.random.default_rng(0).normal(size=(600, 2)) * 1e4).astype(np.float32)
    mixture = Mixture(FullGaussian(), 2)

    @jax.jit
    def sweep(x: Any) -> Any:
        prepared = mixture.family.prepare(params)
        return soft(mixture.family.score(prepared, x.T) + log_weights[:, None], jnp.int32(0))

    resp, value = sweep(rows)
    p = jax.jit(lambda x: mixture.responsibilities(params, log_weights, x))(rows)
    for found in (np.asarray(resp).T, np.asarray(p)):
        assert (found >= 0).all() and (found <= 1 + 1e-6).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    density = jax.jit(lambda x: mixture.log_density(params, log_weights, x))(rows)
    np.testing.assert_allclose(value, density, rtol=1e-5)


@given(
    st.lists(st.floats(-(2.0**126), 2.0**126, width=32), min_size=1, max_size=50),
    st.integers(0, 50),
)
def test_softmax_is_a_distribution(scores: list[float], inactive: int) -> None:
    array = np.full(50, -np.inf, np.float32)
    array[: len(scores)] = scores
    array[1 : 1 + min(inactive, len(scores) - 1)] = -np.inf
    p = np.asarray(softmax(array))
    assert ((p >= 0) & (p <= 1)).all()
    assert abs(float(p.astype(np.float64).sum()) - 1) < 1e-5
    assert p[array.argmax()] == p.max()
    assert (p[np.isneginf(array)] == 0).all()
    assert not np.signbit(np.asarray(entropy(p)))
    assert np.isfinite(np.asarray(log_sum_exp(array)))


# -- rows that overflow ----------------------------------------------------------------------------

FILL = 9.969209968386869e36
"""What netCDF writes where a float is missing."""

ANSWERS = {
    "predict": lambda m, X: m.predict(X),
    "predict_proba": lambda m, X: m.predict_proba(X),
    "scorecard": lambda m, X: m.scorecard(X),
    "membership": lambda m, X: m.membership(X, to=0),
    "label_draws": lambda m, X: m.clustering_.label_draws(X),
    "log_likelihood": lambda m, X: m.clustering_.log_likelihood(X),
    "log_density": lambda m, X: m.clustering_.log_density(X),
    "of the clustering": lambda m, X: m.clustering_.predict(X),
    "score": lambda m, X: m.score(X),
}
OF_MIXTURES = {"score_samples": lambda m, X: m.score_samples(X)}
OF_POINTS = {"icl": lambda m, X: m.icl(X), "bic": lambda m, X: m.bic(X)}
OF_KMEANS = {
    "transform": lambda m, X: m.transform(X),
    "distances": lambda m, X: m.clustering_.distances(X),
}
OF_DRAWS = {
    "loo": lambda m, X: m.clustering_.loo(X),
    "realigned": lambda m, X: m.clustering_.realigned(X=X),
}


def answers_of(name: str) -> dict[str, Any]:
    kmeans = name.startswith("kmeans")
    calls = ANSWERS | (OF_KMEANS if kmeans else OF_MIXTURES)
    if name == "full-drawn":
        calls = calls | OF_POINTS | OF_DRAWS
    return calls


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", np.float32(FILL)),
        ("float32", -3e38),
        ("float32", np.float64(1e200)),
        ("float64", 1e200),
        ("float64", -1.7e308),
    ],
)
def test_a_row_that_overflows_is_refused_by_name(
    fits: Any, name: str, dtype: str, value: Any
) -> None:
    model = fits[name, dtype]
    X = np.zeros((20, 2), np.result_type(dtype, np.asarray(value).dtype))
    X[13, 1] = value
    with_names = pd.DataFrame(X, columns=NAMES, index=[f"day {i}" for i in range(20)])
    plain = with_names.reset_index(drop=True)
    for call in answers_of(name).values():
        with pytest.raises(ValueError, match=r"row 13 of X has .* 'width'.*overflows in " + dtype):
            call(model, plain)
        with pytest.raises(ValueError, match=r"row 13 \('day 13'\) of X has .* 'width'") as caught:
            call(model, with_names)
    # Errors travel between processes.
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_sides_of_the_limit(fits: Any, name: str, dtype: str) -> None:
    """A row is answered as long as its squared distance is a number."""
    model = fits[name, dtype]
    root = float(np.sqrt(np.finfo(dtype).max))
    near, far = np.zeros((2, 20, 2), dtype)
    near[7, 0], far[7, 0] = 1e-3 * root, 1e3 * root
    laws(model, near)
    for call in answers_of(name).values():
        with pytest.raises(ValueError, match="row 7 of X"):
            call(model, frame(far))


def test_limits_hold_in_rows_of_several_chunks(fits: Any) -> None:
    model = fits["full", "float32"]
    X = np.zeros((20_000, 2), np.float32)
    X[17_000, 0] = FILL
    with pytest.raises(ValueError, match="row 17000 of X"):
        model.predict(frame(X))


# -- rows unlike any cluster -----------------------------------------------------------------------


# Not "many": its clusters have no rows to speak of.
@pytest.mark.parametrize(
    "name", slowly([m for m in MODELS if m != "many"], {"full", "full-drawn", "kmeans"})
)
def test_outliers_are_flagged(fits: Any, name: str) -> None:
    model = fits[name, "float64"]
    rows = np.concatenate([np.zeros((10, 2)), np.full((10, 2), 1e3)])
    answer = model.membership(frame(rows))
    tail = answer["tail_probability"].max("cluster")
    np.testing.assert_array_equal(answer["outlier"], tail < 1e-3)
    assert answer["outlier"].values[10:].all()
    card = model.scorecard(frame(rows))
    assert card["outlier"].dtype == bool
    np.testing.assert_array_equal(card["outlier"], answer["outlier"])


def test_few_members_are_called_outliers() -> None:
    """At most one in a thousand of a fitted normal cluster; here about that, by the chi-squared."""
    X = np.random.default_rng(0).normal(size=(20_000, 2))
    model = GaussianMixture(1, random_state=0).fit(X)
    count = int(model.membership(X)["outlier"].sum())
    assert abs(count - 20) < 5 * np.sqrt(20)
    few = np.concatenate([np.clip(X[:500], -2, 2), [[50.0, 50.0]]])
    fitted = GaussianMixture(1, random_state=0).fit(few[:-1])
    assert "unlike any cluster" not in repr(fitted.summary())
    assert "1 row is unlike any cluster" in repr(GaussianMixture(1).fit(few).summary())
