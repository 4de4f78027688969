"""Units: shifts are exact, moments survive offsets, scales are what they say."""

import jax
import numpy as np
import pytest

from bayesclust.core.units import (
    Units,
    column_spread,
    moments,
    natural_units,
    natural_units_traced,
    standard_units,
)

RNG = np.random.default_rng(0)
Y = RNG.normal(size=(500, 3)) * [1.0, 5.0, 0.1]
W = RNG.uniform(size=500)


@pytest.mark.parametrize("weight", [None, W])
@pytest.mark.parametrize(
    ("dtype", "offset", "tol"), [("float64", 1e8, 1e-6), ("float32", 1e4, 1e-3)]
)
def test_moments_survive_an_offset(dtype, offset, tol, weight):
    X = (Y + offset).astype(dtype)
    mean, variance = moments(X, weight)
    share = np.full(500, 1 / 500) if weight is None else weight / weight.sum()
    centred = X.astype(np.float64) - offset  # exact
    expected = share @ centred
    np.testing.assert_allclose(mean - offset, expected, rtol=0, atol=tol * 0.1)
    # What a column's own rounding leaves of it, and no more.
    np.testing.assert_allclose(variance, share @ np.square(centred - expected), rtol=tol)


def test_moments_skip_rows_of_weight_zero_and_work_in_pieces():
    X = np.tile(Y, (200, 1))[:, [0, 1, 2, 0]]
    X[0] = 1e30
    weight = np.ones(len(X))
    weight[0] = 0
    mean, variance = moments(X, weight)
    np.testing.assert_allclose(mean, X[1:].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(variance, X[1:].var(axis=0), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_natural_units_share_one_power_of_two(dtype):
    X = (1000 * Y + 3e5).astype(dtype)
    units = natural_units(X)
    assert set(units.scale) == {4096.0}  # nearest to the widest column's spread of 5000
    np.testing.assert_array_equal(units.shift, units.shift.astype(dtype))
    np.testing.assert_allclose(units.shift, X.astype(np.float64).mean(axis=0), rtol=1e-6)


def test_standard_units_divide_constant_columns_by_their_value_or_the_widest_spread():
    X = np.column_stack([Y, np.full(500, 0.1) * 1e8, np.zeros(500)])
    units = standard_units(X)
    np.testing.assert_allclose(units.scale, [*Y.std(axis=0), 1e7, Y.std(axis=0)[1]])
    inner = units.inward(X)
    np.testing.assert_allclose(inner[:, :3].std(axis=0), 1)
    np.testing.assert_allclose(units.outward(inner), X, rtol=1e-14)


def test_constant_data_have_units_too():
    X = np.full((10, 2), 7.0)
    for units in (natural_units(X), standard_units(X)):
        np.testing.assert_allclose(units.scale, 7, rtol=0.5)
        np.testing.assert_array_equal(units.inward(X), 0)


def test_column_spread_is_in_the_units_and_one_where_constant():
    units = Units(np.array([0.0, 5.0, 0.0]), np.full(3, 2.0))
    # What rounding the offset leaves of a constant column is no spread.
    found = column_spread(np.array([4.0, 1e-14, 16.0]), units, np.dtype("float32"))
    np.testing.assert_array_equal(found, [2, 1, 4])
    assert found.dtype == np.float32


@pytest.mark.parametrize("weight", [None, W])
def test_units_know_the_variance_of_their_data(weight):
    X = 1000 * Y + 3e5
    expected = moments(X, weight)[1]
    for units in (natural_units(X, weight), standard_units(X, weight)):
        for known in (units, units._replace(second=None)):
            variance = known.variance(X, weight) * units.scale**2
            np.testing.assert_allclose(variance, expected, rtol=1e-9)


def test_units_inside_a_program_are_those_of_the_host():
    with jax.enable_x64():
        for X, weight in ((Y + 1e8, np.ones(500)), (1e-8 * Y, W), (np.ones((500, 3)), W)):
            shift, scale, variance = jax.jit(natural_units_traced)(X, weight / weight.sum())
            mean, expected = moments(X, weight)
            np.testing.assert_allclose(shift, mean, rtol=1e-13)
            np.testing.assert_allclose(variance * scale**2, expected, rtol=1e-7)
            if expected.any():  # constant data have no scale inside a program
                assert float(scale) == natural_units(X, weight).scale[0]
