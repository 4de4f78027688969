"""The units a fit works in: data are shifted and scaled before float32 touches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bayesclust._typing import Array
from bayesclust.core.rows import share
from bayesclust.table import read, read_weight

ORDINARY = {"float32": 40, "float64": 256}
"""Powers of two between which the spread of ordinary columns lies: squares have room to spare."""

FAR = 2.0**64
"""A column that lies so many spreads of the data away from zero is constant: the next number of
either precision is farther off than all of them."""


class Units(NamedTuple):
    """``internal = (user * 2**-exponent - shift) / scale``, all ``(d,)`` on the host.

    Data of extraordinary magnitude are first scaled by a power of two, which is exact. Their
    *scaled units* are what draws come in, for squares of the user's units may not exist; for all
    other data there is no exponent, and they are the user's own.

    Attributes
    ----------
    shift, scale : (d,) float64 ndarrays
        Inside a program: arrays of it.
    second : (d,) ndarray or None
        Mean squared deviation of the data's columns from `shift`, in scaled units, where
        it is known: so that rows need be read for it only once.
    exponent : (d,) int ndarray or None
        None is zero.
    disparity : float
        Logarithm to the base ten of how many times wider the widest column is than the narrowest;
        constant columns apart.
    """

    shift: Any
    scale: Any
    second: np.ndarray | None = None
    exponent: np.ndarray | None = None
    disparity: float = 0.0

    def variance(self, X: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        """Column variances of these data in the fit's units, ``(d,)``."""
        second = self.second
        if second is None:
            second = moments(self.scaled(X), sample_weight)[1]
        return second / self.scale**2

    def scaled(self, X: np.ndarray) -> np.ndarray:
        """Rows in scaled units; `X` itself without an exponent."""
        return X if self.exponent is None else scale_by(X, -self.exponent)

    def unscaled(self, X: np.ndarray) -> np.ndarray:
        """Rows in the user's units from scaled ones."""
        return X if self.exponent is None else scale_by(X, self.exponent)

    def inward(self, X: np.ndarray) -> np.ndarray:
        """Rows in the fit's units, in the dtype of `X`."""
        low = self.shift.astype(X.dtype)
        return ((self.scaled(X) - low) / self.scale.astype(X.dtype)).astype(X.dtype)

    def outward(self, X: np.ndarray) -> np.ndarray:
        """Rows in scaled units from those of the fit, float64."""
        return np.asarray(X, np.float64) * self.scale + self.shift

    @property
    def log_scale(self) -> float:
        """Log volume of a unit cell in the user's units."""
        power = 0 if self.exponent is None else self.exponent.sum()
        return float(np.sum(np.log(self.scale)) + power * np.log(2.0))

    @property
    def common(self) -> tuple[float, int] | None:
        """Scale and exponent of all columns, or None where they differ."""
        if not np.all(self.scale == self.scale[0]):
            return None
        if self.exponent is None:
            return float(self.scale[0]), 0
        near = np.abs(self.shift) < FAR  # others are constant, see `natural_units`
        powers = self.exponent[near]
        if not len(powers) or not np.all(powers == powers[0]):
            return None
        return float(self.scale[0]), int(powers[0])


def scale_by(X: Any, exponent: Any) -> np.ndarray:
    """``X * 2**exponent``; what is too large becomes infinite, what is too small zero."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(X, exponent)


def in_steps(change: Callable[..., Any], value: Any, exponent: np.ndarray | None) -> Any:
    """Convert what depends on the data's unit to rows times ``2**exponent``.

    Parameters
    ----------
    change : callable
        ``change(value, shift, scale)``: the value for rows times `scale` plus `shift`.
    value : pytree
    exponent : (d,) int ndarray or None

    Notes
    -----
    In four steps, so that no square of a scale over- or underflows where the result does not.
    """
    if exponent is None:
        return value
    done = np.zeros_like(exponent)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        for i in range(1, 5):
            step = exponent * i // 4 - done
            value = change(value, np.zeros(len(step)), np.ldexp(1.0, step))
            done += step
    return value


def read_rows(
    X: Any, sample_weight: Any, units: Units | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read rows and weights that are handed to the functional core.

    Units that hold finite moments were taken from these rows, which then were read before.

    Raises
    ------
    ValueError, TypeError
        If a cell or a weight is no finite number; it names the column and the row.
    """
    if units is not None and units.second is not None and np.isfinite(units.second).all():
        return np.asarray(X), None if sample_weight is None else np.asarray(sample_weight)
    rows = read(X).values
    if sample_weight is None:
        return rows, None
    return rows, read_weight(sample_weight, len(rows), rows.dtype)


