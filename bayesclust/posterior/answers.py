"""What a fit says of rows, seen and new."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np

from bayesclust.core.checks import check_integer
from bayesclust.core.fork import refuse_forked
from bayesclust.core.random import key_of
from bayesclust.core.units import Units
from bayesclust.draws import Draws
from bayesclust.families.spherical import SphericalGaussian
from bayesclust.mixture import Mixture
from bayesclust.posterior import membership as membership_
from bayesclust.posterior.distance import distances, in_common_units, nearest
from bayesclust.posterior.lazy import xr
from bayesclust.posterior.margin import margins_to
from bayesclust.posterior.membership import Model
from bayesclust.posterior.scorecard import naming, table
from bayesclust.table import Table, read

LABEL_BYTES = 2 << 30
"""Most memory that drawn labels may take."""


class RowAnswers(abc.ABC):
    """Answers per row, from a point fit and draws around it; see `Clustering`."""

    mixture: Mixture
    point: Draws
    draws: Draws | None
    units: Units
    dtype: Any
    features: list[str]
    hard: bool

    @property
    @abc.abstractmethod
    def reference(self) -> np.ndarray:
        """Sorted log densities of (some of) the training rows, to rank others among."""

    # -- the model ---------------------------------------------------------------------------

    def _model(self, draws: Draws, mixture: Mixture | None = None) -> Model:
        flat = {n: np.asarray(v).reshape(-1, *np.shape(v)[2:]) for n, v in draws.params.items()}
        log_weights = np.asarray(draws.log_weights).reshape(-1, draws.k)
        mixture = self.mixture if mixture is None else mixture
        return Model.of(mixture, flat, log_weights, self.units, self.dtype)

    @functools.cached_property
    def point_model(self) -> Model:
        """The point fit, ready to score rows."""
        if self.hard:  # the nearest centre must be the most probable one, to the last digit
            return self._model(self.point, Mixture(SphericalGaussian(direct=True), self.n_clusters))
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
        """Cluster of each row, ``(n,)`` int32; the first one where several are as good.

        For a mixture the most probable one, by probabilities averaged over draws. For k-means the
        nearest centre of the point fit, which is the most probable cluster there; the average
        over draws may prefer another one for a row between clusters, whose label stays.
        """
        with naming(X, self.features):
            return self._labels(self._rows(X))

    def _labels(self, X: np.ndarray) -> np.ndarray:
        return nearest(self.point_model, X) if self.hard else membership_.labels(self.model, X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Membership probabilities ``(n, k)``, averaged over draws."""
        with naming(X, self.features):
            return membership_.probabilities(self.model, self._rows(X))

    def label_draws(self, X: Any, seed: int = 0) -> xr.Dataset:
        """Clusters of the rows drawn from their posterior: whole partitions, draw by draw.

        Given the parameters of a draw the rows' clusters are independent, so that they need not
        be stored to be had.

        Parameters
        ----------
        X : (n, d) array or data frame
        seed : int

        Returns
        -------
        xarray.Dataset
            `label` with dimensions (chain, draw, obs), int8 for up to 127 clusters, else int16.

        Raises
        ------
        ValueError
            If the labels would take more than 2 GB.
        """
        check_integer("seed", seed, 0, 2**32 - 1)
        given = self._read(X)
        rows, index = given.values, given.index
        draws = self.point if self.draws is None else self.draws
        size = len(rows) * self.model.n_draws * (1 if self.n_clusters <= 127 else 2)
        if size > LABEL_BYTES:
            raise ValueError(
                f"labels of {len(rows)} rows under {self.model.n_draws} draws take "
                f"{size / 2**30:.1f} GB: ask for fewer rows at a time"
            )
        with naming(given, self.features):
            labels = membership_.label_draws(self.model, rows, key_of(seed, "labels"))
        return xr.Dataset(
            {"label": (("chain", "draw", "obs"), labels.reshape(*draws.shape, -1))},
            coords={
                "chain": np.arange(draws.shape[0]),
                "draw": np.arange(draws.shape[1]),
                "obs": np.arange(len(rows)) if index is None else index,
            },
        )

    def distances(self, X: Any) -> np.ndarray:
        """Euclidean distance of each row to each centre, ``(n, k)``.

        In the user's units, or in standard deviations where the fit standardized the columns.
        """
        with naming(X, self.features):
            return in_common_units(distances(self.point_model, self._rows(X)), self.units)

    def log_density(self, X: Any) -> np.ndarray:
        """Log mixture density of each row, ``(n,)``, averaged over draws before the logarithm."""
        with naming(X, self.features):
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
            (obs,): `label`, `outlier`, `entropy`, `entropy_overlap`, `entropy_ignorance`,
            `log_density`, `density_rank`, `margin`, `vote_share`. What needs several draws is NaN
            for a point fit.

            `label` is that of `predict`. `outlier` says that the row is unlike any cluster:
            its tail probability is below .001 for each, which happens to at most one in a
            thousand members of clusters of these shapes. `margin` is in the user's units, or in
            standard deviations of the columns where the fit standardized them; its attribute
            `units` says which. The interval is the middle part of the draws, made wide enough to
            hold `probability`, their average, where a few draws far from the rest take it out.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1, `to` is no cluster, or a row lies so far from the
            data that its squared distance overflows.
        """
        if not isinstance(level, Real) or not 0 < level < 1:
            raise ValueError(f"level={level!r} must lie between 0 and 1, e.g. level=0.9")
        k = self.n_clusters
        if to is not None and not (isinstance(to, Integral) and 0 <= to < k):
            raise ValueError(f"to={to!r} is no cluster: give one of 0 .. {k - 1}")
        given = self._read(X)
        X, index = given.values, given.index
        with naming(given, self.features):
            label = self._labels(X) if self.hard else None
            out = membership_.membership(self.model, X, level, label, progress)
            out["margin"] = margins_to(
                self.point_model, X, out["probability"], out["cluster"], to, hard=self.hard
            )
        out["density_rank"] = membership_.rank(self.reference, out["log_density"])
        data = {
            name: (("obs", "cluster") if v.ndim == 2 else ("obs",), v)
            for name, v in out.items()
            if name != "cluster"
        }
        data["label"] = (("obs",), out["cluster"])
        obs = np.arange(len(X)) if index is None else index
        dataset = xr.Dataset(data, coords={"obs": obs, "cluster": np.arange(k)})
        dataset.attrs["level"] = level
        common = np.all(self.units.scale == self.units.scale[0])
        dataset["margin"].attrs["units"] = "data" if common else "column standard deviations"
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
            `tail_probability`, `outlier`, `log_density`, `density_rank`, `margin`, `vote_share`,
            and `probability_0` .. for every cluster. `cluster` is that of `predict`.
        """
        return table(self.membership(X, level, to=to, progress=progress), X)

    def _rows(self, X: Any) -> np.ndarray:
        return self._read(X).values

    def _read(self, X: Any) -> Table:
        refuse_forked()
        return read(X, self.features)
