"""The generators: their truth is true, exact where promised, and reproducible."""

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist

from bayesclust.datasets import (
    make_anisotropic,
    make_blobs,
    make_gaussian_board,
    make_student_t,
    make_uniform_board,
)

CLUSTERED = [make_gaussian_board, make_blobs, make_anisotropic, make_student_t]
DRAWN = [make_blobs, make_anisotropic, make_student_t]  # labels drawn from weights


def normal_oracle(sample, X, j):
    truth = sample.parameters
    return stats.multivariate_normal.logpdf(X, truth["means"][j], truth["covariances"][j])


def student_oracle(sample, X, j):
    truth = sample.parameters
    shape = truth["scale_matrices"][j]
    return stats.multivariate_t.logpdf(X, truth["means"][j], shape, df=truth["df"][j])


def truncated_oracle(sample, X, j):
    mean, spread = sample.parameters["means"][j], sample.parameters["spreads"][j]
    low, high = (-1 - mean) / spread, (1 - mean) / spread
    return stats.truncnorm.logpdf(X, low, high, loc=mean, scale=spread).sum(axis=1)


ORACLES = {
    make_gaussian_board: truncated_oracle,
    make_blobs: normal_oracle,
    make_anisotropic: normal_oracle,
    make_student_t: student_oracle,
}


def assert_sound(sample, n, k, d):
    assert sample.X.shape == (n, d)
    assert sample.X.dtype == np.float64
    assert np.isfinite(sample.X).all()
    assert sample.labels.shape == (n,)
    assert np.issubdtype(sample.labels.dtype, np.integer)
    assert set(sample.labels) <= set(range(k))
    assert sample.parameters["weights"].shape == (k,)
    assert sample.parameters["means"].shape == (k, d)
    assert sample.parameters["covariances"].shape == (k, d, d)
    np.testing.assert_allclose(sample.parameters["weights"].sum(), 1, rtol=1e-12)
    assert sample.membership.shape == (n, k)
    assert (sample.membership >= 0).all()
    np.testing.assert_allclose(sample.membership.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(sample.membership_of(sample.X), sample.membership)


@settings(max_examples=40, deadline=None)
@given(
    make=st.sampled_from(CLUSTERED),
    n=st.integers(1, 60),
    k=st.integers(1, 12),
    d=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_size_is_sound(make, n, k, d, seed):
    n = max(n, k)
    assert_sound(make(n, k, d, seed=seed), n, k, d)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), d=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_uniform_board_is_sound(n, d, seed):
    sample = make_uniform_board(n, d, seed=seed)
    assert_sound(sample, n, 1, d)
    assert (sample.labels == 0).all()
    assert (sample.membership == 1).all()
    assert (np.abs(sample.X) <= 1).all()


def test_uniform_board_is_uniform():
    sample = make_uniform_board(20_000, 2, seed=0)
    for column in sample.X.T:
        assert stats.kstest(column, "uniform", (-1, 2)).pvalue > 1e-3
    assert abs(stats.pearsonr(*sample.X.T).statistic) < 0.03
    variance = np.diagonal(sample.parameters["covariances"][0])
    np.testing.assert_allclose(sample.X.var(axis=0), variance, rtol=0.03)
    assert sample.log_prob(sample.X, sample.parameters)[0, 0] == pytest.approx(-np.log(4))


@pytest.mark.parametrize("make", CLUSTERED)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_membership_matches_scipy(make, d):
    k = 4
    sample = make(200, k, d, seed=d)
    X = np.random.default_rng(9).uniform(-0.99, 0.99, (50, d))  # new rows, on the board
    for rows in (sample.X, X):
        log_density = np.stack([ORACLES[make](sample, rows, j) for j in range(k)], axis=1)
        np.testing.assert_allclose(
            sample.log_prob(rows, sample.parameters), log_density, rtol=1e-8, atol=1e-8
        )
        log_joint = log_density + np.log(sample.parameters["weights"])
        expected = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=1, keepdims=True))
        np.testing.assert_allclose(sample.membership_of(rows), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    "sample",
    [
        make_gaussian_board(20_000, 4, seed=1),
        make_blobs(20_000, 4, separation=1.5, weights=[0.1, 0.2, 0.3, 0.4], seed=2),
        make_anisotropic(20_000, 4, separation=0.5, seed=3),
        make_student_t(20_000, 4, df=2.0, separation=2.0, seed=4),
    ],
    ids=repr,
)
def test_truth_is_calibrated(sample):
    bins = np.linspace(0, 1, 21)
    for j, probability in enumerate(sample.membership.T):
        hit = sample.labels == j
        which = np.digitize(probability, bins[1:-1])
        for b in np.unique(which):
            inside = which == b
            variance = (probability[inside] * (1 - probability[inside])).sum()
            surplus = hit[inside].sum() - probability[inside].sum()
            assert abs(surplus) <= 4 * np.sqrt(variance) + 1


