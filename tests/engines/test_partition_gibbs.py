"""Chains over partitions: laws that need no long run. Their proof is in tests/calibration."""

import dataclasses

import jax
import numpy as np
import pytest

from bayesclust.core.units import standard_units
from bayesclust.engines import chains, partition_gibbs
from bayesclust.engines.partition_gibbs import PartitionGibbs
from bayesclust.families import FullGaussian, SphericalGaussian
from bayesclust.mixture import Mixture
from tests.engines.laws import assert_an_interruption_keeps_draws, assert_same
from tests.laws.test_compilation import programs_built
from tests.problems import KEY, blobs, plain

X, Z = blobs(96, 2, 3, separation=1.5)
SHORT = PartitionGibbs(num_warmup=60, num_draws=60, num_chains=2, thinning=1)
MIXTURE = Mixture(SphericalGaussian(), 3)


@pytest.fixture(params=["one by one", "together"])
def form(request, monkeypatch):
    if request.param == "together":
        monkeypatch.setattr(partition_gibbs, "VISITED_ROWS", 0)
    return request.param


@pytest.fixture
def together(monkeypatch):
    monkeypatch.setattr(partition_gibbs, "VISITED_ROWS", 0)


def run(engine=SHORT, data=X, key=KEY, k=3, **settings):
    return engine.run(key, Mixture(SphericalGaussian(), k), data, **settings)


def sizes(draws):
    """Rows per cluster, which the spheres of a draw tell: ``2 lambda var = (m + 1) / m``."""
    return 1 / (2 * draws.stats["temperature"][..., None] * draws.params["var"] - 1)


def test_a_draw_stands_for_its_partition_as_a_point_fit_does(form):
    draws = run(dataclasses.replace(SHORT, draw_centers=False))
    assert draws.shape == (2, 60)
    m = sizes(draws)
    np.testing.assert_allclose(m, np.round(m), rtol=1e-6)
    np.testing.assert_allclose(m.sum(axis=2), 96)
    # Within and between the clusters lies all that lies around the mean of the rows.
    between = (m * np.square(draws.params["mean"] - X.mean(axis=0)).sum(axis=3)).sum(axis=2)
    total = np.square(X - X.mean(axis=0)).sum()
    np.testing.assert_allclose(draws.stats["inertia"] + between, total, rtol=1e-9)
    with jax.enable_x64():
        for c, s in ((0, 0), (1, 59)):
            params = {n: v[c, s] for n, v in draws.params.items()}
            found = MIXTURE.responsibilities(params, draws.log_weights[c, s], X)
            d2 = np.square(X[:, None] - params["mean"]).sum(axis=2)
            mass = np.exp(-draws.stats["temperature"][c, s] * m[c, s] / (m[c, s] + 1) * d2)
            np.testing.assert_allclose(found, mass / mass.sum(axis=1, keepdims=True), atol=1e-6)


def test_drawn_centres_lie_around_the_means_by_their_standard_error(form):
    engine = dataclasses.replace(SHORT, num_draws=500, thinning=2)
    means = run(dataclasses.replace(engine, draw_centers=False))
    draws = run(engine)
    assert_same(draws.stats, means.stats)  # the chain is the same
    np.testing.assert_allclose(draws.params["var"] * draws.stats["temperature"][..., None], 0.5)
    np.testing.assert_allclose(draws.log_weights, -np.log(3))
    gap = draws.params["mean"] - means.params["mean"]
    z = gap * np.sqrt(2 * draws.stats["temperature"][..., None] * sizes(means))[..., None]
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(np.square(z).mean() - 1) < 4 * np.sqrt(2 / z.size)


def test_scalars_are_those_of_the_posterior(form):
    draws = run(PartitionGibbs(2.0, 30.0, 60, 400, 2, 5))
    sse, temperature = draws.stats["inertia"], draws.stats["temperature"]
    found = (2.0 + 96 - 1) * np.log(temperature) - temperature * (30.0 + sse)
    np.testing.assert_allclose(draws.stats["log_posterior"], found, rtol=1e-9)
    # lambda (b + SSE) is Gamma(a + n d / 2, 1) whatever the partition.
    g = temperature * (30.0 + sse)
    assert abs(g.mean() - 98) < 4 * np.sqrt(98 / g.size)
    assert abs(g.var() / 98 - 1) < 4 * np.sqrt(2 / g.size)


def test_same_key_same_draws_and_another_key_others(form):
    assert_same(run(), run())
    assert not np.allclose(run(key=jax.random.key(7)).params["mean"], run().params["mean"])


def chain_means(engine, data, **settings):
    draws = run(engine, data, **settings)
    return np.stack([v.mean(axis=1) for n, v in sorted(draws.stats.items())])


