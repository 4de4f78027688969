"""Bayesian mixtures through the estimator: answers, diagnostics, files, errors."""

import arviz as az
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import bayesclust
from bayesclust import BayesianMixture, GaussianMixture, Gibbs
from bayesclust.datasets import load_old_faithful

ENGINE = Gibbs(num_warmup=100, num_draws=100, num_chains=2)
CORNERS = np.array([[0.0, 0.0], [2.0, 8.0], [8.0, 0.0]])
Z = np.arange(90) % 3
X = CORNERS[Z] + np.random.default_rng(0).normal(size=(90, 2))


@pytest.fixture(scope="module")
def fitted():
    return BayesianMixture(3, engine=ENGINE, random_state=0).fit(X)


def test_the_clusters_are_found_and_probabilities_sum_to_one(fitted):
    p = fitted.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(fitted.predict(X), p.argmax(axis=1))
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(X))
    assert len(set(zip(fitted.labels_.tolist(), Z.tolist(), strict=True))) == 3
    assert fitted.means_.shape == (3, 2)
    assert fitted.covariances_.shape == (3, 2, 2)
    np.testing.assert_allclose(fitted.weights_.sum(), 1)
    means = GaussianMixture(3, random_state=0).fit(X).means_
    np.testing.assert_allclose(fitted.means_, means, atol=0.3)


def test_the_answer_has_intervals_and_both_kinds_of_doubt(fitted):
    between = (fitted.means_[0] + fitted.means_[1])[None] / 2
    answer = fitted.membership(np.concatenate([X, between]))
    assert (answer["lower"] <= answer["upper"]).all()
    p = answer["probability"]
    assert (answer["lower"][-1, :2] < p[-1, :2]).all()
    assert (answer["upper"][-1, :2] > p[-1, :2]).all()
    width = (answer["upper"] - answer["lower"]).max("cluster")
    assert float(width[-1]) > float(width[:-1].median())
    split = answer["entropy_overlap"] + answer["entropy_ignorance"]
    np.testing.assert_allclose(split, answer["entropy"], atol=1e-9)
    assert float(answer["entropy"][-1]) > float(answer["entropy"][:-1].median())


def test_diagnostics_are_of_quantities_without_labels(fitted):
    table = fitted.diagnostics()
    assert {"log_likelihood", "log_posterior", "weight_entropy"} <= set(table.index)
    assert (table.loc["log_likelihood", ["ess_bulk", "ess_tail"]] > 20).all()
    short = BayesianMixture(3, engine=Gibbs(0, 10, 2), random_state=0).fit(X)
    assert any("raise num_draws" in line for line in short.diagnose())
    with pytest.raises(ValueError, match="no Markov chains"):
        GaussianMixture(2).fit(X).clustering_.diagnostics()


@pytest.mark.filterwarnings("ignore:Estimated shape")
def test_arviz_reads_the_tree(fitted):
    tree = fitted.posterior_
    assert tree["posterior"].sizes["draw"] == 100
    summary = az.summary(tree["sample_stats"].dataset[["log_likelihood"]])
    assert np.isfinite(summary["r_hat"].astype(float)).all()
    loo = az.loo(tree)
    single = BayesianMixture(1, engine=ENGINE, random_state=0).fit(X)
    assert loo.elpd > az.loo(single.posterior_).elpd


def test_a_saved_model_scores_alike(fitted, tmp_path):
    path = tmp_path / "model.nc"
    fitted.save(path)
    again = bayesclust.load(path)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.diagnostics().equals(fitted.diagnostics())


def test_rows_drawn_from_the_predictive_look_like_the_data(fitted):
    rows, z = fitted.sample(4000)
    assert rows.shape == (4000, 2)
    np.testing.assert_allclose(rows.mean(axis=0), X.mean(axis=0), atol=0.8)
    np.testing.assert_allclose(np.bincount(z) / 4000, fitted.weights_, atol=0.05)
    assert fitted.score(X) == pytest.approx(fitted.score_samples(X).mean())
    assert fitted.score(X) > fitted.score(X + 10)


def test_same_seed_same_fit_and_names_by_mean(fitted):
    again = clone(fitted).fit(X)
    np.testing.assert_array_equal(again.means_, fitted.means_)
    assert (np.diff(fitted.means_[:, 0]) > 0).all()


@pytest.mark.parametrize("family", ["tied", "diag", "spherical"])
def test_every_family(family):
    model = BayesianMixture(3, family=family, engine=ENGINE, random_state=0).fit(X)
    assert len(set(zip(model.labels_.tolist(), Z.tolist(), strict=True))) == 3


def test_old_faithful_agrees_with_maximum_likelihood():
    frame = load_old_faithful()
    model = BayesianMixture(2, engine=ENGINE, standardize=True, random_state=0).fit(frame)
    np.testing.assert_allclose(model.means_, [[2.04, 54.5], [4.29, 79.97]], rtol=0.02)
    assert list(model.summary().columns[-2:]) == ["se(eruptions)", "se(waiting)"]


def test_bad_settings_are_named():
    for settings in ({"n_components": 0}, {"family": "round"}, {"engine": 3}, {"weights": "x"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            BayesianMixture(**settings).fit(X)
    with pytest.raises(NotFittedError):
        BayesianMixture(2).predict(X)