@pytest.mark.parametrize("make", DRAWN)
@pytest.mark.parametrize(("k", "d"), [(2, 1), (30, 1), (5, 2), (40, 3), (6, 50)])
@pytest.mark.parametrize("separation", [0.01, 4.0])
def test_closest_centres_are_exactly_separated(make, k, d, separation):
    means = make(5, k, d, separation=separation, seed=0).parameters["means"]
    np.testing.assert_allclose(pdist(means).min(), separation, rtol=1e-9)


@pytest.mark.parametrize("make", [make_blobs, make_student_t])
def test_separation_counts_in_scales(make):
    one = make(50, 3, seed=5).parameters["means"]
    small = make(50, 3, scale=1e-3, seed=5).parameters["means"]
    np.testing.assert_allclose(small, 1e-3 * one, rtol=1e-12)


def test_scale_is_the_standard_deviation():
    sample = make_blobs(20_000, 1, 2, scale=3.0, seed=0)
    np.testing.assert_array_equal(sample.parameters["covariances"][0], 9 * np.eye(2))
    np.testing.assert_allclose(sample.X.std(axis=0), 3, rtol=0.03)
    truth = make_student_t(5, 2, scale=3.0, seed=0).parameters
    np.testing.assert_array_equal(truth["scale_matrices"][1], 9 * np.eye(2))


@pytest.mark.parametrize("d", [1, 2, 10, 100])
@pytest.mark.parametrize("spread", [(0.05, 0.5), (1e-6, 1e-6), (1e9, 1e9)])
def test_gaussian_board_lies_strictly_inside(d, spread):
    sample = make_gaussian_board(2_000, 5, d, spread=spread, seed=0)
    assert np.abs(sample.X).max() < 1
    assert_sound(sample, 2_000, 5, d)


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("spread", [1e-3, 0.5, 1e9])
def test_gaussian_board_has_no_row_on_the_edge(uniform, spread):
    class Corner(np.random.Generator):
        """Draws the most extreme uniform numbers there are."""

        def random(self, size):
            return np.full(size, uniform)

    sample = make_gaussian_board(9, 3, spread=(spread, spread), seed=Corner(np.random.PCG64(0)))
    assert np.abs(sample.X).max() < 1
    assert_sound(sample, 9, 3, 2)


def test_gaussian_board_rows_are_truncated_normal():
    sample = make_gaussian_board(8_000, 4, 3, seed=6)
    for j in range(4):
        rows = sample.X[sample.labels == j]
        mean, spread = sample.parameters["means"][j], sample.parameters["spreads"][j]
        assert 0.05 <= spread <= 0.5
        assert np.unique(mean).size == 3  # the coordinates of a centre differ
        for column, centre in zip(rows.T, mean, strict=True):
            law = stats.truncnorm(
                (-1 - centre) / spread, (1 - centre) / spread, loc=centre, scale=spread
            )
            assert stats.kstest(column, law.cdf).pvalue > 1e-3


