"""Rows in blocks: every row is in exactly one place, everything else weighs nothing."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesclust.core import rows, threads
from bayesclust.core.rows import (
    aligned_zeros,
    block_size,
    bucket,
    cores,
    pack,
    pack_host,
    split,
    unblock,
)


@given(st.integers(1, 10**9))
def test_a_bucket_holds_its_size_with_an_eighth_to_spare_at_most(size):
    found = bucket(size)
    assert size <= found <= max(64, size + size / 8 + 1)
    assert bucket(found) == found


def test_buckets_are_eight_to_an_octave():
    assert len({bucket(size) for size in range(1025, 2049)}) == 8


@given(st.integers(1, 10**7), st.integers(1, 10**6), st.sampled_from(["float32", "float64"]))
def test_a_block_fits_its_tile(n, numbers_per_row, dtype):
    b = block_size(n, numbers_per_row, dtype)
    assert b == bucket(n) or b & (b - 1) == 0
    # A single block may take two tiles: no loop at all beats the better block.
    tiles = 2 if b == bucket(n) else 1
    if b > tiles * rows.MIN_BLOCK * 9 / 8:
        assert b <= tiles * rows.MAX_BLOCK * 9 / 8
        assert b * numbers_per_row * np.dtype(dtype).itemsize <= tiles * rows.TILE_BYTES * 9 / 8


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_packed_rows_come_back_and_padding_weighs_nothing(n, dtype):
    rng = np.random.default_rng(n)
    X, w = rng.normal(size=(n, 3)).astype(dtype), rng.uniform(size=n)
    shift, scale = X[0].astype(np.float64), np.array([1.0, 2.0, 0.5])
    with jax.enable_x64(dtype == "float64"):
        for weight in (None, w):
            packed = pack_host(X, weight, shift=shift, scale=scale, block=16)
            assert packed.x.dtype == packed.dtype == dtype
            assert packed.x.shape[1:] == (packed.n_features, packed.block) == (3, 16)
            assert packed.weight.shape == (packed.x.shape[0], 16)
            assert (int(packed.first), int(packed.last)) == (0, -(-n // 16))
            back = unblock(packed.x, n) * scale + shift
            np.testing.assert_allclose(back, X, rtol=0, atol=4 * np.finfo(dtype).eps)
            flat = np.asarray(packed.weight).ravel()
            np.testing.assert_array_equal(flat[:n], 1 if weight is None else weight.astype(dtype))
            assert (flat[n:] == 0).all()
            assert np.isfinite(packed.x).all()


@pytest.mark.parametrize("n", [5, 48])
def test_pack_and_pack_host_lay_rows_out_alike(n):
    X = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    w = np.arange(n, dtype=np.float32)
    inside = pack(jnp.asarray(X), jnp.asarray(w), block=16)
    host = pack_host(X, w, shift=np.zeros(2), scale=np.ones(2), block=16)
    m, _, b = inside.x.shape
    assert b == min(n, 16)  # a program has its size anyhow: one block needs no padding
    np.testing.assert_array_equal(inside.x, host.x[:m, :, :b])
    np.testing.assert_array_equal(inside.weight, host.weight[:m, :b])
    assert not np.asarray(host.weight[m:]).any()
    assert not np.asarray(host.weight[:, b:]).any()


def test_the_shift_is_taken_exactly_however_large_it_is():
    # Neighbouring float32 values far from zero: their differences are exact.
    X = (np.float32(2.0**24) + 2 * np.arange(40, dtype=np.float32))[:, None]
    packed = pack_host(X, shift=np.array([2.0**24]), scale=np.ones(1), block=64)
    np.testing.assert_array_equal(unblock(packed.x, 40)[:, 0], 2 * np.arange(40))


def test_many_rows_are_packed_by_several_threads_as_by_one(monkeypatch):
    X = np.random.default_rng(0).normal(size=(1 << 18, 5)).astype(np.float32)
    settings = {"shift": X[3].astype(np.float64), "scale": np.full(5, 2.0), "block": 4096}
    monkeypatch.setattr(rows, "cores", lambda: 3)
    shared = pack_host(X, **settings)
    monkeypatch.setattr(rows, "cores", lambda: 1)
    alone = pack_host(X, **settings)
    np.testing.assert_array_equal(shared.x, alone.x)


def test_parts_are_all_blocks_once_in_the_memory_of_the_whole(monkeypatch):
    monkeypatch.setattr(rows, "cores", lambda: 2)
    X = np.random.default_rng(0).normal(size=(1100, 3)).astype(np.float32)
    whole = pack_host(X, shift=np.zeros(3), scale=np.ones(3), block=32)
    assert split(whole, rows.PARALLEL_WORK - 1) == [whole]
    parts = split(whole, rows.PARALLEL_WORK)
    np.testing.assert_array_equal(np.concatenate([p.x for p in parts]), whole.x)
    np.testing.assert_array_equal(np.concatenate([p.weight for p in parts]), whole.weight)
    assert sum(int(p.last) - int(p.first) for p in parts) == whole.last < len(whole.x)
    assert np.shares_memory(np.asarray(parts[1].x), np.asarray(whole.x))


def test_aligned_zeros_lie_on_the_boundary_a_device_adopts():
    for shape in [(3,), (2, 5), (1, 7, 16)]:
        for dtype in (np.float32, np.float64):
            array = aligned_zeros(shape, dtype)
            assert array.shape == shape
            assert array.dtype == dtype
            assert array.ctypes.data % 64 == 0
            assert not array.any()


def test_threads_return_in_order_and_carry_the_precision_switch():
    def dtype(i):
        return i, jnp.zeros(1).dtype.name

    calls = [lambda i=i: dtype(i) for i in range(5)]
    assert threads.run(calls) == [(i, "float32") for i in range(5)]
    with jax.enable_x64():
        assert threads.run(calls) == [(i, "float64") for i in range(5)]


def test_an_error_in_a_thread_is_raised_when_no_call_is_running():
    begun, ended = [], []

    def work(i):
        begun.append(i)
        time.sleep(0.05)
        ended.append(i)

    def fail():
        raise OverflowError("here")

    with pytest.raises(OverflowError, match="here"):
        threads.run([lambda: work(0), fail, lambda: work(2)])
    assert 0 in ended and sorted(begun) == sorted(ended)
    with pytest.raises(OverflowError, match="here"):
        threads.run([fail, *(lambda i=i: work(i) for i in range(3, 9))])
    assert sorted(begun) == sorted(ended)
    seen = len(begun)
    time.sleep(0.1)
    assert len(begun) == seen  # nothing begins afterwards


def test_calls_may_run_calls_of_their_own():
    """More of them than there are threads: each would wait for the other's."""

    def outer(i):
        return threads.run([lambda j=j: (i, j) for j in range(3)])

    found = []
    count = 2 * cores() + 1
    caller = threading.Thread(
        target=lambda: found.extend(threads.run([lambda i=i: outer(i) for i in range(count)])),
        daemon=True,
    )
    caller.start()
    caller.join(60)
    assert found == [[(i, j) for j in range(3)] for i in range(count)]


def test_nobody_waits_for_the_work_of_another_caller():
    gate = threading.Event()
    slow = threading.Thread(
        target=lambda: threads.run([gate.wait] * (2 * cores() + 1)), daemon=True
    )
    slow.start()
    found = []
    quick = threading.Thread(
        target=lambda: found.extend(threads.run([lambda i=i: i for i in range(4)])), daemon=True
    )
    quick.start()
    quick.join(60)
    gate.set()
    slow.join(60)
    assert found == [0, 1, 2, 3]
