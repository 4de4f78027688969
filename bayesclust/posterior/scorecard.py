"""Tables in and out: rows of any data-frame library, answers in the caller's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from bayesclust.core.chunks import Overflow
from bayesclust.posterior.lazy import xr

COLUMNS = (
    "cluster",
    "probability",
    "lower",
    "upper",
    "entropy",
    "entropy_overlap",
    "entropy_ignorance",
    "tail_probability",
    "outlier",
    "log_density",
    "density_rank",
    "margin",
    "vote_share",
)


def table(answer: xr.Dataset, X: Any) -> Any:
    """One line per row from a membership Dataset.

    Parameters
    ----------
    answer : xarray.Dataset
        From `Clustering.membership`.
    X : array or data frame
        Decides the library of the result.
    """
    label = np.asarray(answer["label"])
    data: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        value = label if name == "cluster" else np.asarray(answer[name])
        data[name] = value[np.arange(len(label)), label] if value.ndim == 2 else value
    for j in range(answer.sizes["cluster"]):
        data[f"probability_{j}"] = np.asarray(answer["probability"])[:, j]
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame) and not frame.implementation.is_pandas():
        return nw.from_dict(data, backend=frame.implementation).to_native()
    return pd.DataFrame(data, index=getattr(X, "index", None) if hasattr(X, "columns") else None)


def as_numpy(X: Any, features: list[str]) -> np.ndarray:
    """Rows as a float array, columns of a frame picked by name.

    Raises
    ------
    ValueError
        If columns are missing, their number is wrong, or values are not finite.
    """
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        columns = list(frame.columns)
        # Like scikit-learn: names count only where all of them are strings.
        if all(isinstance(c, str) for c in columns):
            missing = [f for f in features if f not in columns]
            if missing:
                raise ValueError(
                    f"X lacks the columns {missing}: the model was fitted to {features}. Rename "
                    "the columns, or pass X.to_numpy() if their order is the same"
                )
            frame = frame.select(features)
        X = frame.to_numpy()
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] != len(features):
        raise ValueError(
            f"X has shape {X.shape}; expected (n, {len(features)}) with columns {features}. "
            "Reshape a single row with X.reshape(1, -1)."
        )
    if X.dtype.kind not in "fiub":
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"X must be numeric, its dtype is {X.dtype}") from error
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if not np.isfinite(X).all():
        raise ValueError("X contains NaN or infinity: drop or impute these rows")
    return X


@contextlib.contextmanager
def naming(X: Any, features: list[str] | None) -> Iterator[None]:
    """Have an `Overflow` name the row, where the frame's index has names, and the column."""
    try:
        yield
    except Overflow as error:
        position, column = error.args[:2]
        index = getattr(X, "index", None)
        plain = index is None or callable(index) or isinstance(index, pd.RangeIndex)
        feature = None if features is None else features[column]
        raise error.named(None if plain else index[position], feature) from None


def row_names(X: Any) -> Any:
    """Index of a pandas frame, as names of rows; None for anything else."""
    index = getattr(X, "index", None)
    if index is None or callable(index):
        return None
    names = np.asarray(index)
    # Anything but numbers and plain times goes by its text, as files keep no other objects.
    return names if names.dtype.kind in "iufMm" else np.asarray([str(v) for v in index], dtype=str)
