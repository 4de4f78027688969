"""A fitted clustering: the answers it gives, over one `DataTree`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr

from bayesclust.core.units import Units
from bayesclust.draws import Draws
from bayesclust.mixture import Mixture
from bayesclust.posterior import diagnostics, report
from bayesclust.posterior import membership as membership_
from bayesclust.posterior import tree as tree_
from bayesclust.posterior.align import Alignment, align, overlaps
from bayesclust.posterior.distance import common_scale, distances, nearest
from bayesclust.posterior.margin import margins_to
from bayesclust.posterior.membership import Model
from bayesclust.posterior.scorecard import as_numpy, row_names, table
from bayesclust.posterior.store import save
from bayesclust.posterior.tree import Training

ALIGNMENT_ROWS = 1000


class Clustering:
    """What a fit says of rows, seen and new.

    Attributes
    ----------
    mixture : Mixture
    point : Draws
        The point fit: one draw, in the user's units.
    draws : Draws or None
        Aligned draws around it, if there are any.
    units : Units
        Between the user's units and the fit's.
    dtype : dtype
        Of all arithmetic on rows.
    features : list of str
    hard : bool
        Clusters are cells of nearest centres (k-means).
    kind : str
        Name of the estimator.
    settings : dict
        What else to keep with a saved model.
    """

    def __init__(
        self,
        mixture: Mixture,
        point: Draws,
        draws: Draws | None,
        units: Units,
        dtype: Any,
        features: Sequence[str],
        *,
        hard: bool,
        kind: str,
        alignment: Alignment | None = None,
        training: Training | None = None,
        reference: np.ndarray | None = None,
        groups: dict[str, xr.Dataset] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.mixture = mixture
        self.point = point if groups is not None else _as_stored(point)
        self.units = units
        self.dtype = np.dtype(dtype)
        self.features = [str(f) for f in features]
        self.hard = hard
        self.kind = kind
        self.settings = settings or {}
        self.draws = draws if draws is None or groups is not None else _as_stored(draws)
        self.alignment = alignment
        self._training = training
        self._reference = reference
        self._groups = groups or {}
        self._tree: xr.DataTree | None = None
        if draws is not None and alignment is None:
            assert training is not None
            step = max(1, len(training.X) // ALIGNMENT_ROWS)
            rows = units.inward(training.X[::step].astype(self.dtype, copy=False))
            raw = self._model(self.draws)
            plug = self.point_model
            with jax.enable_x64(self.dtype == np.float64):
                own, overlap = overlaps(
                    mixture,
                    ({n: v[0] for n, v in plug.params.items()}, plug.log_weights[0]),
                    (raw.params, raw.log_weights),
                    rows,
                )
            self.draws, self.alignment = align(self.draws, mixture.family, own, overlap)

    # -- the model ---------------------------------------------------------------------------

    def _model(self, draws: Draws) -> Model:
        flat = {n: np.asarray(v).reshape(-1, *np.shape(v)[2:]) for n, v in draws.params.items()}
        log_weights = np.asarray(draws.log_weights).reshape(-1, draws.k)
        return Model.of(self.mixture, flat, log_weights, self.units, self.dtype)

    @functools.cached_property
    def point_model(self) -> Model:
        """The point fit, ready to score rows."""
        return self._model(self.point)

    @functools.cached_property
    def model(self) -> Model:
        """All draws, ready to score rows; the point fit if there are none."""
        return self.point_model if self.draws is None else self._model(self.draws)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self.mixture.k

    # -- answers per row ---------------------------------------------------------------------

    def predict(self, X: Any) -> np.ndarray:
        """Cluster of each row, ``(n,)`` int32.

        The nearest centre for k-means, else the most probable cluster, averaged over draws.
        """
        X = self._rows(X)
        if self.hard:
            return nearest(self.point_model, X)
        return membership_.labels(self.model, X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Membership probabilities ``(n, k)``, averaged over draws."""
        return membership_.probabilities(self.model, self._rows(X))

    def distances(self, X: Any) -> np.ndarray:
        """Euclidean distance of each row to each centre, ``(n, k)``.

        In the user's units, or in standard deviations where the fit standardized the columns.
        """
        return distances(self.point_model, self._rows(X)) * common_scale(self.units)

    def log_density(self, X: Any) -> np.ndarray:
        """Log mixture density of each row, ``(n,)``, averaged over draws before the logarithm."""
        return membership_.log_density(self.model, self._rows(X))

    def membership(
        self,
        X: Any,
        level: float = 0.9,
        *,
        to: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> xr.Dataset:
        """How probable and how close each row is to each cluster, and how firmly that is known.

        Parameters
        ----------
        X : (n, d) array or data frame
        level : float
            Mass of the interval `lower` to `upper`, between 0 and 1.
        to : int, optional
            Cluster to measure `margin` to; default: the runner-up of each row.
        progress : callable, optional
            Called as ``progress(rows_done, n)``.

        Returns
        -------
        xarray.Dataset
            Dimensions (obs, cluster): `probability`, `lower`, `upper`, `tail_probability`;
            (obs,): `cluster`, `entropy`, `entropy_overlap`, `entropy_ignorance`, `log_density`,
            `density_rank`, `margin`, `vote_share`. Columns that need several draws are NaN for a
            point fit.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1 or `to` is no cluster.
        """
        if not isinstance(level, Real) or not 0 < level < 1:
            raise ValueError(f"level={level!r} must lie between 0 and 1, e.g. level=0.9")
        k = self.n_clusters
        if to is not None and not (isinstance(to, Integral) and 0 <= to < k):
            raise ValueError(f"to={to!r} is no cluster: give one of 0 .. {k - 1}")
        index = row_names(X)
        X = self._rows(X)
        out = membership_.membership(self.model, X, level, progress)
        out["density_rank"] = membership_.rank(self.reference, out["log_density"])
        out["margin"] = margins_to(
            self.point_model, X, out["probability"], out["cluster"], to, hard=self.hard
        )
        data = {
            name: (("obs", "cluster") if v.ndim == 2 else ("obs",), v)
            for name, v in out.items()
            if name != "cluster"
        }
        data["label"] = (("obs",), out["cluster"])
        obs = np.arange(len(X)) if index is None else index
        dataset = xr.Dataset(data, coords={"obs": obs, "cluster": np.arange(k)})
        dataset.attrs["level"] = level
        return dataset

    def scorecard(
        self, X: Any, level: float = 0.9, *, to: int | None = None, progress: Any = None
    ) -> Any:
        """`membership` as a flat table with one line per row, for each row's own cluster.

        Returns
        -------
        data frame
            In the library of `X` if it is a data frame, else pandas; the columns `cluster`,
            `probability`, `lower`, `upper`, `entropy`, `entropy_overlap`, `entropy_ignorance`,
            `tail_probability`, `log_density`, `density_rank`, `margin`, `vote_share`, and
            `probability_0` .. for every cluster.
        """
        return table(self.membership(X, level, to=to, progress=progress), X)

    def _rows(self, X: Any) -> np.ndarray:
        X = as_numpy(X, self.features)
        if X.dtype != np.float32:
            X = X.astype(np.float64, copy=False)
        return X

    @property
    def reference(self) -> np.ndarray:
        """Sorted log densities of (some of) the training rows, to rank others among."""
        if self._reference is None:
            if self._training is None:
                return np.zeros(0)
            X, weight, _ = self._training
            self._reference = membership_.reference(self.model, X, weight)
        return self._reference

    # -- answers about the clusters ------------------------------------------------------------

    @property
    def tree(self) -> xr.DataTree:
        """Everything as one `xarray.DataTree`, built when first read.

        Groups: `posterior`, `sample_stats`, `point_estimate`, `optimization`, `constant_data`;
        `alignment` where there are draws; of the training rows, as long as they are at hand,
        `membership`, `observed_data` and, if small, `log_likelihood`.
        """
        if self._tree is None:
            self._tree = tree_.build(self, self._training, self._groups)
            self._training = None
        return self._tree

    @property
    def labels(self) -> np.ndarray:
        """Most probable cluster of each training row, ``(n,)``."""
        groups = self.tree
        if "membership" not in groups.children:
            raise ValueError("this clustering holds no training rows: call predict(X)")
        return np.asarray(groups["membership"]["label"])

    def standard_errors(self) -> xr.Dataset:
        """Standard deviation of every parameter over the draws, by cluster.

        Raises
        ------
        ValueError
            If the fit has no draws.
        """
        if self.draws is None:
            raise ValueError("a point fit has no standard errors: fit with uncertainty='bootstrap'")
        return self.tree["posterior"].dataset.std(list(tree_.DRAW), ddof=1)

    def summary(self) -> pd.DataFrame:
        """One line per cluster: weight, centre in the user's units, how sure its members are.

        Returns
        -------
        pandas.DataFrame
            Columns `weight` (share of the mixture), `size` (training rows of that label, or
            their weight), `probability` (their mean membership), the centre by feature and, where
            there are draws, its standard error as ``se(feature)``. Columns that need the training
            rows are missing where the model was fitted elsewhere and saved without them.
        """
        return report.summary(self)

    def diagnose(self) -> list[str]:
        """What is doubtful about the fit, in sentences; empty if nothing is."""
        return report.doubts(self)

    def diagnostics(self) -> pd.DataFrame:
        """How well chains have mixed, by quantities that no relabelling changes.

        Returns
        -------
        pandas.DataFrame
            One line per quantity: `mean`, `sd`, `mcse_mean`, `ess_bulk`, `ess_tail`, `r_hat`.

        Raises
        ------
        ValueError
            If the fit has no chains.
        """
        if not self.sampled:
            raise ValueError("this fit has no Markov chains: fit a BayesianMixture")
        assert self.draws is not None
        return diagnostics.table(self.draws.stats)

    @property
    def sampled(self) -> bool:
        """Whether the draws are those of Markov chains."""
        return self.draws is not None and "interrupted" in self.draws.flags

    def save(self, path: Any) -> None:
        """Write the clustering to a netCDF file; `bayesclust.load` reads it back.

        Parameters
        ----------
        path : str or path-like
            Written whole or not at all.
        """
        save(self, path)

    def __getstate__(self) -> dict[str, Any]:
        # Pickles keep what scoring needs, not the training rows.
        state = {n: v for n, v in self.__dict__.items() if n not in ("model", "point_model")}
        return {**state, "_reference": self.reference, "_training": None, "_tree": None}

    def __repr__(self) -> str:
        c, s = (self.point if self.draws is None else self.draws).shape
        draws = "point fit" if self.draws is None else f"{c} x {s} draws"
        return f"Clustering({self.kind}, {self.n_clusters} clusters, {draws})"


def _as_stored(draws: Draws) -> Draws:
    """Draws with the log weights that a file holding the weights gives back."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.exp(np.asarray(draws.log_weights)))
    return dataclasses.replace(draws, log_weights=log_weights)
