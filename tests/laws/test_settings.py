"""Counts and tolerances: refused by name with their range, bounded by memory, never allocated."""

import dataclasses
import inspect
import re

import jax
import numpy as np
import pytest

from bayesclust import BayesianMixture, GaussianMixture, KMeans, MiniBatchKMeans, kmeans
from bayesclust.core import checks, loop
from bayesclust.core.checks import check_integer, check_memory, check_number
from bayesclust.engines import CAVI, EM, NUTS, SVI, Bootstrap, Gibbs, Lloyd, PartitionGibbs
from bayesclust.engines.chains import Length
from bayesclust.families import FullGaussian, SphericalGaussian
from bayesclust.mixture import Mixture
from tests.problems import KEY, blobs, packed

X, _ = blobs(260)
NO_INTEGERS = [1e9, 1e20, 3.0, np.float64(3), True, np.bool_(True), {}, [3], "3", 1j, np.nan]
NO_COUNTS = [-1, -(10**400), 10**400, 2**31]
NO_NUMBERS = ["1", {}, True, np.bool_(True), [1.0], np.ones(2), 1j]
NO_TOLERANCES = [-1.0, np.nan, np.inf, -np.inf, 10**400]

ENGINES = [EM, Lloyd, Bootstrap, Gibbs, NUTS, SVI, CAVI, PartitionGibbs]
ESTIMATORS = [KMeans, MiniBatchKMeans, GaussianMixture, BayesianMixture]
MIXTURE = Mixture(SphericalGaussian(), 2)


def settings_of(kind):
    """Integer and real settings of an engine, whatever they are called."""
    fields = [f for f in dataclasses.fields(engine_of(kind)) if type(f.default) in (int, float)]
    return [(f.name, type(f.default)) for f in fields]


def engine_of(kind, **settings):
    return kind(EM(), **settings) if kind is Bootstrap else kind(**settings)


def run(kind, **settings):
    return engine_of(kind, **settings).run(KEY, MIXTURE, X)


ALL = [(kind, *setting) for kind in ENGINES for setting in settings_of(kind)]


def test_every_engine_has_settings_to_check():
    assert {kind for kind, _, _ in ALL} == {*ENGINES}
    assert len(ALL) > 30


@pytest.mark.parametrize(("kind", "name", "number"), ALL)
def test_engines_refuse_settings_by_name(kind, name, number):
    for wrong in NO_INTEGERS if number is int else NO_NUMBERS:
        with pytest.raises(TypeError, match=rf"^{name}=.* must be an? "):
            run(kind, **{name: wrong})
    for wrong in [*NO_COUNTS, 10**5000] if number is int else NO_TOLERANCES:
        if number is int and kind is Bootstrap and name == "memory" and wrong == 2**31:
            continue  # bytes
        with pytest.raises(ValueError, match=rf"^{name}=.* must be an? ") as caught:
            run(kind, **{name: wrong})
        assert re.search("from . to|at least|above", str(caught.value))
        assert len(str(caught.value)) < 200


def test_engines_refuse_an_optional_count_that_is_none():
    for wrong in (0, 1.5, True):
        with pytest.raises((TypeError, ValueError), match=r"^batch_size="):
            CAVI(batch_size=wrong).run(KEY, MIXTURE, X)
    with pytest.raises(TypeError, match=r"^max_iter=None must be an integer"):
        EM(max_iter=None).run(KEY, MIXTURE, X)
    with pytest.raises(TypeError, match=r"^dense_mass='no' must be True or False"):
        NUTS(dense_mass="no").run(KEY, MIXTURE, X)
    with pytest.raises(TypeError, match=r"^max_iter='3' must be an integer"):
        Bootstrap(EM(max_iter="3")).run(KEY, MIXTURE, X)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, 10**400, "2"])
def test_engines_refuse_a_number_of_components(wrong):
    for kind in ENGINES:
        with pytest.raises((TypeError, ValueError), match=r"^k="):
            engine_of(kind).run(KEY, Mixture(SphericalGaussian(), wrong), X)


DEFAULTS = [
    (kind, name, type(parameter.default))
    for kind in ESTIMATORS
    for name, parameter in inspect.signature(kind).parameters.items()
    if type(parameter.default) in (int, float) and name != "verbose"  # True is one
] + [(KMeans, "n_init", int), (KMeans, "seeding_rows", int)]


