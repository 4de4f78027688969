"""A fitted clustering: the answers it gives, over one `DataTree`."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayesclust.core.units import Units, scale_by
from bayesclust.draws import Draws
from bayesclust.mixture import Mixture
from bayesclust.posterior import diagnostics, loo, report
from bayesclust.posterior import membership as membership_
from bayesclust.posterior import tree as tree_
from bayesclust.posterior.answers import RowAnswers
from bayesclust.posterior.lazy import xr
from bayesclust.posterior.relabel import Alignment, aligned, permute
from bayesclust.posterior.scorecard import naming
from bayesclust.posterior.store import MODEL_GROUPS, save
from bayesclust.posterior.together import label_free
from bayesclust.posterior.tree import Training
from bayesclust.table import read

ALIGNMENT_ROWS = 1000
"""About how many training rows draws are aligned by."""

PARTITION_ROWS = 200
"""Most training rows whose partitions are followed from draw to draw."""


class Clustering(RowAnswers):
    """What a fit says of rows, seen and new.

    Attributes
    ----------
    mixture : Mixture
    point : Draws
        The point fit: one draw, in scaled units (see `Units`).
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
        align: str = "pivot",
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
        self._lock = threading.RLock()  # of what is built when first asked for
        if draws is not None and alignment is None:
            assert training is not None and self.draws is not None
            models = (self._model(self.point), self._model(self.draws))
            rows = training.some(ALIGNMENT_ROWS)
            self.point, self.draws, self.alignment = aligned(
                self.point, self.draws, models, rows, align, "mean"
            )
            if self.sampled:
                which = training.positions(PARTITION_ROWS)[:PARTITION_ROWS]
                found = label_free(self.point_model, self.model, training.X[which], which)
                found = {n: v.reshape(draws.shape) for n, v in found.items()}
                self.draws = dataclasses.replace(self.draws, stats={**self.draws.stats, **found})

    @property
    def reference(self) -> np.ndarray:
        """Sorted log densities of (some of) the training rows, to rank others among."""
        with self._lock:
            if self._reference is None:
                if self._training is None:
                    return np.zeros(0)
                X, weight, _ = self._training
                self._reference = membership_.reference(self.model, X, weight)
                self._reference.flags.writeable = False
            return self._reference

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density of each row, ``(n,)``: `log_density` by scikit-learn's name."""
        return self.log_density(X)

    # -- labels ------------------------------------------------------------------------------

    def realigned(self, method: str = "pivot", by: str = "mean", *, X: Any = None) -> Clustering:
        """The same draws under labels found in another way.

        Parameters
        ----------
        method : {"pivot", "stephens", "order"}
            Match draws to the point fit; to their own average, for the least loss of information
            (Stephens 2000); or sort components by a parameter.
        by : str
            Parameter to sort by: ``"weights"`` or one of the family's, e.g. ``"mean"``, whose
            first feature decides.
        X : (m, d) array or data frame, optional
            Rows to compare memberships on; default: the training rows.

        Returns
        -------
        Clustering
            `alignment` says how sure the new labels are.

        Raises
        ------
        ValueError
            If there are no draws, no rows, no such method or no such parameter.
        """
        if self.draws is None or self.alignment is None:
            raise ValueError("a point fit has no draws to align: fit with draws")
        rows = self._rows(X) if X is not None else self.training_rows(ALIGNMENT_ROWS)
        raw = permute(
            self.draws, self.mixture.family, np.argsort(self.alignment.permutation, axis=-1)
        )
        models = (self.point_model, self._model(raw))
        with naming(X, self.features):
            return self.relabelled(*aligned(self.point, raw, models, rows, method, by))

    def training_rows(self, most: int) -> np.ndarray:
        """At least `most` training rows of positive weight, evenly spaced, or all.

        Raises
        ------
        ValueError
            If they are not at hand.
        """
        return self._held().some(most)

    @property
    def holds_rows(self) -> bool:
        """Whether the training rows are at hand."""
        return self._training is not None or "observed_data" in self.tree.children

    @property
    def rows(self) -> np.ndarray:
        """The training rows, ``(n, d)``; a ValueError if they are not at hand."""
        return self._held().X

    def _held(self) -> Training:
        training = self._training or tree_.training(self.tree)
        if training is None:
            raise ValueError(
                "this clustering holds no training rows, as after save(rows=False) and after "
                "pickling: pass rows as X"
            )
        return training

    def relabelled(
        self, point: Draws, draws: Draws | None, alignment: Alignment | None
    ) -> Clustering:
        """The same clustering with its clusters in another order.

        Parameters
        ----------
        point, draws
            In the new order.
        alignment : Alignment or None
            How the raw draws were relabelled.
        """
        return Clustering(
            self.mixture,
            point,
            draws,
            self.units,
            self.dtype,
            self.features,
            hard=self.hard,
            kind=self.kind,
            alignment=alignment,
            training=self._training or tree_.training(self.tree),
            reference=self.reference,
            groups={},
            settings=self.settings,
        )

    # -- answers about the clusters ------------------------------------------------------------

    @property
    def tree(self) -> xr.DataTree:
        """Everything as one `xarray.DataTree`, built when first read; its arrays are read-only.

        Groups: `posterior`, `sample_stats`, `point_estimate`, `optimization`, `constant_data`;
        `alignment` where there are draws; of the training rows, as long as they are at hand,
        `membership`, `observed_data` and, if small, `log_likelihood`; `members`, how many rows
        each cluster has and how sure they are. All parameters are in the user's units, infinite
        or zero where they are not representable; for data so large or small that this may happen,
        the group `scaled` has those of the data times a power of two,
        ``2 ** -constant_data.exponent``.
        """
        with self._lock:
            if self._tree is None:
                self._tree = tree_.protected(tree_.build(self, self._training, self._groups))
                self._training = None
            return self._tree

    def log_likelihood(self, X: Any = None) -> xr.Dataset:
        """Log density of each row under each draw, clusters summed out: what `arviz.loo` needs.

        The tree has it as long as it is small, else it can be added::

            tree = clustering.tree
            tree["log_likelihood"] = xarray.DataTree(clustering.log_likelihood())

        Memory is that of the answer; rows are scored in blocks.

        Parameters
        ----------
        X : (n, d) array or data frame, optional
            Default: the training rows.

        Returns
        -------
        xarray.Dataset
            `x`, of dimensions (chain, draw, obs), in the user's units.

        Raises
        ------
        ValueError
            If no rows are given and none are held.
        """
        with naming(X, self.features):
            return tree_.log_likelihood(self, *self._given_or_held(X))

    def loo(self, X: Any = None) -> Any:
        """Leave-one-out cross-validation, `arviz.loo`, a block of rows at a time.

        Memory is bounded however many rows and draws there are; `arviz.compare` takes the answers
        of several fits to the same rows. Every row counts once, whatever its weight.

        Parameters
        ----------
        X : (n, d) array or data frame, optional
            The training rows; default: those that are held.

        Returns
        -------
        arviz_stats.ELPDData
            With `elpd_i` and `pareto_k` of each row.

        Raises
        ------
        ValueError
            If there are no draws, or no rows are given and none are held.
        """
        if self.draws is None:
            raise ValueError("a point fit has no draws to leave rows out of: fit with draws")
        with naming(X, self.features):
            return loo.loo(self, *self._given_or_held(X))

    def _given_or_held(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows and their names."""
        if X is None:
            rows, _, index = self._held()
        else:
            given = read(X, self.features)
            rows, index = given.values, given.index
        return rows, np.arange(len(rows)) if index is None else np.asarray(index)

    @property
    def labels(self) -> np.ndarray:
        """Most probable cluster of each training row, ``(n,)``."""
        groups = self.tree
        if "membership" not in groups.children:
            raise ValueError(
                "this clustering holds no training rows, as after save(rows=False) and after "
                "pickling: call predict(X)"
            )
        return np.array(groups["membership"]["label"])

    def standard_errors(self) -> xr.Dataset:
        """Standard deviation of every parameter over the draws, by cluster.

        Raises
        ------
        ValueError
            If the fit has no draws.
        """
        if self.draws is None:
            raise ValueError("a point fit has no standard errors: fit with uncertainty='bootstrap'")
        return tree_.over_draws(self, functools.partial(np.std, ddof=1))

    def summary(self) -> pd.DataFrame:
        """One line per cluster: its size, its centre, how sure its members are.

        Returns
        -------
        pandas.DataFrame
            Columns `size` (training rows of that label, or their weight), `probability` (their
            mean membership of the cluster), `weight` (share of the mixture) or, as k-means has no
            weights, `share` (of the rows); the centre in the user's units as ``mean(feature)``
            and, where there are draws, its standard error as ``se(feature)``, in the order of
            `features`. Columns that need the training rows are missing where nothing is known of
            them, as after unpickling. Lines below the printed table say how many training rows
            are unlike any cluster, see `membership`, and what the priors were.
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
        found = diagnostics.table(self.draws.stats)
        if self.units.common is not None:
            for name, power in (("inertia", 2), ("temperature", -2)):
                if name in found.index:
                    shown = ["mean", "sd", "mcse_mean"]
                    found.loc[name, shown] = scale_by(
                        found.loc[name, shown], power * self.units.common[1]
                    )
        return found

    @property
    def sampled(self) -> bool:
        """Whether the draws are those of Markov chains."""
        return self.draws is not None and "interrupted" in self.draws.flags

    @property
    def origin(self) -> str:
        """Where the parameters come from.

        "point fit", "Markov chains", "variational draws" or "bootstrap refits". The last are laid
        out along chains, too, so that tools for draws can read them, but are independent fits.
        """
        if self.draws is None:
            return "point fit"
        if self.sampled:
            return "Markov chains"
        return "variational draws" if "prior" in self.settings else "bootstrap refits"

    def save(self, path: Any, rows: bool = True) -> None:
        """Write the clustering to a netCDF file; `bayesclust.load` reads it back.

        Parameters
        ----------
        path : str or path-like
            Written whole or not at all.
        rows : bool
            Write the training rows, too, and what the fit says of each. Without them the file is
            small and can be handed on: scores, ranks, tail probabilities and `summary` are the
            same, while `labels`, `loo`, `realigned` and an `align` to this fit must be given
            rows. See `bayesclust.load` for what else a file holds.

        Raises
        ------
        ValueError
            If the fit is degenerate: some draw's numbers are none that rows can be scored by.
        """
        save(self, path, rows=rows)

    def __getstate__(self) -> dict[str, Any]:
        # Pickles keep what scoring needs, not the training rows.
        left_out = ("model", "point_model", "_lock")
        state = {n: v for n, v in self.__dict__.items() if n not in left_out}
        groups = {n: g for n, g in self._groups.items() if n in MODEL_GROUPS}
        without = {"_groups": groups, "_training": None, "_tree": None}
        return {**state, **without, "_reference": self.reference}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        c, s = (self.point if self.draws is None else self.draws).shape
        count = {"point fit": "", "Markov chains": f"{c} x {s} draws of "}
        draws = count.get(self.origin, f"{c * s} ") + self.origin
        return f"Clustering({self.kind}, {self.n_clusters} clusters, {draws})"


def _as_stored(draws: Draws) -> Draws:
    """Draws with the log weights that a file holding the weights gives back.

    To the last bit: one log weight in three thousand changes once more when it is saved again.
    """
    log_weights = np.asarray(draws.log_weights)
    for _ in range(FIXED_STEPS):
        before = log_weights
        with np.errstate(divide="ignore"):
            log_weights = np.log(np.exp(before))
        if np.array_equal(before, log_weights):
            break
    return dataclasses.replace(draws, log_weights=log_weights)


FIXED_STEPS = 100
"""Of four million log weights the slowest took 32."""
