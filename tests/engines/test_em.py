"""EM against scikit-learn at the same start, and the laws it obeys from any start."""

import jax
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.mixture import GaussianMixture

from bayesclust import kmeans
from bayesclust.core import rows
from bayesclust.core.units import Units
from bayesclust.datasets import load_old_faithful
from bayesclust.engines import EM, Given, KMeansStart, RandomResponsibilities, SeededStart
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet
from tests.problems import FAMILIES, KEY, blobs, covariances, plain, random_params

FAITHFUL = load_old_faithful().to_numpy()
STARTS = {
    "kmeans": KMeansStart(n_init=1),
    "greedy": SeededStart(),
    "rows": SeededStart(kmeans.random_rows),
    "random": RandomResponsibilities(),
}


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def peer(name, X, params, log_weights, *, tol, max_iter=500):
    """scikit-learn's mixture from the same parameters, without any ridge."""
    k, d = params["mean"].shape
    cov = covariances(name, params, k, d)
    precisions = {
        "full": lambda: np.linalg.inv(cov),
        "tied": lambda: np.linalg.inv(cov[0]),
        "diag": lambda: 1 / np.diagonal(cov, axis1=1, axis2=2),
        "spherical": lambda: 1 / cov[:, 0, 0],
    }[name]()
    model = GaussianMixture(
        k,
        covariance_type=name,
        tol=tol,
        reg_covar=0,
        max_iter=max_iter,
        means_init=params["mean"],
        weights_init=np.exp(log_weights),
        precisions_init=precisions,
    )
    return model.fit(X)


def parameters(name, k, d, seed=0):
    params = random_params(name, k, d, seed=seed)
    weights = np.random.default_rng(seed).dirichlet(np.full(k, 5.0))
    return Given(params, np.log(weights))


