"""What all estimators do at the door and after the fit."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import narwhals.stable.v2 as nw
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.random import key_of
from bayesclust.core.rows import release
from bayesclust.core.units import Units, natural_units, standard_units
from bayesclust.draws import Draws
from bayesclust.engines.base import PointEngine
from bayesclust.engines.bootstrap import Bootstrap
from bayesclust.engines.em import AFFORDABLE_LOSS
from bayesclust.estimators import _names
from bayesclust.mixture import Mixture
from bayesclust.posterior.clustering import Clustering, Training, row_names

SCALE_RATIO = 10.0

PACKAGE = str(Path(__file__).parents[1])
"""Warnings point at the first line outside of it."""


def whole[F: Callable[..., Any]](fit: F) -> F:
    """Make a method of fitting happen entirely or not at all.

    Whatever stops it, Ctrl-C included, leaves the estimator as it was.
    """

    @functools.wraps(fit)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = vars(self).copy()
        try:
            with arithmetic():
                return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return cast(F, wrapped)


class Clusterer(BaseEstimator):
    """Doors of an estimator: validation in, the answer of its `Clustering` out.

    A subclass fits and sets `clustering_`; everything asked of it afterwards is asked of that.
    """

    clustering_: Clustering

    def __getattr__(self, name: str) -> Any:
        # Only reached where there is no such attribute.
        kind = type(self).__name__
        if name.endswith("_") and not name.startswith("_") and "clustering_" not in vars(self):
            raise NotFittedError(f"{kind} has no {name} yet: call fit first")
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    # -- in ----------------------------------------------------------------------------------

    def _validate(self, X: Any, *, reset: bool, minimum: int = 1) -> np.ndarray:
        """Rows as a float32 or float64 array, names checked against those of the fit."""
        X = native(X)
        return validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            accept_sparse=False,
            ensure_min_samples=minimum,
        )

    def _weights(self, sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
        if sample_weight is None:
            return None
        if not np.any(np.asarray(sample_weight)):
            raise ValueError("sample_weight is zero for every row: give some row a positive weight")
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        wide = weight
        with np.errstate(over="ignore", under="ignore"):
            weight = wide.astype(X.dtype)
        if not weight.any() or not np.isfinite(weight).all():
            raise ValueError(
                f"sample_weight goes up to {wide.max():.3g}, too large or too small for the "
                f"{X.dtype} of the data: divide it by its mean"
            )
        if (weight < 0).any():
            raise ValueError(
                "sample_weight holds negative values: weights count rows, so drop or clip them"
            )
        return weight

    def _units(self, X: np.ndarray, weight: np.ndarray | None) -> Units:
        """Units of the fit, with a warning where the columns' own are too unlike."""
        if self.standardize:
            return standard_units(X, weight)
        units = natural_units(X, weight)
        if units.disparity > np.log10(SCALE_RATIO):
            warnings.warn(
                f"column standard deviations differ {_times(units.disparity)}-fold, so "
                "the widest columns decide the distances: pass standardize=True, or put the "
                "columns in comparable units",
                UserWarning,
                skip_file_prefixes=(PACKAGE,),
            )
        return units

    def _key(self) -> jax.Array:
        """A key from `random_state`: an int repeats itself, a generator moves on."""
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        return key_of(seed)

    def _enough_rows(self, X: np.ndarray, weight: np.ndarray | None, k: int, name: str) -> None:
        n = len(X) if weight is None else int(np.count_nonzero(weight))
        if n < k:
            which = "" if weight is None else " of positive weight"
            raise ValueError(
                f"n_samples={n}{which} should be >= {name}={k}: give more rows or fewer clusters"
            )

    def _features(self, X: np.ndarray) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return [f"x{j}" for j in range(X.shape[1])] if names is None else [str(v) for v in names]

    # -- the answer ----------------------------------------------------------------------------

    def _conclude(
        self,
        key: jax.Array,
        engine: PointEngine,
        mixture: Mixture,
        point: Draws,
        X: np.ndarray,
        original: Any,
        weight: np.ndarray | None,
        units: Units,
        *,
        hard: bool,
    ) -> None:
        """Draw around the point fit if asked for, and set `clustering_`."""
        release()  # the fit's own copy of the rows, before the second pass over them
        draws = None
        wide = X.dtype == np.float32 and _too_fine(mixture, point, units, hard=hard)
        # What float32 cannot tell apart is drawn, and scored, in double precision.
        dtype = np.dtype(np.float64) if wide else X.dtype
        if self.uncertainty is not None:
            make = _names.look_up(_names.HARD_UNCERTAINTIES, self.uncertainty, "uncertainty")
            sampler = make(engine, self.num_draws)
            draws = sampler.run(
                key,
                mixture,
                X.astype(dtype, copy=False),
                sample_weight=weight,
                # Refits begin at the point fit; chains begin apart, to be compared.
                start=point if isinstance(sampler, Bootstrap) else None,
                units=units,
                progress=getattr(self, "_progress", None),
            )
            warn_interrupted(draws)
        self.clustering_ = Clustering(
            mixture,
            point,
            draws,
            units,
            dtype,
            self._features(X),
            hard=hard,
            kind=type(self).__name__,
            training=Training(X, weight, row_names(original)),
            settings={"standardize": int(self.standardize)},
        )

    @property
    def posterior_(self) -> Any:
        """Everything the fit says, as one `xarray.DataTree`; see `Clustering.tree`."""
        check_is_fitted(self, "clustering_")
        return self.clustering_.tree

    def _ask(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "clustering_")
        return self._validate(X, reset=False)

    def predict(self, X: Any) -> np.ndarray:
        """Cluster of each row.

        Parameters
        ----------
        X : (n, d) array or data frame

        Returns
        -------
        (n,) int32 ndarray
        """
        return self.clustering_.predict(self._ask(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability that each row belongs to each cluster, averaged over draws.

        Parameters
        ----------
        X : (n, d) array or data frame

        Returns
        -------
        (n, k) ndarray
            Rows sum to one.
        """
        X = self._ask(X)
        return self.clustering_.predict_proba(X).astype(X.dtype, copy=False)

    def membership(self, X: Any, level: float = 0.9, *, to: int | None = None) -> Any:
        """How probable and how close each row is to each cluster; see `Clustering.membership`."""
        rows = self._ask(X)
        answer = self.clustering_.membership(rows, level, to=to)
        index = row_names(X)
        return answer if index is None else answer.assign_coords(obs=index)

    def scorecard(self, X: Any, level: float = 0.9, *, to: int | None = None) -> Any:
        """`membership` as a flat table in the caller's library; see `Clustering.scorecard`."""
        from bayesclust.posterior.scorecard import table

        return table(self.membership(X, level, to=to), X)

    def summary(self) -> Any:
        """One line per cluster, see `Clustering.summary`."""
        check_is_fitted(self, "clustering_")
        return self.clustering_.summary()

    def diagnose(self) -> list[str]:
        """What is doubtful about the fit, in sentences."""
        check_is_fitted(self, "clustering_")
        return self.clustering_.diagnose()

    def standard_errors(self) -> Any:
        """Standard error of every parameter from the draws."""
        check_is_fitted(self, "clustering_")
        return self.clustering_.standard_errors()

    def save(self, path: Any) -> None:
        """Write the fit to a netCDF file that `bayesclust.load` reads."""
        check_is_fitted(self, "clustering_")
        self.clustering_.save(path)


def _times(power: float) -> str:
    """Ten to this power, to three digits."""
    if power < 300:
        return f"{10.0**power:.3g}"
    return f"{10.0 ** (power % 1):.2f}e+{int(power)}"


def shown(value: np.ndarray, dtype: Any) -> np.ndarray:
    """A parameter in the dtype of the data, or in double precision where only that holds it."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.asarray(value).astype(dtype)
    lost = (np.isfinite(value) & ~np.isfinite(narrow)) | ((value != 0) & (narrow == 0))
    return np.asarray(value) if lost.any() else narrow


def native(X: Any) -> Any:
    """Data frames that scikit-learn does not know, as pandas."""
    if hasattr(X, "__array__") and not hasattr(X, "columns"):
        return np.asarray(X) if isinstance(X, jax.Array) else X
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame) and frame.implementation.is_pyarrow():
        return frame.to_pandas()
    return X


def _too_fine(mixture: Mixture, point: Draws, units: Units, *, hard: bool) -> bool:
    """Whether float32 cannot score rows under this fit: clusters very tight and very far apart."""
    if not hard:  # EM found out by itself, and did it again in double precision
        return bool(np.any(point.flags.get("widened", False)))
    params = {name: np.asarray(v[0, 0]) for name, v in point.params.items()}
    inner = mixture.family.in_units(params, -units.shift / units.scale, 1.0 / units.scale)
    loss = float(np.finfo(np.float32).eps * mixture.family.cancellation(inner))
    return not loss <= AFFORDABLE_LOSS


def warn_unconverged(message: str) -> None:
    """A ConvergenceWarning at the caller of `fit`."""
    warnings.warn(message, ConvergenceWarning, skip_file_prefixes=(PACKAGE,))


def warn_interrupted(draws: Draws) -> None:
    """Say how many draws there are of chains that Ctrl-C cut short."""
    if np.any(draws.flags.get("interrupted", False)):
        chains, size = draws.shape
        warnings.warn(
            f"interrupted: {size} draws of each of {chains} chains are kept",
            UserWarning,
            skip_file_prefixes=(PACKAGE,),
        )


def warn_short(X: np.ndarray, weight: np.ndarray | None, k: int, name: str) -> bool:
    """Say how many distinct rows there are if they are fewer than clusters."""
    rows = X if weight is None else X[weight > 0]
    distinct = len(np.unique(rows, axis=0))
    if distinct >= k:
        return False
    warnings.warn(
        f"Number of distinct clusters ({distinct}) found smaller than {name} ({k}): there "
        f"are only {distinct} distinct rows; use {name}={distinct} or fewer",
        ConvergenceWarning,
        skip_file_prefixes=(PACKAGE,),
    )
    return True
