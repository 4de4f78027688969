"""One door for rows: every kind of cell is read for what it says, or refused by column and row."""

from __future__ import annotations

import datetime
import decimal
import fractions
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import xarray as xr

from bayesclust import (
    CAVI,
    EM,
    NUTS,
    SVI,
    BayesianMixture,
    Bootstrap,
    FullGaussian,
    GaussianMixture,
    Gibbs,
    GibbsKernel,
    KMeans,
    Lloyd,
    MiniBatchKMeans,
    Mixture,
    PartitionGibbs,
    kmeans,
    load,
)
from bayesclust.table import read

N = 60
BAD = 7
"""The row whose cell in the second column is bad."""


def clear() -> np.ndarray:
    """Three clusters of 20 rows."""
    middle = np.array([[0.0, 0.0], [10.0, 4.0], [-4.0, 12.0]])
    return middle[np.arange(N) % 3] + np.random.default_rng(0).normal(size=(N, 2))


def cells(value: Any) -> list[Any]:
    """The second column, with `value` in row 7."""
    column: list[Any] = clear()[:, 1].tolist()
    column[BAD] = value
    return column


def objects(value: Any) -> np.ndarray:
    rows = clear().astype(object)
    rows[BAD, 1] = value
    return rows


def masked() -> Any:
    mask = np.zeros((N, 2), bool)
    mask[BAD, 1] = True
    return np.ma.masked_array(clear(), mask)


def frame(value: Any, dtype: Any = None) -> pd.DataFrame:
    return pd.DataFrame({"x0": clear()[:, 0], "x1": pd.Series(cells(value), dtype=dtype)})


def dates() -> list[datetime.date]:
    return [datetime.date(2020, 1, 1)] * N


def other(column: Any, library: Any = pd.DataFrame) -> Any:
    """A frame whose first column is right and whose second is all of another kind."""
    return library({"x0": clear()[:, 0], "x1": column})


MISSING = r"missing|NaN|nan"
TIME = "date, time or duration"

BAD_CELLS: dict[str, tuple[Callable[[], Any], str]] = {
    "masked cell": (masked, "missing.*masked"),
    "list of masked rows": (lambda: list(masked()), "missing.*masked"),
    "nan": (lambda: objects(np.nan).astype(float), "NaN or infinity: nan"),
    "infinity": (lambda: objects(-np.inf).astype(np.float32), "NaN or infinity: -inf"),
    "None": (lambda: objects(None), "missing values: None"),
    "None in lists": (lambda: objects(None).tolist(), "missing values: None"),
    "pandas NA": (lambda: objects(pd.NA), "missing values: <NA>"),
    "NaT among numbers": (lambda: objects(pd.NaT), "missing values: NaT"),
    "NumPy's NaT among numbers": (lambda: objects(np.datetime64("NaT", "s")), "missing"),
    "decimal NaN": (lambda: objects(decimal.Decimal("NaN")), "NaN"),
    "signalling NaN": (lambda: objects(decimal.Decimal("sNaN")), "no finite number"),
    "huge decimal": (lambda: objects(decimal.Decimal("1e400")), "infinity"),
    "huge int": (lambda: objects(10**400), "no finite number.*int too large"),
    "huge fraction": (lambda: objects(fractions.Fraction(10**400, 3)), "no finite number"),
    "word": (lambda: objects("b"), "could not convert string to float: 'b'"),
    "word in lists": (lambda: objects("b").tolist(), "could not convert string to float: 'b'"),
    "number as text": (lambda: objects("1.5"), r"text \('1.5'\).*astype"),
    "bytes": (lambda: objects(b"x"), "could not convert string to float"),
    "date": (lambda: objects(datetime.date(2020, 1, 1)), TIME),
    "time": (lambda: objects(datetime.time(12)), TIME),
    "duration": (lambda: objects(np.timedelta64(3, "s")), TIME),
    "complex cell": (lambda: objects(1j), "Complex"),
    "dictionary": (lambda: objects({"a": 1}), "must be a string or a real number, not 'dict'"),
    "list in a cell": (lambda: frame([1.0], object), "not 'list'"),
    "nullable float": (lambda: frame(None, "Float64"), MISSING),
    "nullable int": (lambda: other(pd.array([*range(BAD), None, *range(52)], "Int64")), MISSING),
    "nullable bool": (lambda: other(pd.array([True] * BAD + [None] + [True] * 52)), MISSING),
    "Arrow-backed": (lambda: frame(None, "double[pyarrow]"), MISSING),
    "object column": (lambda: frame(None, object), MISSING),
    "word in a column": (lambda: frame("b", object), "could not convert string to float: 'b'"),
    "infinite column": (lambda: frame(np.inf), "infinity"),
    "polars null": (lambda: other(cells(None), pl.DataFrame), MISSING),
    "polars int null": (lambda: other([*range(BAD), None, *range(52)], pl.DataFrame), MISSING),
    "polars NaN": (lambda: other(cells(np.nan), pl.DataFrame), "NaN"),
    "pyarrow null": (lambda: other(cells(None), pa.table), MISSING),
}

