"""K-means with memberships, in scikit-learn's language."""

from __future__ import annotations

from typing import Any, ClassVar, override

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils._param_validation import StrOptions

from bayesclust import kmeans
from bayesclust.core.units import Units, scale_by
from bayesclust.draws import Draws
from bayesclust.engines.hard import Lloyd
from bayesclust.estimators import _names
from bayesclust.estimators._base import Clusterer, rows_by_name, warn_short, warn_unconverged, whole
from bayesclust.estimators._parameters import (
    NO_DRAWS,
    RANDOM_STATE,
    Number,
    Whole,
    known_only,
    refuse_unused,
)
from bayesclust.families.spherical import SphericalGaussian
from bayesclust.mixture import Mixture
from bayesclust.posterior.clustering import Clustering
from bayesclust.posterior.report import n_best_starts
from bayesclust.table import read_numbers

CHEAP = 2_000_000
"""Multiply-adds per sweep up to which ``n_init="auto"`` makes ten starts."""


ONE_START = "with init given as centres, which are one start: leave it out"


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, Clusterer):
    """K-means clustering that also says how probable each membership is.

    Lloyd's algorithm on all cores, with exactly `n_clusters` non-empty clusters whenever there
    are that many distinct rows. Memberships are ``softmax(-lambda d^2)`` over the squared distances
    ``d^2`` to the centres, with the inverse temperature ``lambda`` learned from the data (Rigon,
    Herring & Dunson 2023), so that the nearest centre is the most probable one.

    Parameters
    ----------
    n_clusters : int
    init : {"k-means++", "random"} or (n_clusters, d) array
        How the first centres are found; given centres keep their order, otherwise clusters are
        numbered by their centres' columns, first column first.
    n_init : int or "auto"
        Number of starts, the one of least inertia is kept. "auto": ten for small data, else one.
    max_iter : int
    tol : float
        Relative to the mean column variance: stop when the squared moves of the centres sum to
        less. 0: stop when no assignment changes.
    standardize : bool
        Divide columns by their standard deviation inside the fit. Centres are still reported in
        the units of `X`; distances and inertia are in standard deviations.
    uncertainty : {None, "bootstrap", "gibbs"}
        Draws, so that memberships come with intervals. "bootstrap": refits under random row
        weights, which under-cover the truth where clusters overlap, because each refit still
        assigns rows hard. "gibbs": four Markov chains over the partitions of the generalised
        posterior, with the temperature learned; `sample_weight` must then hold whole numbers, and
        clusters should be round and of one size. A mixture does better where they are not.
    num_draws : int
        Number of refits, or draws of each chain.
    history : bool
        Keep the centres of every step in `history_`.
    seeding_rows : int, optional
        Seed on a random subsample of so many rows, for huge data.
    random_state : int, RandomState or None
    verbose : bool or int
        Print what each start reached, and how far draws have come.

    Attributes
    ----------
    cluster_centers_ : (n_clusters, d) ndarray
    labels_ : (n,) int32 ndarray
        Nearest centre of each training row, as `predict` says; found when first read.
    inertia_ : float
        Weighted sum of squared distances to the nearest centre; infinite, or zero, where the
        square is too large or small for a float.
    n_iter_ : int
    objectives_ : ndarray
        Inertia of every start.
    n_best_starts_ : int
        Starts that ended within a thousandth of the least inertia; where it is 1 of several, there
        may be a better one still.
    temperature_ : float
        The inverse temperature lambda, per unit of squared distance.
    history_ : (t + 1, n_clusters, d) ndarray
        With ``history=True``: the centres before the first and after every step.
    clustering_ : Clustering
        Keeps a copy of the training rows (as much memory as `X`), so that answers stay the fit's
        whatever becomes of `X`; a pickle leaves it out.
    n_features_in_ : int
    feature_names_in_ : ndarray

    References
    ----------
    T. Rigon, A. H. Herring and D. B. Dunson (2023), A generalized Bayes framework for
        probabilistic clustering, Biometrika 110, 559-578.

    Examples
    --------
    >>> import numpy as np
    >>> from bayesclust import KMeans
    >>> X = np.array([[0.0], [0.2], [9.8], [10.0]])
    >>> km = KMeans(2, random_state=0).fit(X)
    >>> km.cluster_centers_.ravel().tolist()
    [0.1, 9.9]
    >>> km.predict_proba(np.array([[5.0]])).round(2).tolist()
    [[0.5, 0.5]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Whole()],
        "init": [StrOptions(set(_names.SEEDINGS)), "array-like"],
        "n_init": [StrOptions({"auto"}), Whole()],
        "max_iter": [Whole()],
        "tol": [Number()],
        "standardize": ["boolean"],
        "uncertainty": [StrOptions(set(_names.HARD_UNCERTAINTIES)), None],
        "num_draws": [Whole(2)],
        "history": ["boolean"],
        "seeding_rows": [Whole(), None],
        "random_state": RANDOM_STATE,
        "verbose": ["verbose"],
    }

    @known_only
    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        standardize: bool = False,
        uncertainty: str | None = None,
        num_draws: int = 200,
        history: bool = False,
        seeding_rows: int | None = None,
        random_state: Any = None,
        verbose: bool | int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.uncertainty = uncertainty
        self.num_draws = num_draws
        self.history = history
        self.seeding_rows = seeding_rows
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @whole
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Cluster the rows.

        Parameters
        ----------
        X : (n, d) array or data frame
        y : ignored
        sample_weight : (n,) array, optional
            Weight 2 equals the row twice, weight 0 its absence.

        Returns
        -------
        self
        """
        self._validate_params()
        self._refuse_unused()
        refuse_unused(self, "seeding_rows", not isinstance(self.init, str), ONE_START)
        rows = self._validate(X, reset=True)
        weight = self._weights(sample_weight, rows)
        self._enough_rows(rows, weight, self.n_clusters, "n_clusters")
        units = self._units(rows, weight)
        init = given_or(_names.SEEDINGS, self.init, self.n_clusters, rows)
        key_fit, key_draws = self._keys("fit", "draws")
        n_init = self.n_init
        if n_init == "auto":
            n_init = 10 if rows.size * self.n_clusters <= CHEAP else 1
        result = kmeans.fit(
            key_fit,
            rows,
            self.n_clusters,
            sample_weight=weight,
            init=init,
            n_init=n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            history=self.history,
            units=units,
            seeding_rows=self.seeding_rows,
        )
        if result.short:
            warn_short(rows, weight, self.n_clusters, "n_clusters")
        elif not result.converged and self.tol > 0:
            warn_unconverged(
                f"k-means was still moving after max_iter={self.max_iter} steps: raise max_iter "
                "or tol"
            )
        self._report(result, rows, X, weight, units, key_draws)
        return self

    def _refuse_unused(self) -> None:
        """Refuse parameters that were set and have no effect."""
        refuse_unused(self, "num_draws", self.uncertainty is None, NO_DRAWS)
        given = not isinstance(self.init, str)
        refuse_unused(self, "n_init", given and self.n_init != 1, ONE_START)

    def _report(
        self, result: Any, rows: np.ndarray, X: Any, weight: Any, units: Any, key: Any
    ) -> None:
        engine = Lloyd(tol=self.tol, max_iter=self.max_iter)
        point = engine.stand_for(result, rows, weight, units)
        self._tell(point, "inertia")
        self._report_point(point, units, rows.dtype)
        vars(self).pop("history_", None)
        if result.history is not None:
            self.history_ = units.unscaled(np.asarray(result.history))
        mixture = Mixture(SphericalGaussian(), self.n_clusters)
        self._conclude(key, engine, mixture, point, rows, X, weight, units, hard=True)

    def _report_point(self, point: Draws, units: Units, dtype: Any) -> None:
        """Set what a point fit says, in the user's units and in memory of its own."""
        square = 0 if units.common is None else 2 * units.common[1]
        self.cluster_centers_ = units.unscaled(np.array(point.params["mean"][0, 0], dtype))
        self.inertia_ = float(scale_by(float(point.stats["inertia"][0, 0]), square))
        self.n_iter_ = int(point.stats["n_steps"][0, 0])
        self.objectives_ = np.array(point.flags["objectives"])
        self.n_best_starts_ = n_best_starts(self.objectives_, hard=True)
        if square:
            self.objectives_ = scale_by(self.objectives_.astype(np.float64), square)
        self.temperature_ = float(scale_by(point.stats["temperature"][0, 0], -square))

    @classmethod
    @override
    def _parameters_of(cls, clustering: Clustering) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "n_clusters": clustering.n_clusters,
            "standardize": bool(clustering.settings.get("standardize", False)),
        }
        if clustering.draws is not None:
            chains, size = clustering.draws.shape
            sampled = clustering.sampled
            parameters["uncertainty"] = "gibbs" if sampled else "bootstrap"
            parameters["num_draws"] = size if sampled else chains * size
        return parameters

    @override
    def _adopt(self) -> None:
        clustering, point = self.clustering_, self.clustering_.point
        self._report_point(point, clustering.units, clustering.dtype)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Labels of the training rows, ``(n,)``."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Distances of the training rows to the centres, ``(n, n_clusters)``."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    @rows_by_name
    def transform(self, X: Any) -> np.ndarray:
        """Euclidean distance of each row to each centre.

        Parameters
        ----------
        X : (n, d) array or data frame

        Returns
        -------
        (n, n_clusters) ndarray
            In the units of `X`, or in standard deviations with ``standardize=True``.
        """
        rows = self._ask(X)
        return self.clustering_.distances(rows).astype(rows.dtype, copy=False)

    @rows_by_name
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the weighted sum of squared distances to the nearest centre."""
        rows = self._ask(X)
        weight = self._weights(sample_weight, rows.values)
        nearest = self.clustering_.distances(rows).astype(np.float64).min(axis=1)
        with np.errstate(over="ignore", under="ignore"):
            square = nearest**2
            return -float(square.sum() if weight is None else (weight * square).sum())

    @property
    def _n_features_out(self) -> int:
        return self.cluster_centers_.shape[0]


def given_or(table: dict[str, Any], init: Any, k: int, X: np.ndarray) -> Any:
    """A seeding by name, or centres checked against the data."""
    if isinstance(init, str):
        return _names.look_up(table, init, "init")
    centers = read_numbers(init, "init", remedy="give finite centres")[0].astype(X.dtype)
    if centers.shape != (k, X.shape[1]):
        raise ValueError(
            f"The shape of the initial centers {centers.shape} does not match the number of "
            f"clusters and columns ({k}, {X.shape[1]}): init must be (n_clusters, d) centres or "
            f"one of {sorted(table)}"
        )
    return centers
