"""What must not matter: units, offsets, the order of starts, rows that weigh nothing."""

import jax
import numpy as np
import pytest

from bayesclust import kmeans
from bayesclust.core import rows as core_rows
from bayesclust.kmeans import MiniBatchState, minibatch
from bayesclust.kmeans.lloyd import lloyd_block
from bayesclust.kmeans.restarts import Plan
from bayesclust.kmeans.seeding import greedy_driven
from tests.problems import KEY, blobs, packed, slowly

Z = np.arange(300) % 3
X = np.array([[0, 0], [12, 0], [0, 12]])[Z] + np.random.default_rng(0).normal(size=(300, 2))
SEEDS = X[:3]


def same_partition(a, b):
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(b.tolist()))


@pytest.mark.parametrize(
    ("dtype", "offset"), [("float32", 1e6), ("float64", 1e8), ("float32", -1e6)]
)
def test_an_offset_moves_the_centres_and_nothing_else(dtype, offset):
    moved = (X + offset).astype(dtype)
    base = moved.astype(np.float64) - offset  # rounded by the offset already
    found = kmeans.fit(KEY, moved, 3, init=moved[:3])
    plain = kmeans.fit(KEY, base, 3, init=base[:3])
    np.testing.assert_array_equal(found.labels, plain.labels)
    assert same_partition(found.labels, Z)
    np.testing.assert_allclose(found.inertia, plain.inertia, rtol=1e-5)
    ulp = np.spacing(np.asarray(abs(offset), dtype))
    np.testing.assert_allclose(found.centers - offset, plain.centers, atol=float(ulp))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_a_scale_changes_no_label(dtype, scale):
    base, scaled = X.astype(dtype), (X * scale).astype(dtype)
    plain = kmeans.fit(KEY, base, 3)
    found = kmeans.fit(KEY, scaled, 3)
    np.testing.assert_array_equal(found.labels, plain.labels)
    np.testing.assert_allclose(found.inertia, plain.inertia * scale**2, rtol=1e-4)
    assert found.n_steps == plain.n_steps


@pytest.mark.parametrize("init", [kmeans.greedy, SEEDS.astype(np.float32)])
@pytest.mark.parametrize("n", slowly([300, 60_000], {300}))
def test_tight_clusters_very_far_apart_get_the_right_labels_in_float32(n, init):
    # Two pairs a million standard deviations from each other, each pair 6 apart.
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0], [6, 0], [1e5, 0], [1e5, 6.0]])
    z = np.arange(n) % 4
    rows = (centers[z] + 0.5 * rng.normal(size=(n, 2))).astype(np.float32)
    init = init if callable(init) else rows[:4]
    found = kmeans.fit(KEY, rows, 4, init=init, n_init=1 if not callable(init) else 3)
    assert not bool(found.imprecise)
    own = np.square(rows.astype(float)[:, None] - found.centers).sum(axis=2)
    np.testing.assert_array_equal(found.labels, own.argmin(axis=1))
    assert same_partition(found.labels, z)


def test_rounding_too_coarse_for_the_clusters_is_flagged_inside_a_program():
    n = 40_000
    z = np.arange(n) % 2
    far = (np.array([-1e6, 1e6])[z] + np.random.default_rng(0).normal(size=n))[:, None]
    near = (far / 1e5).astype(np.float32)
    far = far.astype(np.float32)
    fit = jax.jit(lambda X: kmeans.fit(KEY, X, 8, init=X[:8], max_iter=5).imprecise)
    assert bool(fit(far))
    assert not bool(fit(np.random.default_rng(0).normal(size=near.shape).astype(np.float32)))
    assert not bool(kmeans.fit(KEY, far, 8, init=far[:8], max_iter=5).imprecise)


@pytest.mark.parametrize("init", [kmeans.greedy, SEEDS])
def test_zero_weight_rows_are_absent(init):
    # Of the same shape and bucket as without them, for the same draws of the seeding.
    with_far = np.concatenate([X, np.full((4, 2), 1e9)])
    weight = np.concatenate([np.ones(300), np.zeros(4)])
    found = kmeans.fit(KEY, with_far, 3, sample_weight=weight, init=init)
    plain = kmeans.fit(KEY, X, 3, init=init)
    np.testing.assert_array_equal(found.labels[:300], plain.labels)
    np.testing.assert_allclose(found.centers, plain.centers, rtol=1e-12)
    np.testing.assert_allclose(found.inertia, plain.inertia, rtol=1e-12)


def test_weight_two_is_the_row_twice():
    weight = np.random.default_rng(0).integers(0, 3, 300)
    found = kmeans.fit(KEY, X, 3, sample_weight=weight.astype(float), init=SEEDS, tol=0)
    again = kmeans.fit(KEY, np.repeat(X, weight, axis=0), 3, init=SEEDS, tol=0)
    np.testing.assert_allclose(found.centers, again.centers, rtol=1e-12)
    np.testing.assert_allclose(found.inertia, again.inertia, rtol=1e-12)
    np.testing.assert_array_equal(found.counts, again.counts)


