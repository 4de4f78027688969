"""Bayesian mixtures through the estimator: answers, diagnostics, files, errors."""

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import bayesclust
from bayesclust import BayesianMixture, GaussianMixture, Gibbs
from bayesclust.datasets import load_old_faithful
from bayesclust.posterior import tree

ENGINE = Gibbs(num_warmup=100, num_draws=100, num_chains=2)
CORNERS = np.array([[0.0, 0.0], [2.0, 8.0], [8.0, 0.0]])
Z = np.arange(90) % 3
X = CORNERS[Z] + np.random.default_rng(0).normal(size=(90, 2))


@pytest.fixture(scope="module")
def fitted():
    model = BayesianMixture(3, engine=ENGINE, random_state=0).fit(X)
    assert "log_likelihood" in model.posterior_.children  # built before a test lowers its limit
    return model


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


@pytest.mark.slow
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


# -- ArviZ ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def single():
    return BayesianMixture(1, engine=ENGINE, random_state=0).fit(X)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # R-hat of constants
def test_summaries(fitted):
    tree = fitted.posterior_
    table = az.summary(tree)
    assert np.isfinite(table["mean"].astype(float)).all()
    assert "mean[0, x1]" in table.index
    names = ["log_likelihood", "log_posterior", "reference_distance", "weight_entropy"]
    chains = az.summary(tree, group="sample_stats", var_names=names, round_to="none")
    ours = fitted.diagnostics().loc[names]
    for theirs, column in (("r_hat", "r_hat"), ("ess_bulk", "ess_bulk"), ("mean", "mean")):
        np.testing.assert_allclose(chains[theirs].astype(float), ours[column], rtol=1e-10)
    # Flags of the run are numbers, so that ArviZ can summarize the group as it is.
    assert set(tree["sample_stats"].data_vars) == set(az.summary(tree, group="sample_stats").index)


@pytest.mark.filterwarnings("ignore:Estimated shape")
def test_models_are_compared(fitted, single):
    trees = {"one": single.posterior_, "three": fitted.posterior_}
    table = az.compare(trees)
    assert list(table.index) == ["three", "one"]
    blocks = {"one": single.clustering_.loo(), "three": fitted.clustering_.loo()}
    again = az.compare(blocks)
    np.testing.assert_allclose(again["elpd"], table["elpd"], atol=0.1)
    assert float(table["elpd"].iloc[0] - table["elpd"].iloc[1]) > 50


@pytest.mark.filterwarnings("ignore:Estimated shape")
def test_loo_in_blocks_is_loo(fitted, monkeypatch):
    whole = az.loo(fitted.posterior_, pointwise=True)
    monkeypatch.setattr(tree, "LOG_LIKELIHOOD_SIZE", 40 * 200)
    blocks = fitted.clustering_.loo()
    np.testing.assert_allclose(blocks.elpd_i, whole.elpd_i, rtol=1e-12)
    np.testing.assert_allclose(blocks.pareto_k, whole.pareto_k, rtol=1e-9)
    for name in ("elpd", "se", "p", "n_data_points", "n_samples", "good_k"):
        assert getattr(blocks, name) == pytest.approx(getattr(whole, name))
    assert blocks.warning == whole.warning
    assert fitted.clustering_.loo(X[:30]).n_data_points == 30
    with pytest.raises(ValueError, match="no draws"):
        GaussianMixture(2).fit(X).clustering_.loo()


def test_log_likelihood_is_left_out_where_large_and_can_be_added(fitted, monkeypatch, tmp_path):
    monkeypatch.setattr(tree, "LOG_LIKELIHOOD_SIZE", 100)
    clustering = fitted.clustering_.realigned()
    assert "log_likelihood" not in clustering.tree.children
    clustering.tree["log_likelihood"] = xr.DataTree(clustering.log_likelihood())
    xr.testing.assert_allclose(
        clustering.tree["log_likelihood"].dataset, fitted.posterior_["log_likelihood"].dataset
    )
    clustering.save(tmp_path / "model.nc")
    again = bayesclust.load(tmp_path / "model.nc")
    np.testing.assert_array_equal(
        again.tree["log_likelihood"]["x"], clustering.tree["log_likelihood"]["x"]
    )
    # Of new rows, from a log-sum of densities by hand.
    rows = X[:3] + 0.5
    x = again.log_likelihood(rows)["x"]
    assert x.dims == ("chain", "draw", "obs")
    draw = fitted.posterior_["posterior"].dataset.isel(chain=1, draw=7)
    density = sum(
        float(draw["weights"][j]) * multivariate_normal(draw["mean"][j], draw["cov"][j]).pdf(rows)
        for j in range(3)
    )
    np.testing.assert_allclose(x[1, 7], np.log(density))


@pytest.mark.parametrize("plot", ["plot_trace", "plot_rank", "plot_forest", "plot_trace_dist"])
@pytest.mark.parametrize("group", ["posterior", "sample_stats"])
def test_arviz_plots_it(fitted, plot, group):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = {"posterior": "weights", "sample_stats": "log_posterior"}
    getattr(az, plot)(fitted.posterior_, group=group, var_names=names[group], backend="matplotlib")
    assert pyplot.get_fignums()
    pyplot.close("all")


def test_netcdf_round_trip(fitted, tmp_path):
    fitted.posterior_.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    again = xr.load_datatree(tmp_path / "tree.nc", engine="h5netcdf")
    xr.testing.assert_identical(again, fitted.posterior_)


def test_zarr_round_trip(fitted, tmp_path):
    pytest.importorskip("zarr")
    fitted.posterior_.to_zarr(tmp_path / "tree.zarr", consolidated=False)
    again = xr.open_datatree(tmp_path / "tree.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_identical(again.load(), fitted.posterior_)


@pytest.mark.slow
def test_bad_alignment_is_warned_of_at_fit():
    """Two clusters above one another: sorting by the first feature tears them apart."""
    with pytest.warns(UserWarning, match="not parameters of clusters"):
        BayesianMixture(2, family="diag", engine=ENGINE, align="order", random_state=0).fit(
            np.array([[0.0, 9.0], [0.0, -9.0]])[Z % 2] + X - CORNERS[Z]
        )
    with pytest.raises(ValueError, match="align"):
        BayesianMixture(2, align="best").fit(X)