def z_scores(a, b):
    """Differences of two runs, chains being samples of independent ones."""
    error = (a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / a.shape[1]
    return (a.mean(axis=1) - b.mean(axis=1)) / np.sqrt(error)


@pytest.mark.slow
def test_both_forms_agree_and_neither_order_nor_labels_matter(monkeypatch):
    engine = PartitionGibbs(num_warmup=200, num_draws=100, num_chains=16, thinning=10)
    visited = chain_means(engine, X)
    order = np.random.default_rng(0).permutation(len(X))
    moved = chain_means(engine, X[order], key=jax.random.key(1), start=(2 - Z)[order])
    assert np.abs(z_scores(visited, moved)).max() < 4
    monkeypatch.setattr(partition_gibbs, "VISITED_ROWS", 0)
    together = chain_means(engine, X, key=jax.random.key(2))
    assert np.abs(z_scores(visited, together)).max() < 4


def test_how_sweeps_are_divided_among_programs_changes_nothing(monkeypatch):
    whole = run()
    monkeypatch.setattr(chains, "CHUNK", 20)
    assert_same(run(), whole)


@pytest.mark.slow
def test_blocks_of_rows_change_nothing_but_the_random_numbers(together, monkeypatch):
    monkeypatch.setattr(partition_gibbs, "numbers_per_row", lambda k, d: 10**6)
    many, _ = blobs(1200, 2, 3, separation=1.5)
    draws = run(dataclasses.replace(SHORT, draw_centers=False), many)
    m = sizes(draws)
    np.testing.assert_allclose(m.sum(axis=2), 1200, rtol=1e-6)
    between = (m * np.square(draws.params["mean"] - many.mean(axis=0)).sum(axis=3)).sum(axis=2)
    total = np.square(many - many.mean(axis=0)).sum()
    np.testing.assert_allclose(draws.stats["inertia"] + between, total, rtol=1e-7)


def test_thinning_keeps_every_other_draw():
    every = run(dataclasses.replace(SHORT, num_draws=40))
    thin = run(dataclasses.replace(SHORT, num_draws=20, thinning=2))
    assert_same(thin.params, jax.tree.map(lambda v: v[:, 1::2], every.params))


def test_weights_count_repetitions_and_zero_is_absence(form):
    weight = np.arange(96) % 3
    repeated = np.repeat(X, weight, axis=0)
    units = plain(2)
    assert_same(run(sample_weight=weight, units=units), run(data=repeated, units=units))
    # Also where the units of the fit are found from the weights.
    found = run(sample_weight=weight.astype(float))
    assert_same(found.stats, run(data=repeated).stats, rtol=1e-6)


def test_parts_of_rows_are_refused():
    with pytest.raises(ValueError, match="whole numbers"):
        run(sample_weight=np.full(96, 0.5))
    with pytest.raises(ValueError, match="cannot fit a FullGaussian"):
        SHORT.run(KEY, Mixture(FullGaussian(), 3), X)
    with pytest.raises(ValueError, match="more rows"):
        run(data=X[:2])


def test_an_interruption_keeps_the_draws_so_far(monkeypatch):
    assert_an_interruption_keeps_draws(run, monkeypatch)


def test_another_fit_runs_the_same_program(form):
    other = jax.random.key(5)
    run(), run(sample_weight=np.ones(96))
    before = partition_gibbs._advance._cache_size()
    again = {
        "key": lambda: run(key=other),
        "prior": lambda: run(dataclasses.replace(SHORT, shape=2.0, rate=3.0)),
        "rows": lambda: run(data=X[:91]),
        "draws": lambda: run(dataclasses.replace(SHORT, num_draws=80, thinning=3)),
        "weights": lambda: run(sample_weight=np.ones(96)),
    }
    # One trace is that of the result's shape, in the runner of chains.
    built = {what: programs_built(call) for what, call in again.items()}
    assert built == dict.fromkeys(again, programs_built(run))
    assert partition_gibbs._advance._cache_size() == before


def test_units_of_the_data_do_not_matter(form):
    draws, moved = run(), run(data=X * 1024.0 + 4096.0)
    np.testing.assert_allclose(
        moved.params["mean"], draws.params["mean"] * 1024.0 + 4096.0, rtol=1e-6
    )
    np.testing.assert_allclose(moved.stats["inertia"], draws.stats["inertia"] * 2.0**20, rtol=1e-6)
    np.testing.assert_allclose(
        moved.stats["temperature"], draws.stats["temperature"] / 2.0**20, rtol=1e-6
    )


def test_in_standard_units_distances_are_those_of_standard_columns():
    wide = X * np.array([1.0, 100.0])
    units = standard_units(wide)
    draws = run(data=wide, units=units)
    inner = run(data=units.inward(wide), units=plain(2))
    assert_same(draws.stats, inner.stats, rtol=1e-6)
    np.testing.assert_allclose(draws.params["mean"], units.outward(inner.params["mean"]), rtol=1e-6)


PAIRS = np.repeat([[0.0, 0.0], [3.0, 4.0]], 8, axis=0)
HOSTILE = {
    "fewer places than clusters": (PAIRS, 3),
    "as many places as clusters": (PAIRS, 2),
    "one place": (PAIRS[:8], 3),
    "as many rows as clusters": (X[:3], 3),
    "one cluster": (X[:16], 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=[pytest.mark.slow][i == 0 :]) for i, w in enumerate(HOSTILE)]
)
def test_hostile_rows_give_finite_draws(what, dtype, monkeypatch):
    rows, k = HOSTILE[what]
    for most in (0, 1000):
        monkeypatch.setattr(partition_gibbs, "VISITED_ROWS", most)
        draws = run(data=rows.astype(dtype), k=k)
        for leaf in jax.tree.leaves((draws.params, draws.log_weights, draws.stats)):
            assert np.isfinite(leaf).all()
        assert (draws.params["var"] > 0).all()