def moments(X: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Weighted column means and variances in double precision.

    Parameters
    ----------
    X : (n, d) ndarray
    sample_weight : (n,) ndarray, optional

    Returns
    -------
    mean, variance : (d,) float64 ndarrays
    """
    n, d = X.shape
    step = max(1, (1 << 17) // max(d, 1))
    w = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    if w is not None:
        w = np.ldexp(w, -_exponent_of(w.max()))  # so that no sum of weights overflows
    total = float(n) if w is None else float(w.sum())
    first = np.flatnonzero(w)[0] if w is not None else 0
    # Moments about one row: an offset as large as the rows themselves cancels at once.
    origin = X[first].astype(np.float64)
    low = X[first]
    m = -(-n // step)
    sums = np.zeros((2, m, d))

    def part(i: int) -> None:
        y = X[i * step : (i + 1) * step] - low
        v = np.ones(len(y), y.dtype) if w is None else w[i * step : (i + 1) * step].astype(y.dtype)
        sums[0, i] = v @ y
        if d <= 16:  # one matrix product beats a pass by columns where they are few
            sums[1, i] = np.diagonal((y if w is None else v[:, None] * y).T @ y)
        else:
            sums[1, i] = v @ np.square(y, out=y)

    def parts(begin: int, end: int) -> None:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for i in range(begin, end):
                part(i)

    share(parts, m, n * d)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        s1, s2 = sums.sum(axis=1) / total
        return origin + s1, np.maximum(s2 - s1 * s1, 0.0)


class _Columns(NamedTuple):
    """Moments of columns, each times a power of two of its own."""

    mean: np.ndarray
    variance: np.ndarray
    exponent: np.ndarray


def _columns(X: np.ndarray, sample_weight: np.ndarray | None) -> _Columns:
    """Moments that have neither over- nor underflowed; the exponents of ordinary columns are 0."""
    mean, variance = moments(X, sample_weight)
    exponent = np.zeros(len(mean), np.int32)
    power = ORDINARY[X.dtype.name]
    ordinary = (variance <= 4.0**power) & (variance >= 0.25**power) & np.isfinite(mean)
    if ordinary.all():
        return _Columns(mean, variance, exponent)
    odd = X[:, ~ordinary] if sample_weight is None else X[sample_weight > 0][:, ~ordinary]
    lowest, highest = odd.min(axis=0), odd.max(axis=0)
    # Of the range, or of the value of a constant.
    reach = np.where(lowest == highest, highest, 0.5 * highest - 0.5 * lowest)
    found = _exponent_of(reach)
    exponent[~ordinary] = np.where(np.abs(found) > power, found, 0)
    if exponent.any():
        mean, variance = moments(scale_by(X, -exponent), sample_weight)
    return _Columns(mean, variance, exponent)


def _exponent_of(x: Any) -> Any:
    """Integers ``e`` with ``2**(e-1) <= |x| < 2**e``; 0 of zero."""
    return np.frexp(np.abs(np.asarray(x, np.float64)))[1]


def _constant(mean: np.ndarray, variance: np.ndarray, dtype: Any) -> np.ndarray:
    """Columns ``(d,)`` whose spread is no more than their rounding error."""
    return np.sqrt(variance) <= 4 * np.finfo(dtype).eps * np.abs(mean)


def _disparity(columns: _Columns, dtype: Any) -> float:
    """`Units.disparity` of these columns."""
    mean, variance, exponent = columns
    varying = ~_constant(mean, variance, dtype)
    if not varying.any():
        return 0.0
    log_sd = 0.5 * np.log10(variance[varying]) + exponent[varying] * np.log10(2.0)
    return float(np.ptp(log_sd))


def natural_units(X: np.ndarray, sample_weight: np.ndarray | None = None) -> Units:
    """Centre at the mean and divide all columns by one power of two near their overall spread.

    One common power of two changes no ratio of distances and no mantissa; it only keeps squares
    away from overflow and underflow.
    """
    columns = _columns(X, sample_weight)
    disparity = _disparity(columns, X.dtype)
    mean, variance, own = columns
    exponent = None
    # Of the widest column; where none has any width, of the largest value.
    size = np.sqrt(variance) if variance.any() else np.abs(mean)
    if own.any():
        level = int(np.where(size > 0, own + _exponent_of(size), -9999).max())
        level = level if abs(level) > ORDINARY[X.dtype.name] else 0
        # A column that would overflow lies so far off that it is constant.
        most = own + _exponent_of(mean) - (np.finfo(X.dtype).maxexp - 24)
        powers = np.maximum(level, most).astype(np.int32)
        exponent = powers if powers.any() else None
        own = own - powers
        mean, variance, size = (
            scale_by(v, p * own) for v, p in ((mean, 1), (variance, 2), (size, 1))
        )
    shift = mean.astype(X.dtype).astype(np.float64)
    widest = size.max() if size.size else 0.0
    power = np.round(np.log2(widest)) if np.isfinite(widest) and widest > 0 else 0.0
    second = variance + np.square(mean - shift)
    return Units(shift, np.full(len(shift), 2.0**power), second, exponent, disparity)


def standard_units(X: np.ndarray, sample_weight: np.ndarray | None = None) -> Units:
    """Centre at the mean and divide every column by its standard deviation.

    A column whose spread is no more than its rounding error counts as constant and is divided by
    its value; where that is zero, like the widest column.
    """
    columns = _columns(X, sample_weight)
    mean, variance, exponent = columns
    shift = mean.astype(X.dtype).astype(np.float64)
    sd = np.sqrt(variance)
    constant = _constant(mean, variance, X.dtype)
    scale = np.where(constant, np.abs(mean), sd)
    nothing = scale == 0
    if nothing.any() and not nothing.all():
        level = np.log2(np.where(nothing, 1.0, scale)) + exponent
        left_out = nothing if constant.all() else constant
        widest = np.argmax(np.where(left_out, -np.inf, level))
        exponent = np.where(nothing, exponent[widest], exponent)
        scale[nothing] = scale[widest]
    second = variance + np.square(mean - shift)
    return Units(
        shift,
        np.where(scale > 0, scale, 1.0),
        second,
        exponent if exponent.any() else None,
        _disparity(columns, X.dtype),
    )


def column_spread(variance: np.ndarray, units: Units, dtype: Any) -> np.ndarray:
    """Column standard deviations; 1 where a column is constant; all in the fit's units."""
    sd = np.sqrt(variance)
    noise = 4 * np.finfo(dtype).eps * np.abs(units.shift) / units.scale
    return np.where(sd > noise, sd, 1.0).astype(dtype)


def natural_units_traced(X: Array, fraction: Array) -> tuple[Array, Array, Array]:
    """`natural_units` inside a program.

    Parameters
    ----------
    X : (n, d) array
    fraction : (n,) array
        Weights that sum to one.

    Returns
    -------
    shift : (d,) array
    scale : scalar array
    variance : (d,) array
        In the fit's units.
    """
    origin = X[jnp.argmax(fraction)]
    gap = jnp.where(fraction[:, None] > 0, X - origin, 0)
    # Near one before it is squared.
    first = _power_of_two(jnp.max(jnp.abs(gap)))
    gap = gap / first
    mean = jnp.sum(fraction[:, None] * gap, axis=0)
    variance = jnp.sum(fraction[:, None] * jnp.square(gap - mean), axis=0)
    second = _power_of_two(jnp.sqrt(jnp.max(variance)))
    return origin + mean * first, first * second, variance / second / second


def _power_of_two(x: Array) -> Array:
    """The power of two nearest to a number on a logarithmic scale; one of zero."""
    limit = jnp.finfo(x.dtype).maxexp - 2
    power = jnp.round(jnp.log2(jnp.where(x > 0, x, 1))).astype(jnp.int32)
    # `exp2` rounds; a power of two is exact only when put together from its exponent.
    return jnp.ldexp(jnp.ones((), x.dtype), jnp.clip(power, -limit, limit))