@pytest.mark.parametrize(("kind", "name", "number"), DEFAULTS)
def test_estimators_refuse_parameters_by_name(kind, name, number):
    wrong = [*NO_INTEGERS, *NO_COUNTS] if number is int else [*NO_NUMBERS, *NO_TOLERANCES]
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=rf"'{name}' parameter .* must be"):
            kind(**{name: value}).fit(X)


def test_estimators_refuse_seeds_and_sizes_of_samples():
    for kind in ESTIMATORS:
        with pytest.raises(ValueError, match="'random_state' parameter"):
            kind(random_state=True).fit(X)
    model = GaussianMixture(1, random_state=0).fit(X)
    for wrong in (0, -1, 2.0, True, "5", 10**400):
        with pytest.raises((TypeError, ValueError), match=r"^n_samples=.* integer from 1"):
            model.sample(wrong)
    for wrong in (-1, 2**32, 1.0, True):
        with pytest.raises((TypeError, ValueError), match=r"^seed=.* integer from 0"):
            model.clustering_.label_draws(X, wrong)


@pytest.mark.parametrize("name", ["k", "n_init", "max_iter", "seeding_rows"])
def test_the_functional_core_refuses_counts(name):
    for wrong in [*NO_INTEGERS, *NO_COUNTS]:
        settings = {"k": 2, name: wrong}
        with pytest.raises((TypeError, ValueError), match=rf"^{name}=.* integer from [01] to"):
            kmeans.fit(KEY, X, **settings)
    for seeding in (kmeans.greedy, kmeans.random_rows):
        with pytest.raises(ValueError, match=r"^k=0"):
            seeding(KEY, packed(X), 0)


def test_the_functional_core_refuses_tolerances_and_more_clusters_than_rows():
    for wrong in (*NO_NUMBERS, *NO_TOLERANCES):
        with pytest.raises((TypeError, ValueError), match=r"^tol=.* finite number of at least 0"):
            kmeans.fit(KEY, X, 2, tol=wrong)
    with pytest.raises(ValueError, match=r"^k=261 must be an integer from 1 to 260"):
        kmeans.fit(KEY, X, 261)


def test_numbers_of_numpy_and_of_a_program_pass():
    for value in (3, np.int8(3), np.uint64(3), np.int64(3)):
        assert type(check_integer("n", value)) is int
    for value in (1, 0.5, np.float32(0.5), np.int8(1), np.array(0.5), jax.numpy.asarray(0.5)):
        check_number("tol", value)
    jax.jit(lambda tol: check_number("tol", tol))(-1.0)
    check_number("share", 1.0, most=1.0, above=True)
    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match=r"share=.* above 0 and at most 1"):
            check_number("share", wrong, most=1.0, above=True)


# -- memory ----------------------------------------------------------------------------------

MANY = 2_000_000_000


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        (EM(n_init=MANY), ["n_init"]),
        (Lloyd(n_init=MANY), ["n_init"]),
        (Bootstrap(EM(), num_draws=MANY), ["num_draws"]),
        (Bootstrap(EM(n_init=MANY)), ["n_init"]),
        (Gibbs(0, MANY), ["num_draws", "num_chains"]),
        (Gibbs(num_chains=MANY), ["num_draws", "num_chains"]),
        (NUTS(num_chains=MANY), ["num_draws", "num_chains"]),
        (PartitionGibbs(num_draws=MANY, thinning=1), ["num_draws", "num_chains"]),
        (SVI(num_particles=MANY), ["num_particles"]),
        (SVI(num_draws=MANY), ["num_draws"]),
        (CAVI(num_draws=MANY), ["num_draws"]),
        (CAVI(n_init=MANY), ["n_init"]),
    ],
    ids=lambda value: type(value).__name__ if dataclasses.is_dataclass(value) else ",".join(value),
)
def test_what_memory_cannot_hold_is_refused_with_its_figure(engine, names):
    with pytest.raises(ValueError, match=r"would take about [\d,]+ GiB of memory") as caught:
        engine.run(KEY, MIXTURE, X)
    for name in names:
        assert f"{name}={getattr(getattr(engine, 'base', engine), name, MANY)}" in str(caught.value)
    assert re.search(rf"lower .*{names[0]}", str(caught.value))


