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


@contextlib.contextmanager
def naming(X: Any, features: list[str] | None) -> Iterator[None]:
    """Have an `Overflow` name the row, where the rows' index has names, and the column."""
    try:
        yield
    except Overflow as error:
        position, column = error.args[:2]
        index = getattr(X, "index", None)
        name = None if index is None or callable(index) else index[position]
        name = name.item() if isinstance(name, np.generic) else name
        feature = None if features is None else features[column]
        raise error.named(None if name == position else name, feature) from None
