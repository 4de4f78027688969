"""KMeans with a posterior of partitions, through the estimator."""

import numpy as np
import pytest

import bayesclust
from bayesclust import GaussianMixture, KMeans
from bayesclust.datasets import load_old_faithful
from bayesclust.engines import chains
from tests.problems import blobs

FAITHFUL = load_old_faithful()
ROWS = FAITHFUL.to_numpy()


@pytest.fixture(scope="module")
def fitted():
    return KMeans(2, standardize=True, uncertainty="gibbs", random_state=0).fit(FAITHFUL)


def test_memberships_are_averages_over_draws(fitted):
    draws = fitted.clustering_.draws
    assert draws.shape == (4, 200)
    scale = fitted.clustering_.units.scale
    d2 = np.square((ROWS[:, None] - draws.params["mean"].reshape(-1, 1, 2, 2)) / scale).sum(axis=3)
    mass = np.exp(-draws.stats["temperature"].reshape(-1, 1, 1) * d2)
    expected = (mass / mass.sum(axis=2, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(fitted.predict_proba(FAITHFUL), expected, atol=1e-9)
    plugin = KMeans(2, standardize=True, random_state=0).fit(FAITHFUL)
    gap = np.abs(plugin.predict_proba(FAITHFUL) - expected).max()
    assert 1e-4 < gap < 0.05
    assert fitted.temperature_ == plugin.temperature_


def test_draws_are_aligned_and_prediction_is_the_nearest_centre(fitted):
    np.testing.assert_array_equal(
        fitted.predict(FAITHFUL), fitted.transform(FAITHFUL).argmin(axis=1)
    )
    means = fitted.clustering_.draws.params["mean"]
    assert np.abs(means - fitted.cluster_centers_).max() < 5
    assert fitted.clustering_.alignment.confidence.min() > 0.9


def test_chains_are_diagnosed_and_the_answer_is_complete(fitted):
    assert fitted.diagnose() == []
    table = fitted.clustering_.diagnostics()
    assert {"inertia", "temperature", "log_posterior"} <= set(table.index)
    assert (table["r_hat"] < 1.05).all()
    card = fitted.scorecard(FAITHFUL)
    assert (card["lower"] <= card["probability"]).all()
    assert (card["upper"] >= card["probability"]).all()
    assert card["entropy_ignorance"].max() > 1e-3
    assert (fitted.standard_errors()["mean"] > 0).all()


def test_saved_and_loaded_it_says_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "model.nc")
    loaded = bayesclust.load(tmp_path / "model.nc")
    np.testing.assert_array_equal(loaded.predict_proba(ROWS), fitted.predict_proba(FAITHFUL))
    assert loaded.diagnose() == fitted.diagnose()


def test_same_seed_same_draws(fitted):
    again = KMeans(2, standardize=True, uncertainty="gibbs", random_state=0).fit(FAITHFUL)
    np.testing.assert_array_equal(again.predict_proba(FAITHFUL), fitted.predict_proba(FAITHFUL))


def test_an_interrupted_run_warns_and_is_valid(monkeypatch):
    def stop(done, total):
        if done >= 1000:
            raise KeyboardInterrupt

    model = KMeans(2, standardize=True, uncertainty="gibbs", random_state=0)
    model._progress = stop
    with pytest.warns(UserWarning, match="interrupted: 50 draws of each of 4 chains"):
        model.fit(FAITHFUL)
    assert chains.CHUNK == 50
    assert any("interrupted" in sentence for sentence in model.diagnose())
    np.testing.assert_allclose(model.predict_proba(FAITHFUL).sum(axis=1), 1)


def test_what_it_cannot_do_is_refused():
    model = KMeans(2, standardize=True, uncertainty="gibbs", random_state=0)
    with pytest.raises(ValueError, match=r"whole numbers.*bootstrap"):
        model.fit(FAITHFUL, sample_weight=np.full(272, 0.5))
    assert not hasattr(model, "labels_")
    with pytest.raises(ValueError, match="uncertainty"):
        GaussianMixture(2, uncertainty="gibbs").fit(blobs(50)[0])