BAD_COLUMNS: dict[str, tuple[Callable[[], Any], str]] = {
    "dates": (lambda: other(pd.to_datetime(dates())), TIME),
    "dates with a zone": (lambda: other(pd.date_range("2020", periods=N, tz="UTC")), TIME),
    "durations": (lambda: other(pd.to_timedelta(np.arange(N), "s")), TIME),
    "periods": (lambda: other(pd.period_range("2020", periods=N, freq="D")), "'Period'"),
    "text": (lambda: other(["b"] * N), "could not convert string to float: 'b'"),
    "string": (lambda: other(pd.array(["b"] * N, "string")), "could not convert string"),
    "categories": (lambda: other(pd.Categorical([1, 2] * 30)), "categories"),
    "intervals": (lambda: other(pd.interval_range(0, N)), "not 'Interval'"),
    "polars dates": (lambda: other(dates(), pl.DataFrame), TIME),
    "polars text": (lambda: other(["b"] * N, pl.DataFrame), "could not convert string"),
    "polars categories": (
        lambda: other(pl.Series(["b"] * N, dtype=pl.Categorical), pl.DataFrame),
        "categories",
    ),
    "polars lists": (lambda: other([[1.0]] * N, pl.DataFrame), "numeric"),
    "pyarrow times": (lambda: other(pd.to_datetime(dates()), pa.table), TIME),
    "pyarrow nulls": (lambda: other(pa.nulls(N), pa.table), MISSING),
}

BAD_WHOLES: dict[str, tuple[Callable[[], Any], str]] = {
    "datetime64": (lambda: clear().astype("M8[s]"), TIME),
    "NaT": (lambda: np.full((N, 2), np.datetime64("NaT", "s")), "missing"),
    "timedelta64": (lambda: clear().astype("m8[s]"), TIME),
    "complex": (lambda: clear() + 1j, "Complex data not supported"),
    "strings": (lambda: np.full((N, 2), "b"), "could not convert string to float: 'b'"),
    "sparse": (lambda: scipy.sparse.csr_array(clear()), "Sparse.*toarray"),
    "structured": (
        lambda: np.array([tuple(r) for r in clear()], [("a", float), ("b", float)]),
        "structured.*DataFrame",
    ),
    "ragged": (lambda: [[1.0, 2.0], [3.0]], "row 1 holds 1 values, row 0 2"),
    "scalar": (lambda: 3.0, "2D array"),
    "one axis": (lambda: clear()[:, 0], "Reshape your data"),
    "series": (lambda: pd.Series(clear()[:, 0]), "Reshape your data"),
    "three axes": (lambda: clear()[None], "dim 3"),
    "dictionary of columns": (lambda: {"a": [1.0]}, "got dict"),
    "path": (lambda: "rows.csv", "got str"),
    "nothing": (lambda: None, "got NoneType"),
    "generator": (lambda: (row for row in clear()), "got generator"),
    "lazy frame": (lambda: pl.LazyFrame({"a": [1.0]}), "LazyFrame.*collect"),
    "Dataset": (lambda: xr.Dataset({"a": ("n", [1.0])}), "cannot be read as an array"),
    "no rows": (lambda: np.zeros((0, 2)), r"0 sample\(s\)"),
    "no rows in a frame": (lambda: pd.DataFrame({"x0": [], "x1": []}), r"0 sample\(s\)"),
}

