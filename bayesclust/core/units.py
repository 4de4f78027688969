"""The units a fit works in: data are shifted and scaled before float32 touches them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bayesclust._typing import Array
from bayesclust.core.rows import share
from bayesclust.table import read, read_weight


class Units(NamedTuple):
    """``internal = (user - shift) / scale``, both ``(d,)`` float64 on the host.

    Attributes
    ----------
    shift, scale : (d,) ndarrays
        Inside a program: arrays of it.
    second : (d,) ndarray or None
        Mean squared deviation of the data's columns from `shift`, in the user's units, where
        it is known: so that rows need be read for it only once.
    """

    shift: Any
    scale: Any
    second: np.ndarray | None = None

    def variance(self, X: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        """Column variances of these data in the fit's units, ``(d,)``."""
        second = self.second
        if second is None:
            second = moments(X, sample_weight)[1]
        return second / self.scale**2

    def inward(self, X: np.ndarray) -> np.ndarray:
        """Rows in the fit's units, in the dtype of `X`."""
        low = self.shift.astype(X.dtype)
        return ((X - low) / self.scale.astype(X.dtype)).astype(X.dtype)

    def outward(self, X: np.ndarray) -> np.ndarray:
        """Rows in the user's units, float64."""
        return np.asarray(X, np.float64) * self.scale + self.shift


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
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(begin, end):
                part(i)

    share(parts, m, n * d)
    s1, s2 = sums.sum(axis=1) / total
    return origin + s1, np.maximum(s2 - s1 * s1, 0.0)


def natural_units(X: np.ndarray, sample_weight: np.ndarray | None = None) -> Units:
    """Centre at the mean and divide all columns by one power of two near their overall spread.

    One common power of two changes no ratio of distances and no mantissa; it only keeps squares
    away from overflow and underflow.
    """
    mean, variance = moments(X, sample_weight)
    shift = mean.astype(X.dtype).astype(np.float64)
    spread = np.sqrt(variance.max()) if variance.size else 0.0
    power = 0.0
    if np.isfinite(spread) and spread > 0:
        power = np.round(np.log2(spread))
    second = variance + np.square(mean - shift)
    return Units(shift, np.full(len(shift), 2.0**power), second)


def standard_units(X: np.ndarray, sample_weight: np.ndarray | None = None) -> Units:
    """Centre at the mean and divide every column by its standard deviation.

    A column whose spread is no more than its rounding error counts as constant and is left as
    it is.
    """
    mean, variance = moments(X, sample_weight)
    shift = mean.astype(X.dtype).astype(np.float64)
    noise = 4 * np.finfo(X.dtype).eps * np.abs(mean)
    sd = np.sqrt(variance)
    second = variance + np.square(mean - shift)
    return Units(shift, np.where(sd > noise, sd, 1.0), second)


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
        In the units of `X`.
    """
    shift = jnp.sum(fraction[:, None] * (X - X[0]), axis=0) + X[0]
    variance = jnp.sum(fraction[:, None] * jnp.square(X - shift), axis=0)
    widest = jnp.max(variance)
    # `exp2` rounds; a power of two is exact only when put together from its exponent.
    power = jnp.where(widest > 0, jnp.round(0.5 * jnp.log2(widest)), 0).astype(jnp.int32)
    scale = jnp.ldexp(jnp.ones((), X.dtype), power)
    return shift, scale, variance
