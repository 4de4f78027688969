"""Uniform numbers: the published generator, the uniform distribution, orders all alike."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesclust.core.random import key_of, normal, random_order, symmetric, threefry, uniform

KEY = jax.random.key(0)
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**32 - 1])
def test_a_key_of_a_seed_is_that_of_jax(seed, impl):
    with jax.default_prng_impl(impl):
        found, wanted = key_of(seed), jax.random.key(np.uint32(seed))
    assert found.dtype == wanted.dtype
    assert np.array_equal(jax.random.key_data(found), jax.random.key_data(wanted))


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        (PI[:2], PI[2:], (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_hashes_are_those_published(counter, key, words):
    """Known answers that come with Salmon et al. (2011)."""
    found = threefry(*map(jnp.uint32, (*key, *counter)))
    assert tuple(map(int, found)) == words


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_uniform_and_unrelated(dtype):
    with jax.enable_x64(dtype == "float64"):
        u = np.asarray(uniform(KEY, (4, 50_000), jnp.dtype(dtype)))
        other = np.asarray(uniform(jax.random.fold_in(KEY, 1), (50_000,), jnp.dtype(dtype)))
    assert u.dtype == dtype and (u >= 0).all() and (u < 1).all()
    for line in [*u, other]:
        assert stats.kstest(line, "uniform").pvalue > 1e-3
    # Neither with their neighbours nor with those of another key.
    lines = np.stack([*u, other, np.roll(u[0], 1)])
    assert abs(np.corrcoef(lines) - np.eye(len(lines))).max() < 0.02


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_key_at_hand_gives_on_the_host_what_it_gives_in_a_program(dtype, impl):
    key = jax.random.key(2**32 - 1, impl=impl)
    with jax.enable_x64(dtype == "float64"):
        for shape in [(), (7,), (3, 5)]:
            found = uniform(key, shape, dtype)
            wanted = jax.jit(lambda key, shape=shape: uniform(key, shape, dtype))(key)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, wanted)


def test_numbers_fill_the_precision():
    with jax.enable_x64(True):
        u = np.asarray(uniform(KEY, (1000,), jnp.float64))
    scaled = u * 2.0**53
    assert (scaled == np.floor(scaled)).all()
    assert len(np.unique(scaled % 2**26)) > 990  # the lower word counts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_and_symmetric_numbers(dtype):
    with jax.enable_x64(dtype == "float64"):
        s = np.asarray(symmetric(KEY, (50_000,), jnp.dtype(dtype)))
        x = np.asarray(normal(KEY, (50_000,), jnp.dtype(dtype)))
    assert s.dtype == x.dtype == dtype
    assert np.abs(s).max() < 1 and np.abs(s).min() > 0
    assert stats.kstest(s, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert np.isfinite(x).all() and np.abs(x).max() > 3.5


def test_lanes_of_a_batch_are_those_of_a_loop():
    keys = jax.random.split(KEY, 3)
    batch = jax.vmap(lambda key: uniform(key, (7,), jnp.float32))(keys)
    loop = [uniform(key, (7,), jnp.float32) for key in keys]
    np.testing.assert_array_equal(batch, jnp.stack(loop))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_any_kind_of_key_will_do(impl):
    key = jax.random.key(3, impl=impl)
    assert stats.kstest(np.asarray(uniform(key, (5000,), jnp.float32)), "uniform").pvalue > 1e-3


def test_orders_are_equally_likely():
    orders = np.asarray(jax.vmap(lambda k: random_order(k, 4))(jax.random.split(KEY, 24_000)))
    found = [np.sum((orders == p).all(axis=1)) for p in itertools.permutations(range(4))]
    assert sum(found) == len(orders)
    assert stats.chisquare(found).pvalue > 1e-3


def test_ties_still_give_an_order(monkeypatch):
    monkeypatch.setattr(
        "bayesclust.core.random.uniform", lambda key, shape, dtype: jnp.zeros(shape, dtype)
    )
    assert random_order(KEY, 5).tolist() == [0, 1, 2, 3, 4]
