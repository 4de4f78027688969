"""The sums over rows form a monoid: however rows are cut, shared, ordered or repeated."""

import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesclust import kmeans
from bayesclust.core import assign, loop, rows
from bayesclust.core.loop import Algorithm
from bayesclust.core.rows import Rows, pack, unblock
from bayesclust.core.sweep import add_up, each, sweep
from bayesclust.engines import SeededStart, em
from bayesclust.families import FullGaussian
from bayesclust.kmeans.fit import _fit_program
from bayesclust.kmeans.lloyd import LloydStep
from bayesclust.kmeans.restarts import Plan
from bayesclust.mixture import Mixture
from tests.problems import ALGORITHMS, FAMILIES, KEY, algorithm_at, assert_close, blobs, packed

TOL = {"float32": 2e-6, "float64": 1e-14}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture(params=ALGORITHMS)
def name(request):
    return request.param


def stats_of(name, X, weight=None, block=64):
    """Statistics at one and the same state, whatever the rows."""
    data = packed(X, weight, block)
    algorithm, state = algorithm_at(name, data)
    # Constants are sums over the rows too: one program, whatever they are.
    return loop._sweep(algorithm, state, data), getattr(algorithm, "constants", ())


def data(dtype):
    X, _ = blobs(320, dtype=dtype)
    return X, np.random.default_rng(1).integers(1, 5, 320).astype(dtype)


def test_stats_of_two_sets_add_up_to_those_of_their_union(name, dtype):
    X, w = data(dtype)
    whole = stats_of(name, X, w)
    parts = stats_of(name, X[:101], w[:101]), stats_of(name, X[101:], w[101:])
    assert_close(jax.tree.map(jnp.add, *parts), whole, TOL[dtype])


def test_stats_do_not_depend_on_the_block_size(name, dtype):
    X, w = data(dtype)
    assert_close(stats_of(name, X, w, block=16), stats_of(name, X, w, block=512), TOL[dtype])


def test_stats_do_not_depend_on_the_order_of_the_rows(name, dtype):
    X, w = data(dtype)
    order = np.random.default_rng(2).permutation(len(X))
    assert_close(stats_of(name, X[order], w[order]), stats_of(name, X, w), TOL[dtype])


def test_weight_counts_repetitions(name, dtype):
    X, w = data(dtype)
    again = np.repeat(X, w.astype(int), axis=0)
    assert len(again) > 2 * len(X)
    assert_close(stats_of(name, X, w), stats_of(name, again), TOL[dtype])


def test_a_row_of_weight_zero_is_absent_wherever_it_lies(name, dtype):
    X, w = data(dtype)
    far = np.full((20, 2), 1e15, dtype)
    with_far = np.concatenate([far[:7], X, far[7:]])
    weight = np.concatenate([np.zeros(7), w, np.zeros(13)]).astype(dtype)
    assert_close(stats_of(name, with_far, weight), stats_of(name, X, w), TOL[dtype])


@pytest.mark.parametrize("weighted", [False, True])
def test_packing_inside_a_program_gives_the_same_sums(dtype, weighted):
    X, w = data(dtype)
    w = w if weighted else None
    host = packed(X, w, block=64)
    inside = jax.jit(lambda X, w: pack(X, w, block=64))(X, w)
    algorithm, state = algorithm_at("full", host)
    assert_close(
        loop._sweep(algorithm, state, inside), loop._sweep(algorithm, state, host), TOL[dtype]
    )


def test_parts_in_threads_give_the_whole(name, dtype, monkeypatch):
    X, w = data(dtype)
    whole = packed(X, w, block=16)
    algorithm, state = algorithm_at(name, whole, trace_length=16)
    monkeypatch.setattr(rows, "cores", lambda: 3)
    monkeypatch.setattr(rows, "PARALLEL_WORK", 1)
    parts = rows.spread(whole, 10)
    assert len(parts) == 3
    seen = []
    driven = loop.drive(algorithm, state, parts, 4, watch=lambda s: seen.append(int(s.n_steps)))
    inside = loop._iterate(algorithm, state, whole, 4)
    assert seen == [1, 2, 3, 4]
    assert_close(driven, inside, 20 * TOL[dtype])