@pytest.mark.parametrize(("k", "d"), [(3, 2), (3, 5)])
def test_same_fit_as_scikit_learn(name, k, d):
    X, _ = blobs(300, d, k, separation=2.5)
    start = parameters(name, k, d)
    theirs = peer(name, X, start.params, start.log_weights, tol=1e-6)
    draws = EM(tol=1e-6).run(KEY, Mixture(FAMILIES[name](0.0), k), X, start=start, units=plain(d))
    params = {p: v[0, 0] for p, v in draws.params.items()}
    np.testing.assert_allclose(params["mean"], theirs.means_, rtol=1e-9, atol=1e-9)
    spread = params["cov"] if "cov" in params else params["var"]
    np.testing.assert_allclose(spread, theirs.covariances_, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(np.exp(draws.log_weights[0, 0]), theirs.weights_, rtol=1e-9)
    np.testing.assert_allclose(draws.stats["objective"][0, 0], theirs.lower_bound_, rtol=1e-10)
    assert draws.stats["n_steps"][0, 0] == theirs.n_iter_
    assert bool(draws.flags["converged"][0, 0])
    np.testing.assert_allclose(
        draws.stats["log_likelihood"][0, 0], 300 * theirs.lower_bound_, rtol=1e-10
    )
    # The trace is theirs as well.
    trace = draws.trace[0][: theirs.n_iter_]
    np.testing.assert_allclose(trace, theirs.lower_bounds_, rtol=1e-9)


@pytest.mark.slow
def test_old_faithful():
    draws = EM(tol=1e-9).run(KEY, Mixture(FAMILIES["full"](0.0), 2), FAITHFUL)
    np.testing.assert_allclose(draws.stats["log_likelihood"], -1130.26396, atol=5e-5)
    draws = EM(tol=1e-7).run(KEY, Mixture(FAMILIES["full"](), 2), FAITHFUL.astype(np.float32))
    np.testing.assert_allclose(draws.stats["log_likelihood"], -1130.26396, atol=0.01)


def test_one_component_is_the_mean_and_covariance(name):
    draws = EM().run(KEY, Mixture(FAMILIES[name](0.0), 1), FAITHFUL)
    cov = np.cov(FAITHFUL.T, bias=True)
    expected = {
        "full": cov,
        "tied": cov,
        "diag": np.diag(np.diag(cov)),
        "spherical": np.eye(2) * np.trace(cov) / 2,
    }[name]
    params = {p: v[0, 0] for p, v in draws.params.items()}
    np.testing.assert_allclose(params["mean"][0], FAITHFUL.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariances(name, params, 1, 2)[0], expected, rtol=1e-10)


def climbs(trace, tol=1e-10):
    trace = trace[np.isfinite(trace)]
    assert len(trace) > 1
    return (np.diff(trace) >= -tol * np.maximum(np.abs(trace[1:]), 1)).all()


@pytest.mark.parametrize("start", ["greedy", "rows", "random"])
def test_the_objective_never_falls_whatever_the_start(name, start):
    X, _ = blobs(96, 2, 3, separation=1.5)
    mixture = Mixture(FAMILIES[name](0.0), 3)
    for seed in range(8):
        draws = EM(max_iter=60).run(jax.random.key(seed), mixture, X, start=STARTS[start])
        assert climbs(draws.trace[0])


@given(
    arrays(np.float64, (96, 2), elements=st.floats(-5, 5, width=32)),
    st.sampled_from(list(FAMILIES)),
    st.integers(0, 10**6),
)
def test_the_objective_never_falls_whatever_the_data(X, name, seed):
    X = X + np.random.default_rng(seed).normal(size=X.shape)  # some spread everywhere
    mixture = Mixture(FAMILIES[name](0.0), 3)
    draws = EM(max_iter=60).run(jax.random.key(seed), mixture, X, start=STARTS["random"])
    # Without a floor a component may collapse onto a row or a line: the likelihood has no bound.
    cov = covariances(name, {p: v[0, 0] for p, v in draws.params.items()}, 3, 2)
    assume(np.linalg.eigvalsh(cov).min() > 1e-4)
    assert climbs(draws.trace[0])


@pytest.mark.parametrize("concentration", [3.0, np.array([1.0, 20.0, 5.0])])
def test_the_log_posterior_never_falls_under_a_prior(concentration):
    X, _ = blobs(96, 2, 3, separation=1.5)
    mixture = Mixture(FAMILIES["full"](0.0), 3, Dirichlet(concentration))
    flat = Mixture(FAMILIES["full"](0.0), 3)
    engine = EM(max_iter=60)
    draws = engine.run(KEY, mixture, X, start=STARTS["greedy"])
    assert climbs(draws.trace[0])
    assert (
        np.abs(
            draws.log_weights - engine.run(KEY, flat, X, start=STARTS["greedy"]).log_weights
        ).max()
        > 1e-3
    )
    with jax.enable_x64():
        params = {p: v[0, 0] for p, v in draws.params.items()}
        log_weights = draws.log_weights[0, 0]
        # At a fixed point: weights are the posterior mode given their own responsibilities.
        long = EM(tol=0.0, max_iter=499).run(KEY, mixture, X, start=STARTS["greedy"])
        params = {p: v[0, 0] for p, v in long.params.items()}
        log_weights = long.log_weights[0, 0]
        counts = mixture.responsibilities(params, log_weights, X).sum(axis=0)
        mass = np.asarray(counts) + concentration - 1
        np.testing.assert_allclose(np.exp(log_weights), mass / mass.sum(), rtol=1e-5)


@pytest.mark.parametrize("start", [SeededStart(), KMeansStart(n_init=1)])
def test_restarts_keep_the_best(start):
    X, _ = blobs(96, 2, 6, separation=3.0)
    mixture = Mixture(FAMILIES["full"](), 6)
    draws = EM(n_init=6, max_iter=60).run(KEY, mixture, X, start=start)
    objectives = draws.flags["objectives"]
    assert objectives.shape == (6,)
    assert draws.trace.shape[0] == 6
    assert len(np.unique(objectives.round(4))) > 1
    np.testing.assert_allclose(draws.stats["objective"], objectives.max())
    for trace, objective in zip(draws.trace, objectives, strict=True):
        np.testing.assert_allclose(trace[np.isfinite(trace)][-1], objective)


def test_weights_count_repetitions_and_zero_is_absence(name):
    X, _ = blobs(96, 2, 3, separation=2.0)
    weight = np.random.default_rng(0).integers(0, 4, 96)
    mixture, start, units = Mixture(FAMILIES[name](0.0), 3), parameters(name, 3, 2), plain(2)

    def fit(X, w=None):
        draws = EM(max_iter=30, tol=0.0).run(
            KEY, mixture, X, sample_weight=w, start=start, units=units
        )
        return {**draws.params, "w": draws.log_weights, "ll": draws.stats["log_likelihood"]}

    found = fit(X, weight.astype(float))
    far = np.concatenate([X, np.full((10, 2), 1e6)])
    padded = fit(far, np.concatenate([weight, np.zeros(10)]))
    repeated = fit(np.repeat(X, weight, axis=0))
    for other in (padded, repeated):
        for key, value in found.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-9, atol=1e-9)