REFUSED = {**BAD_CELLS, **BAD_COLUMNS, **BAD_WHOLES}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model of unnamed columns and its file read back."""
    model = KMeans(3, random_state=0).fit(clear())
    path = tmp_path_factory.mktemp("model") / "model.nc"
    model.save(path)
    return {"model": model, "loaded": load(path)}


def refused(call: Callable[[Any], Any], case: str) -> str:
    make, message = REFUSED[case]
    rows = make()
    with pytest.raises((ValueError, TypeError), match=message) as error:
        call(rows)
    text = str(error.value)
    assert "HistGradient" not in text
    assert "imputer" not in text
    return text


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_finite_number_is_refused(case: str, fitted: dict[str, Any]) -> None:
    model, loaded = fitted["model"], fitted["loaded"]
    for call in (KMeans(3).fit, loaded.predict, loaded.membership, read):
        text = refused(call, case)
        if case in BAD_CELLS:
            assert re.search(r"column ('x1'|1 \(x1\)), row 7 \(", text), text
            assert re.search("drop|impute|leave|convert|columns of|Complex", text), text
        if case in BAD_COLUMNS:
            assert "'x1'" in text
    if not nw.dependencies.is_into_dataframe(REFUSED[case][0]()):  # names would be warned of
        refused(model.predict, case)
        refused(model.score, case)


@pytest.mark.parametrize("case", ["masked cell", "NaT", "word", "None", "complex", "sparse"])
def test_everywhere(case: str) -> None:
    """Every estimator, engine and function that takes rows."""
    key, mixture = jax.random.key(0), Mixture(FullGaussian(), 3)
    for model in (MiniBatchKMeans(3), GaussianMixture(3), BayesianMixture(3)):
        refused(model.fit, case)
        assert not hasattr(model, "n_features_in_")
    refused(MiniBatchKMeans(3).partial_fit, case)
    refused(lambda X: kmeans.fit(key, X, 3), case)
    refused(lambda X: kmeans.assign(X, clear()[:3]), case)
    for engine in (EM(), Gibbs(), NUTS(), SVI(), CAVI(), Bootstrap(EM())):
        refused(lambda X, engine=engine: engine.run(key, mixture, X), case)
    spheres = Mixture(KMeans(3).fit(clear()).clustering_.mixture.family, 3)
    for engine in (Lloyd(), PartitionGibbs()):
        refused(lambda X, engine=engine: engine.run(key, spheres, X), case)
    kernel = GibbsKernel(Mixture(FullGaussian().scaled_to(np.ones(2)).informed(2), 3))
    refused(lambda X: kernel.init(key, 0, None, (X,), {}), case)


ALIKE: dict[str, Callable[[np.ndarray], Any]] = {
    "mask without masked cells": np.ma.masked_array,
    "objects": lambda X: X.astype(object),
    "decimals": lambda X: np.vectorize(lambda v: decimal.Decimal(float(v)), otypes=[object])(X),
    "fractions": lambda X: np.vectorize(fractions.Fraction, otypes=[object])(X),
    "lists": lambda X: X.tolist(),
    "tuples of arrays": lambda X: tuple(X),
    "other byte order": lambda X: X.astype(">f8"),
    "long double": lambda X: X.astype(np.longdouble),
    "matrix": lambda X: X.view(np.matrix),
    "columns first": np.asfortranarray,
    "xarray": xr.DataArray,
    "own __array__": lambda X: Wrapped(X),
    "nullable": lambda X: pd.DataFrame(X, columns=["a", "b"]).convert_dtypes(),
    "mixed columns": lambda X: pd.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(object)}),
    "columns of two levels": lambda X: pd.DataFrame(X, columns=[["a", "a"], ["b", "c"]]),
    "sparse columns": lambda X: pd.DataFrame(X).astype(pd.SparseDtype(float)),
    "polars": lambda X: pl.DataFrame(X, schema=["a", "b"]),
    "polars decimals": lambda X: pl.DataFrame(X, schema=["a", "b"]).with_columns(
        pl.col("b").cast(pl.Decimal(20, 6))
    ),
    "pyarrow": lambda X: pa.table({"a": X[:, 0], "b": X[:, 1]}),
}


class Wrapped:
    """Rows of another library."""

    def __init__(self, X: np.ndarray) -> None:
        self.X = X

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.X, dtype)


@pytest.mark.parametrize("case", ALIKE)
def test_numbers_in_any_clothes(case: str) -> None:
    X = np.round(clear() * 64) / 64  # exact in all of them
    table = read(ALIKE[case](X))
    np.testing.assert_array_equal(table.values, X)
    assert table.dtype == np.float64


def test_small_kinds() -> None:
    X = np.round(clear())
    for kind in (np.int8, np.uint8, np.int64, np.float16):
        rows = np.abs(X).astype(kind)
        np.testing.assert_array_equal(read(rows).values, rows.astype(float))
    assert read(X.astype(">f4")).dtype == np.float32
    np.testing.assert_array_equal(read(jnp.asarray(X, jnp.bfloat16)).values, X)
    np.testing.assert_array_equal(read(X > 0).values, (X > 0).astype(float))
    flags = pd.DataFrame({"a": X[:, 0].astype(np.float32), "b": X[:, 1] > 0})
    np.testing.assert_array_equal(read(flags).values, flags.to_numpy(float))
    assert read(pd.DataFrame(X.astype(np.float32))).dtype == np.float32
    assert read(pl.DataFrame(X.astype(np.float32))).dtype == np.float32


def test_a_sum_that_overflows_is_no_infinity() -> None:
    for dtype in (np.float32, np.float64):
        X = np.full((4, 2), np.finfo(dtype).max)
        np.testing.assert_array_equal(read(X).values, X)


def test_columns_by_name() -> None:
    X = clear()
    rows = pd.DataFrame({"c": 0, "b": X[:, 1], "a": X[:, 0], "word": "w"})
    for given in (rows, pl.from_pandas(rows), pa.Table.from_pandas(rows)):
        np.testing.assert_array_equal(read(given, ["a", "b"]).values, X)
        with pytest.raises(ValueError, match=r"lacks the columns \['d'\].*Rename"):
            read(given, ["a", "d"])
    twice = pd.DataFrame(X, columns=["a", "a"])
    for features in (None, ["a"]):
        with pytest.raises(ValueError, match="several columns named 'a'"):
            read(twice, features)
    with pytest.raises(ValueError, match="several columns named 'a'"):
        KMeans(3).fit(twice)


WEIGHTS: dict[str, tuple[Callable[[], Any], str]] = {
    "masked": (lambda: np.ma.masked_array(np.ones(N), np.arange(N) == BAD), "masked"),
    "None": (lambda: [*np.ones(BAD), None, *np.ones(N - BAD - 1)], "missing values: None"),
    "NaT": (lambda: np.full(N, np.datetime64("NaT", "s")), "missing"),
    "durations": (lambda: np.ones(N, "m8[s]"), TIME),
    "text": (lambda: ["1"] * N, "numeric"),
    "complex": (lambda: np.ones(N, complex), "Complex"),
    "nullable": (lambda: pd.array([1.0] * BAD + [None] + [1.0] * 52, "Float64"), MISSING),
    "polars null": (lambda: pl.Series([1] * BAD + [None] + [1] * 52), MISSING),
    "negative": (lambda: np.where(np.arange(N) == BAD, -1, 1), "negative.*row 7"),
    "too large": (lambda: np.full(N, 10**400, object), "no finite number"),
    "a frame": (lambda: pd.DataFrame({"w": np.ones(N)}), r"shape \(60, 1\)"),
    "sparse": (lambda: scipy.sparse.csr_array(np.ones((N, 1))), "Sparse"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str) -> None:
    make, message = WEIGHTS[case]
    calls: list[Callable[[Any], Any]] = [
        lambda w: KMeans(3).fit(clear(), sample_weight=w),
        lambda w: GaussianMixture(3).fit(clear(), sample_weight=w),
        lambda w: kmeans.fit(jax.random.key(0), clear(), 3, sample_weight=w),
        lambda w: EM().run(jax.random.key(0), Mixture(FullGaussian(), 3), clear(), sample_weight=w),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError), match=message) as error:
            call(make())
        assert "sample_weight" in str(error.value)


STARTS: list[tuple[str, Callable[[Any], Any], tuple[int, ...]]] = [
    ("init", lambda v: KMeans(3, init=v), (3, 2)),
    ("init", lambda v: MiniBatchKMeans(3, init=v), (3, 2)),
    ("means_init", lambda v: GaussianMixture(3, means_init=v), (3, 2)),
    ("weights_init", lambda v: GaussianMixture(3, weights_init=v), (3,)),
    ("precisions_init", lambda v: GaussianMixture(3, precisions_init=v), (3, 2, 2)),
]


@pytest.mark.parametrize(("name", "make", "shape"), STARTS)
def test_starting_values(name: str, make: Any, shape: tuple[int, ...]) -> None:
    ones = np.ones(shape)
    bad = {
        "masked": np.ma.masked_array(ones, ones > 0),
        "missing": np.full(shape, None),
        "numeric": ones.astype("m8[s]"),
        "Complex": ones + 0j,
        "NaN": np.full(shape, np.nan),
    }
    for message, value in bad.items():
        with pytest.raises((ValueError, TypeError), match=message) as error:
            make(value).fit(clear())
        assert name in str(error.value)
