"""Gibbs sampling: laws that need no long run. Its proof is in tests/calibration."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesclust.core.units import Units
from bayesclust.engines import Gibbs, chains, gibbs
from bayesclust.families import FullGaussian, NormalInverseWishart
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet, Gamma
from tests.engines.laws import assert_an_interruption_keeps_draws, assert_same
from tests.problems import FAMILIES, KEY, blobs, packed, plain

X, Z = blobs(96, 2, 3, separation=8.0)
SHORT = Gibbs(num_warmup=60, num_draws=60, num_chains=2)


def run(engine=SHORT, family="full", data=X, key=KEY, **settings):
    return engine.run(key, Mixture(FAMILIES[family](), 3), data, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_draws_are_laid_out_by_chain_and_find_the_clusters(family):
    draws = run(family=family)
    assert draws.shape == (2, 60)
    assert draws.k == 3
    assert set(draws.params) == set(FAMILIES[family].dims)
    for name, value in draws.params.items():
        assert value.shape[:2] == (2, 60)
        assert np.isfinite(value).all(), name
    np.testing.assert_allclose(np.exp(draws.log_weights).sum(-1), 1, rtol=1e-9)
    truth = np.stack([X[Z == j].mean(axis=0) for j in range(3)])
    gaps = np.linalg.norm(draws.params["mean"][..., None, :] - truth, axis=-1).min(axis=2)
    assert np.median(gaps) < 0.6
    assert (draws.stats["occupied"] <= 3).all()
    assert not draws.flags["interrupted"].any()


def test_the_recorded_likelihood_is_that_of_the_recorded_draw():
    draws = run()
    mixture = Mixture(FullGaussian(), 3)
    with jax.enable_x64():
        for c, s in ((0, 0), (1, 17), (0, 59)):
            params = {n: v[c, s] for n, v in draws.params.items()}
            found = mixture.log_density(params, draws.log_weights[c, s], X).sum()
            np.testing.assert_allclose(draws.stats["log_likelihood"][c, s], found, rtol=1e-9)
    entropy = -(np.exp(draws.log_weights) * draws.log_weights).sum(-1)
    np.testing.assert_allclose(draws.stats["weight_entropy"], entropy, rtol=1e-6)


def test_same_key_same_draws_and_another_key_others():
    assert_same(run(), run())
    other = run(key=jax.random.key(7))
    assert not np.allclose(other.params["mean"], run().params["mean"])


@pytest.mark.slow
def test_how_sweeps_are_divided_among_programs_changes_nothing(monkeypatch):
    whole = run()
    monkeypatch.setattr(chains, "CHUNK", 7)
    assert_same(run(), whole)


def test_thinning_keeps_every_other_draw():
    every = run(dataclasses.replace(SHORT, num_draws=40))
    thin = run(dataclasses.replace(SHORT, num_draws=20, thinning=2))
    assert_same(thin.params, jax.tree.map(lambda v: v[:, 1::2], every.params))


def test_labels_are_permuted():
    draws = run()
    order = np.argsort(draws.params["mean"][..., 0], axis=-1)
    assert len(np.unique(order.reshape(-1, 3), axis=0)) == 6


@pytest.mark.slow
def test_weights_count_repetitions_and_zero_is_absence():
    weight = np.arange(96) % 3
    posterior = []
    for rows, w in ((X, weight), (np.repeat(X, weight, axis=0), None)):
        draws = run(
            Gibbs(200, 800, 4), data=rows, sample_weight=w, units=Units(np.zeros(2), np.ones(2))
        )
        posterior.append(np.linalg.slogdet(draws.params["cov"])[1].sum(-1).mean())
    # Exactly, on clusters that overlap: tests/oracles/test_weights.py.
    assert abs(posterior[0] - posterior[1]) < 0.5


def test_another_prior_runs_the_same_program():
    def fit(scale):
        prior = NormalInverseWishart(np.zeros(2), 0.1, 5.0, scale * np.eye(2))
        return SHORT.run(KEY, Mixture(FullGaussian(prior=prior), 3, Dirichlet(scale)), X)

    fit(1.0)
    before = gibbs._advance._cache_size()
    fit(2.0)
    assert gibbs._advance._cache_size() == before


def test_units_of_the_data_do_not_matter():
    plain_draws = run()
    moved = run(data=X * 1024.0 + 4096.0)
    np.testing.assert_allclose(
        moved.params["mean"], plain_draws.params["mean"] * 1024.0 + 4096.0, rtol=1e-6
    )


@pytest.mark.slow
def test_an_unknown_concentration_is_drawn():
    mixture = Mixture(FullGaussian(), 3, Dirichlet(Gamma(2.0, 2.0)))
    draws = SHORT.run(KEY, mixture, X)
    assert draws.stats["concentration"].shape == (2, 60)
    assert (draws.stats["concentration"] > 0).all()
    assert np.ptp(draws.stats["concentration"]) > 0.1


def test_an_interruption_keeps_the_draws_so_far(monkeypatch):
    assert_an_interruption_keeps_draws(run, monkeypatch)


KILLED = """
import os, sys
import numpy as np
import jax
from bayesclust import FullGaussian, Mixture
from bayesclust.engines import Gibbs, chains, gibbs

chains.CHUNK = 20
X = np.load(sys.argv[1])
engine = Gibbs(60, 60, 2, checkpoint=sys.argv[2])

def die(done, total):
    if done >= 80:
        os.kill(os.getpid(), 9)

engine.run(jax.random.key(0), Mixture(FullGaussian(), 3), X, progress=die)
"""


def test_a_killed_run_goes_on_to_the_same_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(chains, "CHUNK", 20)
    rows, path = tmp_path / "rows.npy", str(tmp_path / "run.ckpt")
    np.save(rows, X)
    code = [sys.executable, "-c", KILLED, str(rows), path]
    # Other optimisations round otherwise.
    quick = str(jax.config.read("jax_disable_most_optimizations"))
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": quick}
    assert subprocess.run(code, env=env, check=False).returncode == -9
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []
    began = []
    engine = dataclasses.replace(SHORT, checkpoint=path)
    found = run(engine, progress=lambda done, total: began.append(done))
    assert began[0] > 60  # the warm-up was not made again
    assert_same(found, run())
    assert_same(run(engine, progress=lambda done, total: pytest.fail("all was done")), run())


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = str(tmp_path / "run.ckpt")
    engine = dataclasses.replace(SHORT, checkpoint=path)
    run(engine)
    for settings in ({"data": X + 1}, {"key": jax.random.key(9)}, {"family": "tied"}):
        with pytest.raises(ValueError, match="another run"):
            run(engine, **settings)
    (tmp_path / "run.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="no checkpoint"):
        run(engine)


def test_a_step_works_under_jit_and_vmap():
    mixture = Mixture(FullGaussian().scaled_to(jnp.ones(2)).informed(3), 3)
    rows = packed(X.astype(np.float32), block=96)
    start = mixture.family.located(jnp.asarray(X[:3], jnp.float32))
    keys = jax.random.split(KEY, 4)

    def once(key):
        state = gibbs.GibbsState(key, jnp.int32(0), start, jnp.full(3, -np.log(3.0)), {}, {})
        return gibbs.step(mixture, (), rows, state)

    states, records = jax.jit(jax.vmap(once))(keys)
    assert states.params["mean"].shape == (4, 3, 2)
    np.testing.assert_allclose(records.stats["log_likelihood"], records.stats["log_likelihood"][0])


def test_plain_units_are_those_of_the_data():
    assert plain(2).scale.tolist() == [1, 1]
