"""What all estimators do at the door and after the fit."""

from __future__ import annotations

import abc
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from bayesclust._typing import Key
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.fork import refuse_forked
from bayesclust.core.random import key_of
from bayesclust.core.units import Units, natural_units, standard_units
from bayesclust.draws import Draws
from bayesclust.engines.base import PointEngine
from bayesclust.engines.bootstrap import Bootstrap
from bayesclust.engines.em import AFFORDABLE_LOSS
from bayesclust.engines.progress import Progress
from bayesclust.estimators import _names
from bayesclust.mixture import Mixture
from bayesclust.posterior.clustering import Clustering, Training
from bayesclust.posterior.scorecard import naming
from bayesclust.posterior.store import load
from bayesclust.table import Table, read, read_weight, row_names

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


def rows_by_name[F: Callable[..., Any]](answer: F) -> F:
    """Have a method that answers for rows `X` name the row and column it cannot answer for."""

    @functools.wraps(answer)
    def wrapped(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        features = self.clustering_.features if "clustering_" in vars(self) else None
        with naming(X, features):
            return answer(self, X, *args, **kwargs)

    return cast(F, wrapped)


class Clusterer(BaseEstimator, abc.ABC):
    """Doors of an estimator: validation in, the answer of its `Clustering` out.

    A subclass fits and sets `clustering_`; everything asked of it afterwards is asked of that.
    """

    clustering_: Clustering

    def __getattr__(self, name: str) -> Any:
        # Only reached where there is no such attribute.
        kind = type(self).__name__
        if name.endswith("_") and not name.startswith("_") and "clustering_" not in vars(self):
            raise NotFittedError(f"{kind} has no {name} yet: call fit first")
        if name == "labels_" and "clustering_" in vars(self):
            raise AttributeError(
                f"this {kind} comes from a file without training rows, so it has no labels_: call "
                "predict(X)"
            )
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def set_params(self, **params: Any) -> Any:
        """Set parameters, see `sklearn.base.BaseEstimator.set_params`.

        Raises
        ------
        ValueError
            For a parameter that there is not; it says what to use.
        """
        known = self._get_param_names()
        for name in params:
            if "__" not in name and name not in known:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {type(self).__name__}: "
                    f"{_names.advice(type(self), name, known)}"
                )
        return super().set_params(**params)

    @functools.cached_property
    def labels_(self) -> np.ndarray:
        """Cluster of each training row, ``(n,)`` int32, by `predict`; found when first read."""
        check_is_fitted(self, "clustering_")
        if not self.clustering_.holds_rows:
            raise AttributeError("labels_")
        return self.clustering_.predict(self.clustering_.rows)

    def __getstate__(self) -> Any:
        hasattr(self, "labels_")  # finds them: a pickle leaves the rows behind
        return super().__getstate__()

    # -- in ----------------------------------------------------------------------------------

    def _validate(self, X: Any, *, reset: bool, minimum: int = 1) -> np.ndarray:
        """Rows to fit, names checked against those of an earlier fit unless `reset`.

        They are float32 or float64, read-only, and in memory that no caller writes to: answers
        after the fit read them again, so a fit keeps one copy of its rows.
        """
        return self._read(X, reset=reset, minimum=minimum).kept()

    def _read(self, X: Any, *, reset: bool, minimum: int = 1) -> Table:
        """Rows with their names, of columns as scikit-learn counts them."""
        refuse_forked()
        table = read(X, minimum=minimum)
        named: Any = table.values
        if table.columns is not None:
            named = pd.DataFrame(columns=pd.Index(table.columns, tupleize_cols=False))
        validate_data(self, named, reset=reset, skip_check_array=True)
        return table

    def _weights(self, sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
        return None if sample_weight is None else read_weight(sample_weight, len(X), X.dtype)

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

    def _keys(self, *names: str) -> list[Key]:
        """Draw keys from `random_state`, one per name: an int repeats itself, a generator moves on.

        No two uses of an estimator share a name, so that rows sampled after a fit by the same
        `random_state` are not made of the fit's random numbers.
        """
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        return [key_of(seed, name) for name in names]

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

    def _settings(self) -> dict[str, Any]:
        """What a saved model says of the fit besides its numbers."""
        named = hasattr(self, "feature_names_in_")
        return {"standardize": int(self.standardize), "named": int(named)}

    # -- the answer ----------------------------------------------------------------------------

    def _conclude(
        self,
        key: Key,
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
        vars(self).pop("labels_", None)  # of the last fit
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
                progress=self._reporter(self.uncertainty),
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
            settings=self._settings(),
        )

    def _reporter(self, what: str) -> Progress | None:
        """The callback set by a caller; with `verbose` one that prints a line at every tenth."""
        progress = getattr(self, "_progress", None)
        return progress or (_printed(f"{type(self).__name__}, {what}") if self.verbose else None)

    def _tell(self, draws: Draws, objective: str) -> None:
        """With `verbose`, print a line for each start of a fit."""
        ends = np.atleast_1d(draws.flags.get("objectives", ()))
        if not self.verbose or not len(ends):
            return
        trace, name = np.asarray(draws.trace), type(self).__name__
        steps = np.isfinite(trace).sum(axis=-1) if len(trace) == len(ends) else np.zeros(len(ends))
        for i, end in enumerate(ends):
            after = f" after {steps[i]:.0f} steps" if steps[i] else ""
            print(f"{name}, start {i + 1} of {len(ends)}: {objective} {end:.6g}{after}")

    @property
    def posterior_(self) -> Any:
        """Everything the fit says, as one `xarray.DataTree`; see `Clustering.tree`."""
        check_is_fitted(self, "clustering_")
        return self.clustering_.tree

    def _ask(self, X: Any) -> Table:
        check_is_fitted(self, "clustering_")
        return self._read(X, reset=False)

    @rows_by_name
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

    @rows_by_name
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
        rows = self._ask(X)
        return self.clustering_.predict_proba(rows).astype(rows.dtype, copy=False)

    @rows_by_name
    def membership(self, X: Any, level: float = 0.9, *, to: int | None = None) -> Any:
        """How probable and how close each row is to each cluster; see `Clustering.membership`."""
        return self.clustering_.membership(self._ask(X), level, to=to)

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

    def save(self, path: Any, rows: bool = True) -> None:
        """Write the fit to a netCDF file that `from_file` and `bayesclust.load` read.

        Parameters
        ----------
        path : str or path-like
        rows : bool
            Write the training rows, too; see `Clustering.save`.
        """
        check_is_fitted(self, "clustering_")
        self.clustering_.save(path, rows=rows)

    @classmethod
    def from_file(cls, path: Any) -> Self:
        """Make a fitted estimator from a file that `save` wrote.

        It answers as the saved one did. Parameters that a file does not hold, those of how the
        fit was found, have their defaults: a `fit` of it, or of a clone, need not repeat the
        saved fit. A file without training rows gives no `labels_`.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        estimator

        Raises
        ------
        FileNotFoundError, ValueError
            As for `bayesclust.load`, or if the file holds the fit of another estimator.
        """
        clustering = load(path)
        if clustering.kind != cls.__name__:
            raise ValueError(
                f"{path} holds the fit of a {clustering.kind!r}, not of {cls.__name__}: call its "
                "from_file, or bayesclust.load"
            )
        features = clustering.features
        numbered = features == [f"x{j}" for j in range(len(features))]
        try:
            estimator = cls(**cls._parameters_of(clustering))
            estimator.clustering_ = clustering
            estimator.n_features_in_ = len(features)
            if clustering.settings.get("named", not numbered):
                estimator.feature_names_in_ = np.array(features, dtype=object)
            estimator._adopt()
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{path} is incomplete: {error}") from error
        return estimator

    @classmethod
    @abc.abstractmethod
    def _parameters_of(cls, clustering: Clustering) -> dict[str, Any]:
        """Parameters that a clustering tells."""

    @abc.abstractmethod
    def _adopt(self) -> None:
        """Set the fit's attributes from `clustering_`."""


def _printed(what: str) -> Progress:
    """A callback that prints ``what: done of total`` at every tenth of the way."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if 10 * done // max(total, 1) > told:
            told = 10 * done // total
            print(f"{what}: {done} of {total}")

    return progress


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
