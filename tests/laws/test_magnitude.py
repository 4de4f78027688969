"""The magnitude of the data changes nothing: neither labels and memberships nor what is doubted.

The right values are those of the same rows near one. Powers of two scale numbers exactly, so that
even a sampler must repeat itself; powers of ten round the data once more.
"""

import functools
import warnings

import jax
import numpy as np
import pytest

import bayesclust
from bayesclust import BayesianMixture, GaussianMixture, KMeans, MiniBatchKMeans, Mixture, kmeans
from bayesclust.core.units import natural_units, standard_units
from bayesclust.engines import CAVI, EM, NUTS, SVI, Bootstrap, Gibbs, Lloyd
from bayesclust.families import (
    DiagonalGaussian,
    FullGaussian,
    IndependentNormalWishart,
    NormalInverseGamma,
    SphericalGaussian,
)
from bayesclust.weights import Dirichlet

RNG = np.random.default_rng(5)
LABELS = np.arange(60) % 2
X = RNG.normal(size=(60, 2)) * [1.0, 1.5] + 3.5 * LABELS[:, None] * [1.0, 0.3] + [2.0, -1.0]
KEY = jax.random.key(0)

BITS = {"float64": (-996, 996), "float32": (-122, 122)}
"""Powers of two next to ten to the power of 300 and of 37."""
TENS = {"float64": (-300, -200, -30, 30, 150, 300), "float32": (-37, -27, 30, 37)}

GIBBS = Gibbs(num_warmup=20, num_draws=30, num_chains=2)
CASES = {
    "kmeans": lambda **s: KMeans(2, **s),
    "bootstrap": lambda **s: KMeans(2, uncertainty="bootstrap", num_draws=8, **s),
    "partitions": lambda **s: KMeans(2, uncertainty="gibbs", num_draws=20, **s),
    "batches": lambda **s: MiniBatchKMeans(2, batch_size=32, **s),
    **{
        name: functools.partial(GaussianMixture, 2, covariance_type=name)
        for name in ("full", "tied", "diag", "spherical")
    },
    "em bootstrap": lambda **s: GaussianMixture(2, uncertainty="bootstrap", num_draws=8, **s),
    "gibbs": lambda **s: BayesianMixture(2, engine=GIBBS, **s),
    "cavi": lambda **s: BayesianMixture(2, engine=CAVI(num_draws=30), **s),
    **{
        f"gibbs {family} {prior}": functools.partial(
            BayesianMixture, 2, engine=GIBBS, family=family, prior=prior
        )
        for family in ("tied", "diag", "spherical", "full")
        for prior in ("conjugate", "independent", "hierarchical")
        if (family, prior) != ("full", "conjugate")
    },
    "nuts": lambda **s: BayesianMixture(
        2, engine=NUTS(num_warmup=30, num_draws=20, num_chains=2), **s
    ),
    "svi": lambda **s: BayesianMixture(2, engine=SVI(num_steps=500, num_draws=30), **s),
}
QUICK = ("kmeans", "batches", "full", "spherical", "gibbs")
NAMES = [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CASES]