def test_units_change_nothing_but_the_path_of_rounding(name):
    X, _ = blobs(96, 2, 3, separation=6.0)
    moved = X * 16.0 + 1e5
    mixture = Mixture(FAMILIES[name](), 3)
    start = STARTS["greedy"]
    a = EM(tol=1e-10).run(KEY, mixture, X, start=start)
    b = EM(tol=1e-10).run(KEY, mixture, moved, start=start)
    np.testing.assert_allclose((b.params["mean"] - 1e5) / 16, a.params["mean"], atol=1e-7)
    np.testing.assert_allclose(
        b.stats["log_likelihood"],
        a.stats["log_likelihood"] - 96 * 2 * np.log(16),
        rtol=1e-8,
    )
    # Log densities are in the user's units, whatever units the fit worked in.
    with jax.enable_x64():
        params = {p: v[0, 0] for p, v in b.params.items()}
        total = mixture.log_density(params, b.log_weights[0, 0], moved).sum()
        np.testing.assert_allclose(total, b.stats["log_likelihood"][0, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_a_scale_changes_no_membership(name, scale, dtype):
    X, z = blobs(96, 2, 3, seed=3, separation=9.0)
    for offset in (0, 1e6 if dtype == "float32" else 1e8):
        rows_ = ((X + offset) * scale).astype(dtype)
        draws = EM().run(KEY, Mixture(FAMILIES[name](), 3), rows_, start=STARTS["greedy"])
        params = {p: v[0, 0] for p, v in draws.params.items()}
        with jax.enable_x64():
            resp = Mixture(FAMILIES[name](), 3).responsibilities(
                params, draws.log_weights[0, 0], rows_.astype(float)
            )
        label = np.asarray(resp).argmax(axis=1)
        assert len(set(zip(label.tolist(), z.tolist(), strict=True))) == 3


def test_tight_clusters_very_far_apart_in_float32(name):
    rng = np.random.default_rng(0)
    z = np.arange(96) % 4
    centers = np.array([[0, 0], [8, 0], [1e5, 0], [1e5, 8.0]])
    X = (centers[z] + rng.normal(size=(96, 2))).astype(np.float32)
    mixture = Mixture(FAMILIES[name](1e-12), 4)
    draws = EM().run(KEY, mixture, X, start=STARTS["greedy"])
    assert not bool(draws.flags["imprecise"][0, 0])
    params = {p: v[0, 0] for p, v in draws.params.items()}
    with jax.enable_x64():
        resp = mixture.responsibilities(params, draws.log_weights[0, 0], X.astype(float))
    label = np.asarray(resp).argmax(axis=1)
    assert len(set(zip(label.tolist(), z.tolist(), strict=True))) == 4
    np.testing.assert_allclose(np.diagonal(covariances(name, params, 4, 2)[0]), 1, rtol=0.6)


# No more than 16 rows each: one bucket, one program.
i15 = np.arange(15.0)
HOSTILE = {
    "as many rows as components": np.array([[0.0, 0], [1, 2], [5, 1]]),
    "duplicates": np.tile([[0.0, 0], [1, 2], [5, 1]], (5, 1)),
    "fewer distinct rows": np.tile([[0.0, 0], [1, 2]], (7, 1)),
    "one point": np.full((15, 2), 7.0),
    "constant column": np.column_stack([i15**2, np.full(15, 3.0)]),
    "collinear columns": np.column_stack([i15**2, -2 * i15**2]),
    "one far row": np.array([*np.random.default_rng(0).normal(size=(14, 2)), [1e12, -1e12]]),
}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("ridge", [1e-6, 0.0])
def test_hostile_rows_never_give_nan(name, dtype, ridge):
    mixture = Mixture(FAMILIES[name](ridge), 3)
    for what, X in HOSTILE.items():
        for start in (STARTS["greedy"], STARTS["random"]):
            draws = EM(max_iter=20).run(KEY, mixture, X.astype(dtype), start=start)
            for key, value in (*draws.params.items(), *draws.stats.items()):
                assert np.isfinite(value).all(), (what, key)
            assert not np.isnan(draws.log_weights).any(), what
            np.testing.assert_allclose(np.exp(draws.log_weights).sum(), 1, rtol=1e-5)
            spread = covariances(name, {p: v[0, 0] for p, v in draws.params.items()}, 3, 2)
            assert (np.diagonal(spread, axis1=1, axis2=2) >= 0).all()
            if ridge and what in ("constant column", "one point", "collinear columns"):
                floors = {"diag": what != "collinear columns", "spherical": what == "one point"}
                assert bool(draws.flags["floored"][0, 0] > 0) == floors.get(name, True), what


def test_given_parameters_are_completed_by_the_other_start():
    X, _ = blobs(96, 2, 3, separation=6.0)
    mean = X[:3]
    mixture = Mixture(FAMILIES["full"](), 3)
    draws = EM(max_iter=1).run(KEY, mixture, X, start=Given({"mean": mean}), units=plain(2))
    assert draws.stats["n_steps"][0, 0] == 1
    order = np.square(draws.params["mean"][0, 0][:, None] - mean).sum(axis=-1).argmin(axis=1)
    assert order.tolist() == [0, 1, 2]
    full = parameters("full", 3, 2)
    units = Units(np.array([1.0, 2.0]), np.full(2, 2.0))
    still = EM(max_iter=0).run(KEY, mixture, X, start=full, units=units)
    np.testing.assert_allclose(
        still.params["mean"][0, 0], full.params["mean"] * 2 + [1.0, 2.0], rtol=1e-12
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_large_data_on_all_cores_give_what_one_program_gives(name, monkeypatch):
    X, _ = blobs(1500, 2, 3, separation=2.0)
    mixture, engine = Mixture(FAMILIES[name](), 3), EM(n_init=2, max_iter=40)
    monkeypatch.setattr(rows, "MAX_BLOCK", 256)
    monkeypatch.setattr(rows, "TILE_BYTES", 4 * 4096)
    inside = engine.run(KEY, mixture, X, start=SeededStart())
    monkeypatch.setattr(rows, "PARALLEL_WORK", 1)
    monkeypatch.setattr(rows, "cores", lambda: 2)
    driven = engine.run(KEY, mixture, X, start=SeededStart())
    np.testing.assert_allclose(driven.trace, inside.trace, rtol=1e-10)
    np.testing.assert_allclose(driven.log_weights, inside.log_weights, rtol=1e-8)
    for key, value in inside.params.items():
        np.testing.assert_allclose(driven.params[key], value, rtol=1e-8, atol=1e-8)
