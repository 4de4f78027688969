"""A fit keeps its data, X is read once, and nothing outside of the estimator is touched."""

from __future__ import annotations

import os
import pickle
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bayesclust import (
    BayesianMixture,
    FullGaussian,
    GaussianMixture,
    Gibbs,
    KMeans,
    MiniBatchKMeans,
    align,
    load,
)
from bayesclust.families import NormalInverseWishart
from bayesclust.weights import Dirichlet
from tests.problems import blobs

DRAWN: dict[str, Any] = {"uncertainty": "bootstrap", "num_draws": 4}

MAKERS: dict[str, Callable[[], Any]] = {
    "kmeans": lambda: KMeans(3, random_state=0),
    "kmeans, drawn": lambda: KMeans(3, random_state=0, **DRAWN),
    "minibatch": lambda: MiniBatchKMeans(3, random_state=0),
    "mixture": lambda: GaussianMixture(3, random_state=0),
    "mixture, drawn": lambda: GaussianMixture(3, random_state=0, **DRAWN),
    "bayes": lambda: BayesianMixture(3, engine=Gibbs(20, 20, 2), random_state=0),
}

X = blobs(60)[0]
X.flags.writeable = False
NAMES = ["height", "width"]


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return MAKERS[request.param]


@pytest.fixture(autouse=True)
def _short_chains() -> Any:
    """Twenty draws say little; that is not what is tested here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* of the draws do not match", UserWarning)
        yield


# -- a fit keeps its data ----------------------------------------------------------------------


def answers(model: Any, path: Path) -> dict[str, Any]:
    """All that reads the training rows again."""
    clustering, rows = model.clustering_, X.astype(model.clustering_.dtype)
    out: dict[str, Any] = {
        "labels_": model.labels_,
        "labels": clustering.labels,
        "density_rank": model.membership(pd.DataFrame(rows, columns=clustering.features))[
            "density_rank"
        ]
        if clustering.features == NAMES
        else model.membership(rows)["density_rank"],
        "summary": model.summary().to_numpy(),
        "diagnose": model.diagnose(),
        "rows": clustering.rows,
        "training rows": clustering.training_rows(10),
        "align": align(model, to=model)[1]["overlap"],
    }
    if clustering.draws is not None:
        out["realigned"] = clustering.realigned("stephens").alignment.permutation
        out["log_likelihood"] = clustering.log_likelihood()["x"]
    for name, group in (("saved", load_saved(model, path)), ("tree", clustering.tree)):
        data = group["observed_data"].dataset
        out |= {f"{name} {n}": np.array(v) for n, v in data.variables.items()}
        out[f"{name} label"] = np.array(group["membership"]["label"])
    return out


def load_saved(model: Any, path: Path) -> Any:
    model.save(path)
    return load(path).tree


def assert_alike(now: dict[str, Any], then: dict[str, Any]) -> None:
    assert now.keys() == then.keys()
    for name, value in then.items():
        np.testing.assert_array_equal(np.asarray(now[name]), np.asarray(value), err_msg=name)


KINDS: dict[str, Callable[[], Any]] = {
    "rows first": lambda: X.copy(),
    "columns first": lambda: np.asfortranarray(X),
    "float32": lambda: X.astype(np.float32),
    "a view": lambda: np.concatenate([X, X])[::2][:60],
    "a frame": lambda: pd.DataFrame(X.copy(), columns=NAMES, index=np.arange(60) + 7),
}


def spoil(rows: Any) -> None:
    """Overwrite the memory of what was given, whoever owns it."""
    if isinstance(rows, pd.DataFrame):
        for memory in (rows.to_numpy(), np.asarray(rows.index)):
            memory.flags.writeable = True
            memory[:] = 0
        rows["height"] = 0.0
        return
    rows *= 0


QUICK = [("kmeans", "a frame"), ("mixture", "float32")]

CASES = [
    pytest.param(
        name,
        kind,
        marks=[] if (name, kind) in QUICK or kind == "rows first" else pytest.mark.slow,
    )
    for name in MAKERS
    for kind in KINDS
    if kind in ("rows first", "a frame") or name in ("kmeans", "mixture")
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_the_caller_does_afterwards_changes_nothing(
    name: str, kind: str, tmp_path: Path
) -> None:
    make, rows = MAKERS[name], KINDS[kind]()
    weight = np.ones(60)
    weight[:5] = 2
    plain = make().fit(rows, sample_weight=weight)
    before = answers(plain, tmp_path / "before.nc")
    given, its_weight = KINDS[kind](), weight.copy()
    model = make().fit(given, sample_weight=its_weight)
    spoil(given)
    its_weight *= 0
    assert_alike(answers(model, tmp_path / "after.nc"), before)
    # And again, once the tree has been built.
    assert_alike(answers(model, tmp_path / "again.nc"), before)


def test_the_batch_of_a_stream(tmp_path: Path) -> None:
    given = X.copy()
    plain = MiniBatchKMeans(3, random_state=0).partial_fit(X.copy())
    model = MiniBatchKMeans(3, random_state=0).partial_fit(given)
    given *= 0
    assert_alike(answers(model, tmp_path / "a.nc"), answers(plain, tmp_path / "b.nc"))
    model.counts_[:] = 0
    model.cluster_centers_[:] = 0
    np.testing.assert_array_equal(
        model.partial_fit(X).cluster_centers_, plain.partial_fit(X).cluster_centers_
    )


def test_what_a_fit_hands_out_is_no_way_in(make: Any, tmp_path: Path) -> None:
    """Overwriting attributes and answers changes no other answer."""
    plain, model = make().fit(X), make().fit(X)
    handed = [getattr(model, n) for n in vars(model) if n.endswith("_")]
    handed += [model.labels_, model.clustering_.labels, model.clustering_.rows]
    handed += [model.clustering_.reference, model.clustering_.training_rows(60)]
    handed += [v.values for v in model.membership(X).variables.values()]
    for node in model.posterior_.subtree:
        handed += [v.data for v in node.dataset.variables.values()]
    written = 0
    for array in handed:
        if isinstance(array, np.ndarray) and array.flags.writeable and array.dtype.kind in "if":
            array[...] = 0
            written += 1
    assert written > 3
    vars(model).pop("labels_")
    model.labels_ = model.predict(X)
    assert_alike(answers(model, tmp_path / "a.nc"), answers(plain, tmp_path / "b.nc"))


def test_priors_of_the_caller(tmp_path: Path) -> None:
    def fitted() -> tuple[Any, list[np.ndarray]]:
        arrays = [np.zeros(2), 9 * np.eye(2), np.ones(3)]
        prior = NormalInverseWishart(mean=arrays[0], scale=arrays[1])
        model = BayesianMixture(
            3,
            family=FullGaussian(prior=prior),
            weights=Dirichlet(arrays[2]),
            engine=Gibbs(20, 20, 2),
            random_state=0,
        )
        return model.fit(X), arrays

    (plain, _), (model, arrays) = fitted(), fitted()
    for array in arrays:
        array += 100
    for one, other in zip(model.prior_predictive(2, 5), plain.prior_predictive(2, 5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_copy_is_made_only_of_what_is_shared() -> None:
    """Rows that reading has made anew are kept as they are, and everything kept is read-only."""
    for rows in (X, np.asfortranarray(X), X.tolist(), X.astype(object), jnp.asarray(X)):
        kept = KMeans(3, random_state=0).fit(rows).clustering_.rows
        assert not kept.flags.writeable
        assert not np.shares_memory(kept, np.asarray(rows)) or isinstance(rows, list)
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 0


# -- X is read once ----------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_no_false_warnings_about_names(make: Any, library: str) -> None:
    frame: Any = pd.DataFrame(X, columns=NAMES)
    if library == "polars":
        frame = pl.DataFrame(X, schema=NAMES)
    weight = np.ones(60)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*feature names")
        model = make().fit(frame, sample_weight=weight)
        methods = [
            "predict",
            "predict_proba",
            "membership",
            "scorecard",
            "score",
            "score_samples",
            "transform",
            "bic",
            "aic",
            "icl",
        ]
        for name in methods:
            if hasattr(model, name):
                getattr(model, name)(frame)
        plain = make().fit(X, sample_weight=weight)
        assert model.score(frame) == pytest.approx(plain.score(X), rel=1e-9)
        for name in ("bic", "icl"):
            if hasattr(model, name):
                assert getattr(model, name)(frame, weight) == pytest.approx(
                    getattr(plain, name)(X, weight), rel=1e-9
                )
        make().fit_predict(frame)
        if hasattr(model, "fit_transform"):
            make().fit_transform(frame)
        if hasattr(model, "partial_fit"):
            make().partial_fit(frame).partial_fit(frame).score(frame)
        if hasattr(model, "sample"):
            model.sample(2)
            model.predict(frame)
        for scaler in (StandardScaler(), StandardScaler().set_output(transform=library)):
            pipe = make_pipeline(scaler, make()).fit(frame)
            pipe.predict(frame)
            pipe.score(frame)
        pickle.loads(pickle.dumps(model)).score(frame)


class Counted:
    """Rows that count how often they are read."""

    def __init__(self) -> None:
        self.reads = 0
        self.shape = X.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.reads += 1
        return X.copy()


def test_rows_are_read_once(make: Any) -> None:
    rows = Counted()
    model = make().fit(rows)
    assert rows.reads == 1
    methods = ["predict", "predict_proba", "membership", "scorecard", "score", "score_samples"]
    for name in [*methods, "transform", "bic", "aic", "icl"]:
        if hasattr(model, name):
            rows = Counted()
            getattr(model, name)(rows)
            assert rows.reads == 1, name


# -- parameters --------------------------------------------------------------------------------


BROUGHT = {
    KMeans: {
        "algorithm": "Lloyd",
        "copy_x": "never changed",
        "n_jobs": "all cores",
        "precompute_distances": "leave it out",
        "n_components": "use n_clusters",
        "max_no_improvement": "MiniBatchKMeans",
        "reassignment_ratio": "MiniBatchKMeans",
        "init_size": "use seeding_rows",
        "n_ini": "did you mean n_init",
        "zzz": "it takes .*n_clusters",
    },
    MiniBatchKMeans: {
        "algorithm": "Lloyd",
        "compute_labels": "labels_",
        "init_size": "raise batch_size",
        "n_components": "use n_clusters",
    },
    GaussianMixture: {
        "n_clusters": "use n_components",
        "verbose_interval": "verbose=1",
        "weight_concentration_prior": "use weight_concentration",
        "covariance_prior": "BayesianMixture",
        "init": "means_init",
        "n_jobs": "all cores",
    },
    BayesianMixture: {
        "n_clusters": "use n_components",
        "covariance_type": "use family",
        "weight_concentration_prior": r"weights=Dirichlet\(concentration\)",
        "weight_concentration_prior_type": "use weights",
        "mean_prior": r"NormalInverseWishart\(mean=",
        "mean_precision_prior": r"NormalInverseWishart\(strength=",
        "degrees_of_freedom_prior": r"NormalInverseWishart\(df=",
        "covariance_prior": r"NormalInverseWishart\(scale=",
        "reg_covar": "prior",
        "max_iter": "CAVI",
        "num_draws": r"engine=Gibbs\(num_draws",
        "verbose_interval": "verbose=1",
    },
}


@pytest.mark.parametrize("kind", BROUGHT)
def test_parameters_that_people_bring(kind: Any) -> None:
    for name, message in BROUGHT[kind].items():
        with pytest.raises(TypeError, match=f"{kind.__name__}.*'{name}': .*{message}"):
            kind(3, **{name: 1})
        with pytest.raises(ValueError, match=f"'{name}'.*{kind.__name__}: .*{message}"):
            kind(3).set_params(**{name: 1})
    known = set(kind().get_params())
    advised = {m for text in BROUGHT[kind].values() for m in known if f"use {m}" in text}
    assert advised
    with pytest.raises(ValueError, match="nothing"):
        kind().set_params(nothing__at_all=1)


def test_a_subclass_may_take_more() -> None:
    class Named(KMeans):
        def __init__(self, n_clusters: int = 3, *, name: str = "", random_state: Any = None):
            super().__init__(n_clusters, random_state=random_state)
            self.name = name

    model = Named(name="mine", random_state=0).fit(X)
    np.testing.assert_array_equal(model.labels_, MAKERS["kmeans"]().fit(X).labels_)


def test_verbose(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = make().fit(X)
    assert capsys.readouterr().out == ""
    model = make().set_params(verbose=1)
    if isinstance(model, GaussianMixture):
        model.set_params(n_init=2)
    model.fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(type(model).__name__) for line in lines)
    if isinstance(model, BayesianMixture):
        assert lines[-1] == "BayesianMixture, Gibbs: 40 of 40"
        np.testing.assert_array_equal(model.means_, quiet.means_)
    else:
        starts = [line for line in lines if ", start " in line]
        assert len(starts) == len(model.objectives_)
        for i, (line, value) in enumerate(zip(starts, model.objectives_, strict=True)):
            assert f"start {i + 1} of {len(starts)}" in line
            assert f"{value:.6g}" in line
        if model.uncertainty:
            assert lines[-1].endswith("bootstrap: 4 of 4")
    with pytest.raises(ValueError, match="'verbose' parameter"):
        make().set_params(verbose=-1).fit(X)


# -- nothing outside is touched ----------------------------------------------------------------


def outside() -> dict[str, Any]:
    """State of the process that a library has no business with."""
    return {
        "jax": dict(jax.config.values),
        "errstate": np.geterr(),
        # One filter is xarray's, whenever it reads a file.
        "filters": [f for f in warnings.filters if "decode_timedelta" not in str(f[1])],
        "environment": dict(os.environ),
        "signals": {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)},
        "directory": os.getcwd(),
        "precision": np.get_printoptions(),
        "random state": pickle.dumps(np.random.get_state()),  # noqa: NPY002
    }


def test_nothing_outside_is_touched(make: Any, tmp_path: Path) -> None:
    before = outside()
    model = make().fit(X)
    model.scorecard(X)
    model.summary()
    model.save(tmp_path / "model.nc")
    load(tmp_path / "model.nc").predict(X)
    if hasattr(model, "sample"):
        model.sample(2)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan)
    assert outside() == before