def fitted(model, rows, **how):
    """A fit and the texts of its warnings; a warning of NumPy's is a failure."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(rows, **how)
    assert not [w for w in caught if issubclass(w.category, RuntimeWarning)]
    return model, sorted(str(w.message) for w in caught)


def assert_same(found, expected, scale, log_scale, *, standardize, tol):
    """The answers of fits to rows times `scale` and to the rows."""
    (model, warned), (base, base_warned) = found, expected
    assert warned == base_warned
    assert model.diagnose() == base.diagnose()
    np.testing.assert_array_equal(model.labels_, base.labels_)
    rows = model.clustering_.rows
    before = base.scorecard(base.clustering_.rows)
    after = model.scorecard(rows)
    for name in before.columns:
        value = after[name].to_numpy().astype(np.float64)
        if name == "log_density":
            value = value + rows.shape[1] * log_scale
        if name == "margin" and not standardize:
            value = value / scale
        np.testing.assert_allclose(value, before[name], rtol=tol, atol=tol, err_msg=name)
    place = "cluster_centers_" if hasattr(base, "cluster_centers_") else "means_"
    centers = getattr(model, place)
    np.testing.assert_allclose(centers / scale, getattr(base, place), rtol=tol, atol=tol)
    assert centers.dtype == rows.dtype


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_a_power_of_two_changes_no_answer(name, dtype, standardize):
    make = functools.partial(CASES[name], standardize=standardize, random_state=0)
    rows = X.astype(dtype)
    base = fitted(make(), rows)
    tol = 1e-9 if dtype == "float64" else 2e-3
    for bits in BITS[dtype]:
        found = fitted(make(), np.ldexp(rows, bits))
        scale = np.ldexp(1.0, bits)
        args = (scale, bits * np.log(2.0))
        assert_same(found, base, *args, standardize=standardize, tol=tol)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["kmeans", "batches", "full"])
def test_a_power_of_ten_changes_no_answer(name, dtype):
    make = functools.partial(CASES[name], random_state=0)
    rows = X.astype(dtype)
    base = fitted(make(), rows)
    for power in TENS[dtype]:
        found = fitted(make(), (X * 10.0**power).astype(dtype))
        args = (10.0**power, power * np.log(10.0))
        assert_same(found, base, *args, standardize=False, tol=1e-4 if dtype == "float64" else 5e-3)


@pytest.mark.parametrize("uncertainty", [None, "bootstrap"])
@pytest.mark.parametrize(("dtype", "bits"), [("float64", 996), ("float64", -996), ("float32", 122)])
def test_a_saved_model_answers_as_the_fit_did(tmp_path, dtype, bits, uncertainty):
    rows = np.ldexp(X.astype(dtype), bits)
    draws = {} if uncertainty is None else {"num_draws": 8}
    for model in (
        GaussianMixture(2, uncertainty=uncertainty, **draws, random_state=0).fit(rows),
        KMeans(2, uncertainty=uncertainty, **draws, random_state=0).fit(rows),
    ):
        expected = model.scorecard(rows)
        model.save(tmp_path / "model.nc")
        loaded = bayesclust.load(tmp_path / "model.nc")
        found = loaded.scorecard(rows)
        for column in expected.columns:
            np.testing.assert_array_equal(found[column], expected[column], err_msg=column)
        assert loaded.diagnose() == model.diagnose()
        for tree in (model.posterior_, loaded.tree):
            mean = np.asarray(tree["point_estimate"]["mean"])
            np.testing.assert_allclose(np.ldexp(mean, -bits), np.sort(mean, 0) / 2.0**bits, atol=9)
            assert not np.isnan(tree["point_estimate"].dataset.to_array()).all()
            cov = np.asarray(tree["point_estimate"].dataset.get("cov", np.zeros(1)))
            assert dtype == "float32" or set(np.abs(np.unique(cov))) <= {0.0, np.inf}


def test_what_a_float_cannot_hold_is_infinite_or_zero_and_all_else_is_there():
    large, small = (GaussianMixture(2, random_state=0).fit(X * 10.0**e) for e in (200, -200))
    base = GaussianMixture(2, random_state=0).fit(X)
    assert np.isinf(large.covariances_).all() and (small.covariances_ == 0).all()
    assert (large.precisions_ == 0).all() and np.isinf(small.precisions_).any()
    for model, e in ((large, 200), (small, -200)):
        scale = 10.0**e
        chol = model.precisions_cholesky_ * scale
        np.testing.assert_allclose(chol, base.precisions_cholesky_, rtol=1e-6)
        shift = 2 * e * np.log(10)
        np.testing.assert_allclose(model.lower_bound_ + shift, base.lower_bound_, rtol=1e-9)
        density = model.score_samples(X * scale) + shift
        np.testing.assert_allclose(density, base.score_samples(X), rtol=1e-6)
        gap = model.bic(X * scale) - 2 * len(X) * shift
        np.testing.assert_allclose(gap, base.bic(X), rtol=1e-6)
        rows, _ = model.sample(50)
        np.testing.assert_allclose(rows / scale, base.sample(50)[0], rtol=1e-6)
        np.testing.assert_allclose(
            model.summary()["mean(x0)"] / scale, base.summary()["mean(x0)"], rtol=1e-6
        )


def test_float32_data_show_covariances_that_only_float64_holds():
    rows = np.ldexp(X.astype(np.float32), 110)
    model = GaussianMixture(2, random_state=0).fit(rows)
    expected = GaussianMixture(2, random_state=0).fit(X.astype(np.float32)).covariances_
    assert model.means_.dtype == np.float32
    np.testing.assert_allclose(np.ldexp(model.covariances_, -220), expected, rtol=1e-4)


def test_posterior_tables_neither_overflow_nor_vanish():
    base, large = (
        fitted(BayesianMixture(2, engine=GIBBS, random_state=0), np.ldexp(X, bits))[0]
        for bits in (0, 996)
    )
    for table in ("summary", "standard_errors"):
        a, b = (getattr(m, table)() for m in (large, base))
        names = ["mean(x0)", "se(x1)"] if table == "summary" else ["mean"]
        for name in names:
            np.testing.assert_allclose(np.ldexp(np.asarray(a[name]), -996), b[name], rtol=1e-9)
    found, expected = (m.diagnostics()["r_hat"] for m in (large, base))
    np.testing.assert_allclose(found, expected, rtol=0.01)  # folded ranks may tie or not
    np.testing.assert_allclose(
        np.ldexp(large.prior_predictive(3, 5)[0], -996), base.prior_predictive(3, 5)[0]
    )
    np.testing.assert_allclose(np.ldexp(large.sample(20)[0], -996), base.sample(20)[0])


def test_diagnostics_of_partitions_are_in_the_users_units():
    runs = [
        KMeans(2, uncertainty="gibbs", num_draws=20, random_state=0).fit(np.ldexp(X, bits))
        for bits in (0, 300)
    ]
    base, large = (m.clustering_.diagnostics() for m in runs)
    np.testing.assert_allclose(large["r_hat"], base["r_hat"])
    np.testing.assert_allclose(
        np.ldexp(large.loc["inertia", "sd"], -600), base.loc["inertia", "sd"]
    )
    ratio = np.ldexp(large.loc["temperature", "mean"], 600) / base.loc["temperature", "mean"]
    assert ratio == pytest.approx(1)
    assert runs[1].inertia_ == pytest.approx(np.ldexp(runs[0].inertia_, 600))
    assert runs[1].temperature_ == pytest.approx(np.ldexp(runs[0].temperature_, -600))


# -- what the user gives -------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [-996, 300, 996])
def test_given_starts_are_in_the_users_units(bits):
    rows, scale = np.ldexp(X, bits), np.ldexp(1.0, bits)
    centers = np.array([[5.5, 0.0], [2.0, -1.0]])
    for make in (
        lambda c: KMeans(2, init=c),
        lambda c: MiniBatchKMeans(2, init=c, random_state=0),
        lambda c: GaussianMixture(2, means_init=c, max_iter=200),
    ):
        base, found = make(centers).fit(X), make(centers * scale).fit(rows)
        np.testing.assert_array_equal(found.labels_, base.labels_)
        assert base.labels_[LABELS == 1].mean() < 0.5  # the order of the given ones
    warm = GaussianMixture(2, warm_start=True, random_state=0).fit(X)
    expected = warm.fit(X)
    steps, means = expected.n_iter_, expected.means_
    again = GaussianMixture(2, warm_start=True, random_state=0).fit(rows).fit(rows)
    assert again.n_iter_ == steps
    np.testing.assert_allclose(again.means_ / scale, means, rtol=1e-6)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_given_precisions_are_in_the_users_units(kind):
    shape = {"full": np.stack([np.eye(2)] * 2), "diag": np.ones((2, 2)), "spherical": np.ones(2)}
    centers = np.array([[5.5, 0.0], [2.0, -1.0]])
    base, found = (
        GaussianMixture(
            2,
            covariance_type=kind,
            means_init=np.ldexp(centers, bits),
            precisions_init=np.ldexp(shape[kind], -2 * bits),
            weights_init=[0.5, 0.5],
            max_iter=300,
        ).fit(np.ldexp(X, bits))
        for bits in (0, 400)
    )
    assert found.n_iter_ == base.n_iter_
    np.testing.assert_allclose(np.ldexp(found.means_, -400), base.means_, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "bits"), [("float64", 450), ("float64", -450), ("float32", 100)])
def test_given_priors_are_in_the_users_units(dtype, bits):
    square = np.ldexp(1.0, 2 * bits)
    rows = X.astype(dtype)

    def model(bits, square):
        prior = IndependentNormalWishart(
            mean=np.ldexp([3.0, 0.0], bits),
            cov=np.eye(2) * square,
            df=6.0,
            scale=np.eye(2) * square,
        )
        family = FullGaussian(prior=prior)
        found = BayesianMixture(2, family=family, engine=GIBBS, random_state=0)
        return fitted(found, np.ldexp(rows, bits))[0]

    base, found = model(0, 1.0), model(bits, square)
    np.testing.assert_allclose(
        found.predict_proba(np.ldexp(rows, bits)),
        base.predict_proba(rows),
        atol=1e-9 if dtype == "float64" else 2e-3,
    )
    np.testing.assert_allclose(found.prior_.family.prior.cov / square, np.eye(2), rtol=1e-6)


def test_batches_of_a_stream_are_of_any_magnitude():
    base, found = MiniBatchKMeans(2, random_state=0), MiniBatchKMeans(2, random_state=0)
    for part in (slice(0, 30), slice(30, 60)):
        base.partial_fit(X[part])
        found.partial_fit(np.ldexp(X[part], -996))
    np.testing.assert_array_equal(found.labels_, base.labels_)
    np.testing.assert_allclose(np.ldexp(found.cluster_centers_, 996), base.cluster_centers_)
    np.testing.assert_array_equal(found.predict(np.ldexp(X, -996)), base.predict(X))


# -- columns and weights -------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bits"), [("float64", (-996, 996)), ("float32", (-120, 120))])
def test_columns_of_unlike_magnitudes(dtype, bits):
    rows = X.astype(dtype)
    mixed = np.ldexp(rows, np.array(bits))
    for make in (KMeans, GaussianMixture):
        base = make(2, standardize=True, random_state=0).fit(rows)
        found, warned = fitted(make(2, standardize=True, random_state=0), mixed)
        assert not warned
        np.testing.assert_array_equal(found.labels_, base.labels_)
        np.testing.assert_allclose(
            found.predict_proba(mixed), base.predict_proba(rows), atol=1e-9 + (dtype != "float64")
        )
    # In units of their own the wide column decides, as if it were alone.
    alone = KMeans(2, random_state=0).fit(mixed[:, 1:])
    found, warned = fitted(KMeans(2, random_state=0), mixed)
    np.testing.assert_array_equal(found.labels_, alone.labels_)
    assert len(warned) == 1 and "fold" in warned[0]
    spread = rows.astype(float).std(axis=0)
    power = (bits[1] - bits[0]) * np.log10(2.0) + np.log10(spread[1] / spread[0])
    assert warned[0].split("e+")[1].startswith(str(int(power)))


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("value", [0.0, 2024.0, 1e30])
@pytest.mark.parametrize(
    ("dtype", "bits"), [("float64", -996), ("float32", -122), ("float32", 110)]
)
def test_a_constant_column_beside_data_of_any_magnitude(dtype, bits, value, standardize):
    rows = X.astype(dtype)
    near = np.hstack([rows, np.full((60, 1), 3.0, dtype)])
    far = np.hstack([np.ldexp(rows, bits), np.full((60, 1), value, dtype)])
    for make in (KMeans, GaussianMixture):
        base = make(2, standardize=standardize, random_state=0).fit(near)
        found, warned = fitted(make(2, standardize=standardize, random_state=0), far)
        assert not warned
        np.testing.assert_array_equal(found.labels_, base.labels_)
        tol = 1e-9 if dtype == "float64" else 2e-3
        np.testing.assert_allclose(found.predict_proba(far), base.predict_proba(near), atol=tol)


def test_one_column_and_identical_rows():
    base = KMeans(2, random_state=0).fit(X[:, :1])
    found = KMeans(2, random_state=0).fit(np.ldexp(X[:, :1], 996))
    np.testing.assert_array_equal(found.labels_, base.labels_)
    for value in (1e-300, 7.0, 1e300):
        model, warned = fitted(GaussianMixture(1), np.full((10, 2), value))
        assert np.isfinite(model.score_samples(np.full((2, 2), value))).all()
        np.testing.assert_allclose(model.means_, value)
        assert not warned


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_an_offset_is_nothing_beside_the_magnitude(offset):
    base = GaussianMixture(2, random_state=0).fit(X + offset)
    found = GaussianMixture(2, random_state=0).fit(np.ldexp(X + offset, 960))
    np.testing.assert_array_equal(found.labels_, base.labels_)
    rows = np.ldexp(X + offset, 960)
    np.testing.assert_allclose(found.predict_proba(rows), base.predict_proba(X + offset), atol=1e-9)


@pytest.mark.parametrize(
    ("dtype", "power"), [("float64", 300), ("float64", -300), ("float32", 30), ("float32", -30)]
)
def test_weights_of_any_magnitude_give_the_same_clusters(dtype, power):
    rows = X.astype(dtype)
    weight = np.random.default_rng(0).uniform(0.5, 2, 60)
    for make in (KMeans, MiniBatchKMeans, GaussianMixture):
        base = make(2, random_state=0).fit(rows, sample_weight=weight)
        found, warned = fitted(make(2, random_state=0), rows, sample_weight=weight * 10.0**power)
        assert not warned
        np.testing.assert_array_equal(found.labels_, base.labels_)
        place = "cluster_centers_" if hasattr(base, "cluster_centers_") else "means_"
        np.testing.assert_allclose(getattr(found, place), getattr(base, place), rtol=1e-3)
        if hasattr(base, "inertia_"):
            assert found.inertia_ / 10.0**power == pytest.approx(base.inertia_, rel=1e-3)


def test_weights_that_single_precision_cannot_hold_are_refused():
    for power in (-300, 300):
        with pytest.raises(ValueError, match="too large or too small"):
            KMeans(2).fit(X.astype(np.float32), sample_weight=np.full(60, 10.0**power))


# -- the functional core -------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("dtype", "bits"), [("float64", 996), ("float64", -996), ("float32", 122)])
def test_kmeans_on_the_host_and_inside_a_program(dtype, bits, inside):
    with jax.enable_x64(dtype == "float64"):
        call = functools.partial(kmeans.fit, k=2)
        run = jax.jit(lambda key, rows: call(key, rows)) if inside else call
        base = run(KEY, X.astype(dtype))
        found = run(KEY, np.ldexp(X.astype(dtype), bits))
        np.testing.assert_array_equal(found.labels, base.labels)
        np.testing.assert_allclose(
            np.ldexp(np.asarray(found.centers), -bits), base.centers, rtol=1e-5
        )
        if dtype == "float64":
            assert float(found.inertia) == (np.inf if bits > 0 else 0.0)
        labels = kmeans.assign(np.ldexp(X.astype(dtype), bits), np.asarray(found.centers))
        np.testing.assert_array_equal(labels, base.labels)


@pytest.mark.parametrize("bits", [-450, 450])
def test_draws_of_an_engine_are_in_the_units_of_its_rows(bits):
    mixture = Mixture(FullGaussian(), 2)
    spheres = Mixture(SphericalGaussian(), 2)
    for engine, model in (
        (EM(), mixture),
        (Bootstrap(EM(), num_draws=8), mixture),
        (Lloyd(), spheres),
        (GIBBS, mixture),
        (CAVI(num_draws=8), mixture),
    ):
        base, found = (engine.run(KEY, model, np.ldexp(X, b)) for b in (0, bits))
        mean = np.ldexp(found.params["mean"], -bits)
        np.testing.assert_allclose(mean, base.params["mean"], rtol=1e-6, atol=1e-6)
        name = "cov" if model is mixture else "var"
        spread = np.ldexp(found.params[name], -2 * bits)
        np.testing.assert_allclose(spread, base.params[name], rtol=1e-6, atol=1e-6)
        if "log_likelihood" in base.stats:
            moved = found.stats["log_likelihood"] + 2 * len(X) * bits * np.log(2)
            np.testing.assert_allclose(moved, base.stats["log_likelihood"], rtol=1e-6)


def test_prior_rates_of_the_temperature_are_squared_distances():
    spheres = Mixture(SphericalGaussian(), 2)
    base = Lloyd(rate=50.0).run(KEY, spheres, X)
    found = Lloyd(rate=np.ldexp(50.0, 900)).run(KEY, spheres, np.ldexp(X, 450))
    ratio = np.ldexp(found.stats["temperature"], 900) / base.stats["temperature"]
    np.testing.assert_allclose(ratio, 1, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_units_scale_by_exact_powers_of_two(dtype):
    rows = X.astype(dtype)
    top = 1000 if dtype == "float64" else 124
    for make in (natural_units, standard_units):
        plain = make(rows)
        assert plain.exponent is None
        for bits in (-top, -top // 2, top // 2, top):
            far = np.ldexp(rows, bits)
            units = make(far)
            assert np.abs(units.exponent - bits).max() <= 4
            np.testing.assert_array_equal(units.unscaled(units.scaled(far)), far)
            np.testing.assert_allclose(units.inward(far), plain.inward(rows), rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(units.log_scale, plain.log_scale + 2 * bits * np.log(2))


def test_priors_keep_their_hyperpriors_at_any_magnitude():
    prior = NormalInverseGamma(mean=np.ldexp([3.0, 0.0], 450), strength=0.1)
    model = BayesianMixture(
        2,
        family=DiagonalGaussian(prior=prior),
        weights=Dirichlet(2.0),
        engine=GIBBS,
        random_state=0,
    )
    found = fitted(model, np.ldexp(X, 450))[0].prior_.family.prior
    np.testing.assert_allclose(np.ldexp(found.mean, -450), [3.0, 0.0])
    assert np.isfinite(np.ldexp(found.rate, -900)).all() and (found.rate > 0).all()