@pytest.mark.parametrize("k, size", [(3, 80), (20, 64)])
def test_blocks_of_long_rows_are_filled_and_give_the_same(k, size):
    long, _ = blobs(300, 784, 3, dtype="float32")
    assert lloyd_block(300, k, 784, np.float32) == size
    assert size * 784 * 4 < core_rows.SHARED_BYTES
    found = kmeans.fit(KEY, long, k, init=long[:k], max_iter=3)
    gaps = np.square(long[:, None].astype(float) - found.centers).sum(axis=2)
    np.testing.assert_array_equal(found.labels, gaps.argmin(axis=1))
    np.testing.assert_allclose(found.inertia, gaps.min(axis=1).sum(), rtol=1e-5)
    assert found.counts.sum() == 300


@pytest.mark.parametrize("seeding", [kmeans.greedy, kmeans.random_rows])
@pytest.mark.parametrize("n_init", [1, 3])
def test_keys_of_the_old_kind_are_keys(seeding, n_init):
    found = kmeans.fit(jax.random.PRNGKey(0), X, 3, init=seeding, n_init=n_init)
    wanted = kmeans.fit(jax.random.key(0), X, 3, init=seeding, n_init=n_init)
    np.testing.assert_array_equal(found.objectives, wanted.objectives)
    np.testing.assert_array_equal(found.centers, wanted.centers)


@pytest.mark.parametrize("seeding", slowly([kmeans.greedy, kmeans.random_rows], {kmeans.greedy}))
def test_the_best_of_several_starts_is_kept(seeding):
    hard, _ = blobs(300, 2, 12, separation=4.0)
    found = kmeans.fit(KEY, hard, 12, init=seeding, n_init=8)
    assert found.objectives.shape == (8,)
    np.testing.assert_allclose(found.inertia, found.objectives.min(), rtol=1e-12)
    assert len(np.unique(found.objectives.round(6))) > 1
    luck = Plan(seeding, 12, 8).luck(KEY, hard.dtype)
    each = [kmeans.fit(own, hard, 12, init=seeding).inertia for own in luck]
    np.testing.assert_allclose(found.objectives, each, rtol=1e-9)
    own = np.square(hard - found.centers[found.labels]).sum()
    np.testing.assert_allclose(found.inertia, own, rtol=1e-10)


# ------------------------------------------------------------------------------------ seeding


def seeds_of(seeding, rows, k, count):
    draw = jax.jit(jax.vmap(lambda key: seeding(key, rows, k)))
    return np.asarray(draw(jax.random.split(KEY, count)))


@pytest.mark.parametrize("seeding", [kmeans.greedy, kmeans.random_rows])
def test_seeds_are_distinct_rows_of_positive_weight(seeding):
    points = np.arange(40, dtype=np.float32)[:, None] * [1, 2]
    weight = (np.arange(40) % 3 == 1) * np.linspace(0.1, 1, 40)
    seeds = seeds_of(seeding, packed(points.astype(np.float32), weight, block=16), 5, 200)
    chosen = seeds[..., 0].astype(int)
    np.testing.assert_array_equal(seeds[..., 1], 2 * seeds[..., 0])
    assert set(chosen.ravel()) == set(np.flatnonzero(weight))
    assert all(len(set(row)) == 5 for row in chosen.tolist())


def test_greedy_seeds_find_far_clusters_which_random_rows_do_not():
    tight, _ = blobs(320, 2, 5, separation=60.0, dtype="float32")
    rows = packed(tight)

    def covered(seeding):
        seeds = seeds_of(seeding, rows, 5, 100)
        labels = np.square(seeds[:, :, None] - tight[:5]).sum(axis=-1).argmin(axis=-1)
        return np.mean([len(set(row)) == 5 for row in labels.tolist()])

    assert covered(kmeans.greedy) > 0.97
    assert covered(kmeans.random_rows) < 0.2  # 5!/5^5 = 0.04


@pytest.mark.parametrize("d", [2, 6])
def test_seeds_are_the_same_whoever_judges_the_rows(d, monkeypatch):
    monkeypatch.setattr(core_rows, "cores", lambda: 2)
    rng = np.random.default_rng(d)
    X = (rng.normal(size=(1000, d)) + 4 * rng.integers(0, 5, (1000, 1))).astype(np.float32)
    whole = packed(X, rng.integers(0, 3, 1000).astype(np.float32))
    parts = core_rows.split(whole, core_rows.PARALLEL_WORK)
    assert len(parts) == 2
    for seed in range(5):
        key = jax.random.key(seed)
        one = jax.jit(kmeans.greedy, static_argnums=2)(key, whole, 8)
        np.testing.assert_array_equal(greedy_driven(key, parts, 8), one)