def test_spread_covers_every_block_once_and_leaves_small_work_whole(monkeypatch):
    whole = packed(blobs(200, dtype="float32")[0], block=16)
    monkeypatch.setattr(rows, "cores", lambda: 4)
    parts = rows.spread(whole, rows.PARALLEL_WORK)
    covered = [i for part in parts for i in range(int(part.first), int(part.last))]
    assert len(parts) == 4
    assert covered == list(range(13))
    assert len(rows.spread(whole, rows.PARALLEL_WORK - 1)) == 1


SEVERAL_DEVICES = """
import sys, json, jax, numpy as np
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from bayesclust import kmeans
from bayesclust.core import rows
from bayesclust.engines import EM, SeededStart
from bayesclust.families import FullGaussian
from bayesclust.mixture import Mixture
from tests.problems import KEY, blobs, packed

rows.PARALLEL_WORK = 1
X, _ = blobs(20_000, dtype="float32")
parts = rows.spread(packed(X, block=4096), 10)
homes = sorted({str(d) for part in parts for d in part.x.devices()})
found = kmeans.fit(KEY, X, 3, n_init=2)
draws = EM(max_iter=5).run(KEY, Mixture(FullGaussian(), 3), X, start=SeededStart())
print(json.dumps([
    len(homes), found.centers.tolist(), np.bincount(found.labels).tolist(), float(found.inertia),
    found.objectives.tolist(), draws.params["cov"].tolist(), draws.log_weights.tolist(),
]))
"""