def test_gaussian_board_spread_over_the_whole_box_is_uniform():
    sample = make_gaussian_board(5_000, 1, 1, spread=(1e9, 1e9), seed=0)
    assert stats.kstest(sample.X[:, 0], "uniform", (-1, 2)).pvalue > 1e-3


@pytest.mark.parametrize(("n", "k"), [(10, 3), (9, 3), (7, 7), (100, 1)])
def test_gaussian_board_sizes_are_even(n, k):
    sample = make_gaussian_board(n, k, seed=0)
    sizes = np.bincount(sample.labels, minlength=k)
    assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(sample.parameters["weights"], sizes / n)


@pytest.mark.parametrize("make", DRAWN)
def test_rows_have_the_stated_moments(make):
    options = {"df": 12.0} if make is make_student_t else {}
    sample = make(60_000, 3, 3, weights=[0.2, 0.3, 0.5], seed=8, **options)
    sizes = np.bincount(sample.labels) / 60_000
    np.testing.assert_allclose(sizes, sample.parameters["weights"], atol=0.01)
    for j in range(3):
        rows = sample.X[sample.labels == j]
        np.testing.assert_allclose(rows.mean(axis=0), sample.parameters["means"][j], atol=0.06)
        np.testing.assert_allclose(np.cov(rows.T), sample.parameters["covariances"][j], atol=0.06)


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e6, 1e12])
@pytest.mark.parametrize("d", [2, 5])
def test_anisotropic_has_the_condition_asked_for(condition, d):
    sample = make_anisotropic(100, 3, d, condition=condition, seed=1)
    values = np.linalg.eigvalsh(sample.parameters["covariances"])
    np.testing.assert_allclose(values[:, -1], 1, rtol=1e-9)
    np.testing.assert_allclose(values[:, 0] * condition, 1, rtol=1e-3)
    assert_sound(sample, 100, 3, d)


def test_anisotropic_clusters_differ():
    first, second = make_anisotropic(10, 2, 3, seed=0).parameters["covariances"]
    assert not np.allclose(first, second, atol=0.05)


@pytest.mark.parametrize(("df", "exists"), [(1.0, False), (2.0, False), (3.0, True)])
def test_student_t_states_its_covariance_only_where_there_is_one(df, exists):
    truth = make_student_t(20, 2, 2, df=df, scale=2.0, seed=0).parameters
    if exists:
        np.testing.assert_allclose(truth["covariances"], 3 * truth["scale_matrices"])
    else:
        assert np.isnan(truth["covariances"]).all()
    np.testing.assert_array_equal(truth["df"], [df, df])


