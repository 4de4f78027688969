"""Uniform numbers: the published generator, the uniform distribution, orders all alike."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesclust.core.random import (
    as_threefry,
    generator,
    key_of,
    normal,
    random_order,
    symmetric,
    threefry,
    uniform,
)

KEY = jax.random.key(0)
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


IMPLS = ["threefry2x32", "rbg", "unsafe_rbg"]


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**32 - 1])
def test_a_key_of_a_seed_is_that_of_jax(seed, impl):
    with jax.default_prng_impl(impl):
        found, wanted = key_of(seed), jax.random.key(np.uint32(seed), impl="threefry2x32")
    assert found.dtype == wanted.dtype
    assert np.array_equal(jax.random.key_data(found), jax.random.key_data(wanted))


def streams(impl):
    """Keys that must have nothing to do with each other."""
    seeds = [jax.random.key(s, impl=impl) for s in (0, 1, 2, 2**31, 2**32 - 1)]
    key = jax.random.key(6, impl=impl)
    split = [*jax.random.split(key, 3), *jax.random.split(jax.random.split(key, 4)[3], 2)]
    # Of another key: those of Threefry are equal to its parts.
    folded = [jax.random.fold_in(jax.random.key(8, impl=impl), i) for i in (0, 2, 3)]
    inside = jax.vmap(jax.random.split)(jax.random.split(jax.random.key(7, impl=impl)))
    return [key, *seeds, *split, *folded, *inside.ravel()]


@pytest.mark.parametrize("impl", IMPLS)
def test_keys_of_any_kind_have_streams_of_their_own(impl):
    lines = np.stack([np.asarray(uniform(key, (5000,), np.float64)) for key in streams(impl)])
    assert len(np.unique(lines)) == lines.size
    assert abs(np.corrcoef(lines) - np.eye(len(lines))).max() < 5 / np.sqrt(5000)
    for line in lines:
        assert stats.kstest(line, "uniform").pvalue > 1e-4
    # Of one number each, too: that of neighbouring seeds is what starts and chains see.
    firsts = [uniform(jax.random.key(s, impl=impl), (), np.float64) for s in range(500)]
    assert stats.kstest(firsts, "uniform").pvalue > 1e-3


def test_keys_of_other_names_have_streams_of_their_own():
    keys = [key_of(seed, name) for seed in (0, 1) for name in ("", "fit", "draws", "sample")]
    lines = np.stack([np.asarray(uniform(key, (5000,), np.float64)) for key in keys])
    assert abs(np.corrcoef(lines) - np.eye(len(lines))).max() < 5 / np.sqrt(5000)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_numpy_generator_of_a_key(impl):
    lines = np.stack([generator(key).random(5000) for key in streams(impl)])
    assert abs(np.corrcoef(lines) - np.eye(len(lines))).max() < 5 / np.sqrt(5000)
    again = generator(streams(impl)[0]).random(5000)
    np.testing.assert_array_equal(again, lines[0])


@pytest.mark.parametrize("impl", IMPLS)
def test_a_key_turned_into_one_of_threefry_gives_the_same_numbers(impl):
    key = jax.random.key(9, impl=impl)
    for found in (as_threefry(key), jax.jit(as_threefry)(key)):
        assert found.dtype == KEY.dtype
        np.testing.assert_array_equal(
            uniform(found, (5,), "float32"), uniform(key, (5,), "float32")
        )


def test_a_raw_key_is_the_typed_one():
    raw, typed = jax.random.PRNGKey(5), jax.random.key(5)
    np.testing.assert_array_equal(uniform(raw, (9,), "float32"), uniform(typed, (9,), "float32"))
    np.testing.assert_array_equal(generator(raw).random(3), generator(typed).random(3))


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


@pytest.mark.parametrize("impl", IMPLS)
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


@pytest.mark.parametrize("impl", IMPLS)
def test_lanes_of_a_batch_are_those_of_a_loop(impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 3)
    batch = jax.vmap(lambda key: uniform(key, (7,), jnp.float32))(keys)
    loop = [uniform(key, (7,), jnp.float32) for key in keys]
    np.testing.assert_array_equal(batch, jnp.stack(loop))


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