def test_estimators_and_samples_are_bounded_by_memory(monkeypatch):
    for model in (KMeans(2, n_init=MANY), GaussianMixture(2, n_init=MANY)):
        with pytest.raises(ValueError, match=f"n_init={MANY}.* GiB of memory"):
            model.fit(X)
        assert not hasattr(model, "labels_")
    model = GaussianMixture(1, random_state=0).fit(X)
    monkeypatch.setattr(checks, "memory", lambda: 1 << 20)
    with pytest.raises(
        ValueError, match=r"n_samples=100000: the rows would take .* lower n_samples"
    ):
        model.sample(100_000)
    # As many components as nothing can hold, where a model may have more than rows.
    with pytest.raises(ValueError, match=r"k=100000: the draws would take"):
        Gibbs().run(KEY, Mixture(SphericalGaussian(), 100_000), X)


def test_memory_is_what_the_machine_has():
    assert 1 << 28 < checks.memory() < 1 << 63
    check_memory("rows", 1 << 20, n=1)


def test_sweeps_of_a_chain_are_counted_in_32_bits():
    with pytest.raises(ValueError, match=r"num_warmup \+ num_draws \* thinning=3000000000 must be"):
        Gibbs(0, 1000, 1, 3_000_000).run(KEY, MIXTURE, X)


def test_a_long_run_is_planned_in_little_memory():
    """Calls repeat one another: a plan of a hundred million sweeps has three kinds of them."""
    plan = Length(100_000_000, 1001, 1, 7).plan()
    assert sum(int(gaps.sum()) for gaps, _ in plan[-21:]) == 7 * 1001
    assert sum(kept for _, kept in plan[-21:]) == 1001
    assert len({id(gaps) for gaps, _ in plan}) == 3
    assert len(plan) == 2_000_000 + 21


# -- traces ----------------------------------------------------------------------------------


def test_traces_of_a_fit_stay_within_their_bound():
    for n_init in (1, 3, 100, 20_000):
        for max_iter in (1, 300, 10**6, 10**9):
            size = loop.trace_length(max_iter, n_init)
            assert size >= min(max_iter, 64)
            assert size * n_init <= max(2 * loop.TRACED, 64 * n_init)
    assert loop.trace_length(500, 100) >= 500


@pytest.mark.parametrize("n_init", [1, 3])
def test_a_fit_is_the_same_however_many_steps_were_allowed(n_init):
    """Its trace too, which is no longer than a bound."""

    def same(one, two):
        size = np.shape(one)[-1] if np.ndim(one) else None
        assert not np.isfinite(two[..., size:]).any() if np.ndim(two) else True
        np.testing.assert_array_equal(one, two[..., :size] if np.ndim(two) else two)

    few, most = (kmeans.fit(KEY, X, 3, n_init=n_init, max_iter=m) for m in (300, 10**9))
    jax.tree.map(same, few, most)
    assert most.trace.size <= 2 * loop.TRACED
    mixture = Mixture(FullGaussian(), 3)
    few, most = (EM(max_iter=m, n_init=n_init).run(KEY, mixture, X) for m in (500, 10**9))
    jax.tree.map(same, few, most)
    assert most.trace.size <= 2 * loop.TRACED


def test_steps_beyond_a_trace_are_made(monkeypatch):
    mixture = Mixture(FullGaussian(), 2)
    engine = EM(max_iter=90, tol=0.0)
    start = np.random.default_rng(1).normal(size=(300, 2))  # one cluster for two: slow
    whole = engine.run(KEY, mixture, start)
    monkeypatch.setattr(loop, "TRACED", 64)
    cut = engine.run(KEY, mixture, start)
    assert whole.stats["n_steps"] == cut.stats["n_steps"] == 90
    assert cut.trace.shape == (1, 64)
    np.testing.assert_array_equal(cut.trace, whole.trace[:, :64])
    assert np.isfinite(whole.trace[:, :90]).all()
    np.testing.assert_array_equal(cut.stats["objective"], whole.stats["objective"])
