"""Answers per row, in chunks and tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesclust.core.chunks import by_tiles, map_rows
from bayesclust.core.rows import MIN_BLOCK, TILE_BYTES
from bayesclust.core.units import Units

RNG = np.random.default_rng(0)


def answer(x):
    """One number, two numbers, and a label per row."""
    return {"sum": x.sum(1), "both": x[:, :2], "sign": (x[:, 0] > 0).astype(jnp.int32)}


@pytest.mark.parametrize("n", [1, 150, 1000, 1024, 3 * 1024])
@pytest.mark.parametrize("numbers", [1, TILE_BYTES // 1024, TILE_BYTES])
def test_tiles_answer_as_all_rows_at_once(n, numbers):
    x = RNG.normal(size=(n, 3)).astype(np.float32)
    found = jax.jit(lambda x: by_tiles(answer, x, numbers))(x)
    for name, expected in answer(x).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_no_tile_is_longer_than_its_share():
    seen = []

    def watched(x):
        seen.append(x.shape[0])
        return x[:, 0]

    x = jnp.zeros((8192, 2))
    for numbers in (10, 200, 10**6):
        by_tiles(watched, x, numbers)
        # A loop may trace its body more than once.
        assert seen[-1] <= max(TILE_BYTES // (4 * numbers), MIN_BLOCK)
    assert 8192 in seen and MIN_BLOCK in seen


@pytest.mark.parametrize("n", [5, 300, 2500])
def test_chunks_answer_in_row_order_and_report_progress(n):
    X = RNG.normal(size=(n, 3))
    with jax.enable_x64():
        done = []
        units = Units(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))
        call = jax.jit(lambda x: by_tiles(answer, x, TILE_BYTES // 1024))
        found = map_rows(call, X, units, 256, progress=lambda i, n: done.append((i, n)))
    inner = (X - units.shift) / units.scale
    np.testing.assert_allclose(found["sum"], inner.sum(1), atol=1e-12)
    np.testing.assert_array_equal(found["sign"], inner[:, 0] > 0)
    reached = [i for i, _ in done]
    assert reached == sorted(reached)
    assert 0 < reached[-1] <= n
    assert {most for _, most in done} == {n}
