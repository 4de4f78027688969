"""Starts of several kinds, and how many of them found the best."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import bayesclust
from bayesclust import GaussianMixture, KMeans
from bayesclust.engines import EM, Given
from bayesclust.families import FullGaussian
from bayesclust.mixture import Mixture
from bayesclust.posterior.report import n_best_starts
from tests.problems import KEY

KINDS = ["kmeans", "random_from_data"]
N = 200


@pytest.fixture(scope="module")
def cigars():
    """Two clusters side by side, more than fifty times as long as they are wide."""
    rng = np.random.default_rng(0)
    parts = [[rng.normal(0, 20, N), rng.normal(gap, 0.3, N)] for gap in (0.0, 4.0)]
    return np.concatenate(parts, axis=1).T


@pytest.fixture(scope="module")
def at_truth(cigars):
    """Mean log likelihood at the parameters that the rows were drawn from."""
    cov = np.diag([400.0, 0.09])
    parts = [stats.multivariate_normal([0, y], cov).logpdf(cigars) for y in (0.0, 4.0)]
    return float(np.mean(logsumexp(parts, axis=0) + np.log(0.5)))


def test_starts_of_several_kinds_find_what_those_of_one_kind_do_not(cigars, at_truth):
    """The maximum of a likelihood is no lower than its value at the truth."""
    settings = {"max_iter": 2000, "random_state": 0}
    alike = GaussianMixture(2, n_init=5, **settings).fit(cigars)
    several = GaussianMixture(2, init_params=KINDS, n_init=10, **settings).fit(cigars)
    assert alike.lower_bound_ < at_truth - 1
    assert alike.n_best_starts_ == 5  # and nothing tells that there is better
    assert several.lower_bound_ >= at_truth - 1e-6
    assert several.objectives_.shape == (10,)
    assert several.lower_bound_ == several.objectives_.max()
    assert several.lower_bounds_[-1] == several.lower_bound_
    gap = several.objectives_.max() - several.objectives_
    assert several.n_best_starts_ == np.sum(gap < 1e-3) <= 5
    # One of each kind in turn: those of k-means end as they do alone.
    np.testing.assert_allclose(several.objectives_[::2], alike.lower_bound_, atol=1e-3)


def test_a_single_best_start_is_doubted(cigars, tmp_path):
    seen = set()
    for seed in range(6):
        settings = {"n_init": 2, "max_iter": 2000, "random_state": seed}
        model = GaussianMixture(2, init_params=KINDS, **settings).fit(cigars)
        sentences = [s for s in model.diagnose() if "reached the best objective" in s]
        assert len(sentences) == (model.n_best_starts_ == 1)
        if sentences and 1 not in seen:
            assert sentences[0].startswith("Only 1 of 2 starts")
            assert "n_init" in sentences[0] and "init_params" in sentences[0]
            model.save(tmp_path / "model.nc")
            assert bayesclust.load(tmp_path / "model.nc").diagnose() == model.diagnose()
        seen.add(model.n_best_starts_)
    assert seen == {1, 2}


def test_best_starts_of_kmeans(cigars):
    model = KMeans(7, init="random", n_init=6, random_state=1).fit(cigars)
    ends = model.objectives_
    assert model.inertia_ == ends.min()
    assert model.n_best_starts_ == np.sum(ends / ends.min() - 1 <= 1e-3)
    said = any("starts reached" in s for s in model.diagnose())
    assert said == (model.n_best_starts_ == 1)
    once = KMeans(7, init="random", n_init=1, random_state=1).fit(cigars)
    assert once.n_best_starts_ == 1
    assert not any("starts reached" in s for s in once.diagnose())


def test_counting_best_starts():
    assert n_best_starts([100.0, 100.05, 100.2, 300.0], hard=True) == 2
    assert n_best_starts([-5.0, -5.0005, -5.01, np.nan, -9.0], hard=False) == 2
    assert n_best_starts([0.0, 0.0, 1.0], hard=True) == 2


@pytest.mark.parametrize("inside", [False, True], ids=["host", "program"])
def test_starts_are_taken_in_turn(cigars, inside):
    mixture = Mixture(FullGaussian(), 2)
    wide = np.eye(2)[None].repeat(2, axis=0)
    # In units of the fit, where the columns have mean zero and a mean variance of one.
    means = [
        np.array(m, float) for m in ([[-1, 0], [1, 0]], [[0, -0.1], [0, 0.1]], [[-1, 0], [2, 0]])
    ]
    starts = [Given({"mean": m, "cov": 1e-2 * wide}, np.log([0.5, 0.5])) for m in means]

    def run(start, n_init):
        engine = EM(n_init=n_init, max_iter=3, tol=0.0)
        if inside:
            with jax.enable_x64(True):
                draws = jax.jit(lambda X: engine.run(KEY, mixture, X, start=start))(cigars)
        else:
            draws = engine.run(KEY, mixture, cigars, start=start)
        return draws.stats["objective"].item(), np.asarray(draws.flags["objectives"]), draws.trace

    alone = np.array([run(start, 1)[0] for start in starts])
    assert len(np.unique(alone.round(3))) == 3
    best, objectives, traces = run(starts, 5)
    np.testing.assert_allclose(objectives, alone[[0, 1, 2, 0, 1]], rtol=1e-9)
    assert best == objectives.max()
    np.testing.assert_allclose(traces[:, 2], objectives)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"init_params": KINDS, "n_init": 1}, "names 2 kinds of starts for n_init=1"),
        ({"init_params": [], "n_init": 3}, "names 0 kinds"),
        ({"init_params": ["kmeans", "best"], "n_init": 3}, "init_params='best' is not known"),
        (
            {"init_params": ["kmeans", ["random"]], "n_init": 3},
            "init_params=.'random'. is not known",
        ),
        ({"init_params": "best"}, "init_params"),
        ({"init_params": {"kmeans": 1}}, "init_params"),
    ],
)
def test_kinds_that_are_refused(cigars, wrong, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, **wrong).fit(cigars)