def test_first_seeds_follow_the_weights():
    points = np.arange(32, dtype=np.float32)[:, None]
    weight = np.where(np.arange(32) < 2, [1.0] + [3.0] + [0] * 30, 0)
    weight[20] = 4.0
    rows = packed(points, weight, block=16)
    for seeding in (kmeans.greedy, kmeans.random_rows):
        first = seeds_of(seeding, rows, 1, 4000)[:, 0, 0].astype(int)
        share = np.bincount(first, minlength=32)[[0, 1, 20]] / 4000
        np.testing.assert_allclose(share, [0.125, 0.375, 0.5], atol=0.035)


@pytest.mark.parametrize("d", [2, 6])
def test_second_seeds_follow_weight_times_squared_distance(d):
    rng = np.random.default_rng(d)
    points = np.round(rng.normal(size=(32, d)) * rng.uniform(0.5, 3, (32, 1)), 3).astype(np.float32)
    weight = rng.integers(0, 4, 32).astype(float)
    d2 = ((points[:, None] - points.astype(float)) ** 2).sum(-1)
    expected = np.zeros(32)
    for first in range(32):
        q = weight * d2[first] / (weight * d2[first]).sum()
        # The better of two candidates: the other is drawn again, or one of higher cost.
        cost = weight @ np.minimum(d2[first][:, None], d2)
        worse = (q * (cost[:, None] < cost)).sum(1)
        expected += weight[first] / weight.sum() * (q * q + 2 * q * worse)
    seeds = seeds_of(kmeans.greedy, packed(points, weight, block=16), 2, 20_000)[:, 1]
    second = np.abs(seeds[:, None] - points).sum(-1).argmin(1)
    found, seen = np.bincount(second, minlength=32), expected > 0
    chi2 = ((found - 20_000 * expected)[seen] ** 2 / (20_000 * expected[seen])).sum()
    assert found[~seen].sum() == 0
    assert chi2 < seen.sum() + 5 * np.sqrt(2 * seen.sum())


def test_seeding_on_a_subsample_sees_only_that_many_rows():
    found = kmeans.fit(KEY, X, 3, seeding_rows=20, history=True, max_iter=300)
    assert same_partition(found.labels, Z)
    rows = {tuple(row) for row in X.round(9).tolist()}
    assert all(tuple(row) in rows for row in found.history[0].round(9).tolist())


# ------------------------------------------------------------------------------------ mini-batch


def test_one_batch_of_everything_is_one_step_of_lloyd():
    rows = packed(X)
    with jax.enable_x64():
        rows = packed(X)
        for direct in (False, True):
            state = minibatch.step(
                MiniBatchState.start(jax.numpy.asarray(SEEDS)), rows, 0.0, direct=direct
            )
            once = kmeans.fit(KEY, X, 3, init=SEEDS, max_iter=1, history=True)
            np.testing.assert_allclose(state.centers, once.history[1], rtol=1e-12)
            np.testing.assert_allclose(state.inertia, once.trace[0], rtol=1e-9)
            assert state.n_steps == 1
            assert float(state.counts.sum()) == 300


def test_centres_are_running_means_of_the_rows_they_served():
    with jax.enable_x64():
        state = MiniBatchState.start(jax.numpy.asarray(SEEDS))
        sums, counts = np.zeros((3, 2)), np.zeros(3)
        for first in range(0, 300, 50):
            batch = X[first : first + 50]
            label = kmeans.assign(batch, np.asarray(state.centers))
            np.add.at(sums, label, batch)
            np.add.at(counts, label, 1)
            state = minibatch.step(state, packed(batch), 0.0)
            np.testing.assert_allclose(state.counts, counts)
            np.testing.assert_allclose(state.centers, sums / counts[:, None], rtol=1e-10)


@pytest.mark.slow
def test_mini_batches_converge_to_the_clustering_of_all_rows():
    rng = np.random.default_rng(0)
    state = MiniBatchState.start(jax.numpy.asarray(X[[0, 0, 0]].astype(np.float32)))
    for _ in range(60):
        batch = X[rng.choice(300, 50, replace=False)].astype(np.float32)
        state = minibatch.step(state, packed(batch), 0.01)
    centers = np.asarray(state.centers)
    labels = kmeans.assign(X, centers)
    assert same_partition(labels, Z)
    full = kmeans.fit(KEY, X, 3, init=centers)
    own = np.square(X - centers[labels]).sum()
    # Early batches, and the row a centre was moved to, keep some weight in the means.
    assert own < 1.06 * full.inertia