@pytest.mark.slow
def test_several_devices_give_what_one_gives():
    def fitted_on(devices):
        done = subprocess.run(
            [sys.executable, "-c", SEVERAL_DEVICES, str(devices)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    (homes, *one), (homes_2, *two) = fitted_on(1), fitted_on(2)
    assert (homes, homes_2) == (1, 2)
    assert one[1] == two[1]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)


def test_totals_in_float32_are_as_good_over_many_blocks_as_over_one():
    m = 1 << 16
    x = np.random.default_rng(0).uniform(size=(m, 1, 1)).astype(np.float32)
    data = Rows(jnp.asarray(x), jnp.ones((m, 1), jnp.float32), 0, m)
    total = jax.jit(lambda data: add_up(data, lambda x, weight, i: x[0, 0]))(data)
    exact = math.fsum(x.ravel().tolist())
    naive = np.cumsum(x.ravel())[-1]
    assert abs(float(naive) - exact) > 1e-6 * exact  # else this test could not fail
    assert abs(float(total) - exact) <= 2e-7 * exact


def test_each_and_unblock_bring_results_back_in_row_order(dtype):
    X, w = data(dtype)

    def double(x, weight):
        return {"row": 2 * x, "weight": weight}

    found = jax.tree.map(lambda v: unblock(v, len(X)), each(packed(X, w, block=48), double))
    np.testing.assert_array_equal(found["row"], 2 * X)
    np.testing.assert_array_equal(found["weight"], w)


# ------------------------------------------------------------------------------------ assignments


def test_hard_puts_all_mass_on_the_best_and_ties_go_to_the_lowest():
    scores = jnp.array([[0.0, 2.0, 1.0], [1.0, 2.0, -jnp.inf], [0.5, -1.0, 1.0]])
    resp, value = assign.hard(scores, jnp.int32(0))
    assert resp.T.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert value.tolist() == [1, 2, 1]


@pytest.mark.parametrize("k", [1, assign.UNROLLED, assign.UNROLLED + 1])
def test_winner_is_argmax_for_few_components_and_many(k):
    scores = np.random.default_rng(0).integers(0, 5, size=(k, 500)).astype("float32")
    index, best = assign.winner(jnp.asarray(scores))
    np.testing.assert_array_equal(index, scores.argmax(axis=0))
    np.testing.assert_array_equal(best, scores.max(axis=0))


def test_soft_is_softmax_and_log_sum_exp_without_overflow(dtype):
    scores = 300 * np.random.default_rng(0).normal(size=(4, 50)).astype(dtype)
    scores[2] = -np.inf
    resp, value = assign.soft(jnp.asarray(scores), jnp.int32(0))
    np.testing.assert_allclose(resp, jax.nn.softmax(scores, axis=0), rtol=1e-5)
    np.testing.assert_allclose(value, jax.nn.logsumexp(scores, axis=0), rtol=1e-5)
    np.testing.assert_allclose(np.sum(resp, axis=0), 1, rtol=1e-6)


def test_drawn_frequencies_are_softmax_and_blocks_draw_apart():
    log_p = jnp.array([-jnp.inf, 0.3, -2.0, 1.1, -jnp.inf, -0.4, -jnp.inf])[:, None]
    b, m = 4096, 8
    draw = jax.jit(lambda block: assign.drawn(KEY)(jnp.tile(log_p, (1, b)), block))
    resp, value = zip(*[draw(jnp.int32(i)) for i in range(m)], strict=True)
    resp = np.stack(resp)
    assert ((resp == 0) | (resp == 1)).all()
    np.testing.assert_array_equal(resp.sum(axis=1), 1)
    p = np.asarray(jax.nn.softmax(log_p[:, 0]), np.float64)
    n = b * m
    sd = np.sqrt(p * (1 - p) / n)
    np.testing.assert_array_less(np.abs(resp.sum(axis=(0, 2)) / n - p), 4.5 * sd + 1e-12)
    np.testing.assert_allclose(value[0], jax.nn.logsumexp(log_p), rtol=1e-6)
    labels = resp.argmax(axis=1)
    agree = (labels[0] == labels[1]).mean()
    np.testing.assert_allclose(agree, (p**2).sum(), atol=0.04)  # as independent draws do


def test_a_drawn_sweep_adds_up_what_it_draws(dtype):
    X, w = data(dtype)
    rows_ = packed(X, w, block=64)
    total, value = jax.jit(
        lambda rows_: sweep(
            rows_,
            lambda x: jnp.stack([x[0], x[1], -x[0]]),
            assign.drawn(KEY),
            lambda x, resp: jnp.sum(resp, axis=1),
        )
    )(rows_)
    np.testing.assert_allclose(total.sum(), w.sum(), rtol=1e-6)
    scores = np.stack([X[:, 0], X[:, 1], -X[:, 0]])
    np.testing.assert_allclose(value, w @ np.logaddexp.reduce(scores), rtol=1e-5)


# ------------------------------------------------------------------------------------ memory


def temporary(jitted, *args, **kwargs):
    return jitted.lower(*args, **kwargs).compile().memory_analysis().temp_size_in_bytes


def blocks(m, d=2, b=512):
    return packed(np.zeros((m * b, d), np.float32), block=b)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_sweep_needs_no_more_memory_for_more_rows(name):
    few, many = blocks(2), blocks(64)
    algorithm, state = algorithm_at(name, few, k=16)
    need = temporary(loop._sweep, algorithm, state, few)
    assert need > 0  # else the compiler tells us nothing
    assert temporary(loop._sweep, algorithm, state, many) <= need


def test_whole_fits_hold_nothing_of_rows_times_components():
    k, many = 16, blocks(256)
    n = many.weight.size
    plan = Plan(kmeans.greedy, k, 1, 16)
    found = temporary(
        _fit_program,
        plan.luck(KEY, many.dtype), many, many, None, LloydStep(np.float32(0), np.float32(1)),
        np.int32(5), plan=plan,
    )  # fmt: skip
    assert found < n * k * 4 / 2
    start = SeededStart()
    found = temporary(
        em._fit_program,
        KEY, Mixture(FullGaussian(), k), many, start, np.float32(0), np.int32(5),
        n_init=1, trace_length=16, work=1,
    )  # fmt: skip
    assert found < n * k * 4 / 2


def test_nominating_is_for_algorithms_that_can():
    class Still(Algorithm):
        sweep = update = lambda self, state, rows: state

    with pytest.raises(TypeError, match="Still never nominates"):
        Still().nominate(None, None)


def test_constants_of_a_family_are_sums_too(dtype):
    X, w = data(dtype)
    for family in FAMILIES.values():
        whole = family().constants(packed(X, w))
        parts = (
            family().constants(packed(X[:50], w[:50])),
            family().constants(packed(X[50:], w[50:])),
        )
        assert_close(jax.tree.map(jnp.add, *parts), whole, TOL[dtype])