@pytest.mark.parametrize("make", CLUSTERED)
def test_seeds(make):
    first, again, other = (make(50, 3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.allclose(first.X, other.X)
    np.testing.assert_array_equal(first.X, make(50, 3, seed=np.random.default_rng(1)).X)
    assert not np.allclose(make(50, 3).X, make(50, 3).X)
    rng = np.random.default_rng(1)  # a generator moves on
    assert not np.allclose(make(50, 3, seed=rng).X, make(50, 3, seed=rng).X)


def test_seeds_of_the_uniform_board():
    first = make_uniform_board(50, seed=1).X
    np.testing.assert_array_equal(first, make_uniform_board(50, seed=1).X)
    assert not np.allclose(first, make_uniform_board(50, seed=2).X)


@pytest.mark.parametrize("make", CLUSTERED)
def test_a_seed_gives_the_same_clusters_for_every_n(make):
    few, many = make(30, 3, seed=1).parameters, make(300, 3, seed=1).parameters
    for name in ("means", "covariances"):
        np.testing.assert_array_equal(few[name], many[name])


def test_far_rows_are_scored_without_underflow():
    sample = make_blobs(10, 2, 1, separation=2.0, seed=0)
    left, right = np.sort(sample.parameters["means"][:, 0])
    membership = sample.membership_of([[left - 1e6], [right + 1e6], [(left + right) / 2]])
    np.testing.assert_allclose(np.sort(membership, axis=1), [[0, 1], [0, 1], [0.5, 0.5]])
    assert membership[0].argmax() == sample.parameters["means"].argmin()


def test_a_weight_of_zero_is_a_cluster_that_is_not_there():
    sample = make_blobs(50, 2, weights=[1.0, 0.0], seed=0)
    assert (sample.labels == 0).all()
    np.testing.assert_array_equal(sample.membership, np.tile([1.0, 0.0], (50, 1)))


def test_sample_is_frozen_pickles_and_is_named():
    sample = make_student_t(20, 2, seed=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.X = None
    back = pickle.loads(pickle.dumps(sample))
    np.testing.assert_array_equal(back.membership_of(sample.X), sample.membership)
    assert repr(sample) == "Sample('student_t', n=20, k=2, d=2)"
    names = {make(5, 2).name for make in CLUSTERED} | {make_uniform_board(5).name}
    assert names == {"gaussian_board", "blobs", "anisotropic", "student_t", "uniform_board"}


@pytest.mark.parametrize("make", CLUSTERED)
def test_membership_of_judges_its_rows(make):
    sample = make(20, 3, 2, seed=0)
    assert sample.membership_of(np.empty((0, 2))).shape == (0, 3)
    for rows in (np.zeros(2), np.zeros((4, 3)), [[np.nan, 0.0]], [[np.inf, 0.0]]):
        with pytest.raises(ValueError, match="X_new"):
            sample.membership_of(rows)


@pytest.mark.parametrize("sample", [make_uniform_board(9), make_gaussian_board(9, 2)], ids=repr)
def test_off_the_board_no_probability_is_defined(sample):
    assert np.isfinite(sample.membership_of([[1.0, -1.0]])).all()
    with pytest.raises(ValueError, match="no density"):
        sample.membership_of([[0.0, 0.0], [1.1, 0.0]])


BAD_COUNTS = [
    *[(make, (0, 1, 1), "n must") for make in CLUSTERED],
    *[(make, (5, 0, 1), "k must") for make in CLUSTERED],
    *[(make, (5, 1, -1), "d must") for make in CLUSTERED],
    (make_uniform_board, (0,), "n must"),
    (make_uniform_board, (5, 0), "d must"),
    (make_gaussian_board, (2, 3), "k=3"),
]


@pytest.mark.parametrize(("make", "arguments", "match"), BAD_COUNTS)
def test_bad_counts_are_named(make, arguments, match):
    with pytest.raises(ValueError, match=match):
        make(*arguments)


BAD_OPTIONS = [
    *[(make, "separation", value) for make in DRAWN for value in (0.0, -1.0, np.nan, np.inf)],
    *[
        (make, "weights", value)
        for make in DRAWN
        for value in ([1.0], [0.5, 0.6], [-0.5, 1.5], [np.nan, 1.0], [0.0, 0.0], [[0.5, 0.5]])
    ],
    *[(make, "scale", value) for make in (make_blobs, make_student_t) for value in (0.0, np.inf)],
    *[(make_student_t, "df", value) for value in (0.0, -1.0, np.nan, np.inf, 1e-4)],
    *[(make_anisotropic, "condition", value) for value in (0.5, -1.0, np.nan, 1e13)],
    *[
        (make_gaussian_board, "spread", value)
        for value in ((0.5, 0.05), (0.0, 0.5), (-1.0, 1.0), (0.1, np.inf), (np.nan, 1.0), (0.1,))
    ],
]


@pytest.mark.parametrize(("make", "option", "value"), BAD_OPTIONS)
def test_bad_options_are_named(make, option, value):
    with pytest.raises(ValueError, match=option):
        make(10, 2, **{option: value}, seed=0)


def test_a_count_that_is_no_integer_is_a_type_error():
    with pytest.raises(TypeError, match="n must be an integer"):
        make_blobs(10.5, 2)
