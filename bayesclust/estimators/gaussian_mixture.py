"""Gaussian mixtures by EM, in scikit-learn's language."""

from __future__ import annotations

import functools
from numbers import Integral, Real
from typing import Any, ClassVar

import jax
import numpy as np
from scipy.linalg import solve_triangular
from sklearn.base import DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from bayesclust.core.random import key_of
from bayesclust.engines.em import EM
from bayesclust.engines.starts import Given
from bayesclust.estimators import _names
from bayesclust.estimators._base import Clusterer, known_only, warn_short, warn_unconverged, whole
from bayesclust.mixture import Mixture
from bayesclust.posterior import membership
from bayesclust.posterior.relabel import in_order
from bayesclust.table import read_numbers
from bayesclust.weights.dirichlet import Dirichlet


class GaussianMixture(DensityMixin, Clusterer):
    """Gaussian mixture by expectation maximisation, with how firmly memberships are known.

    Parameters
    ----------
    n_components : int
    covariance_type : {"full", "tied", "diag", "spherical"}
    tol : float
        Stop when the mean log likelihood changes by less than this. The default is finer than
        scikit-learn's 1e-3, which stops EM visibly early on overlapping components.
    reg_covar : float
        Floor on the spread, relative to each column's variance (scikit-learn's is absolute, and
        so depends on the units).
    max_iter : int
    n_init : int
        Number of starts, the one of greatest likelihood is kept.
    init_params : {"kmeans", "k-means++", "random_from_data", "random"}
    weights_init : (k,) array, optional
    means_init : (k, d) array, optional
    precisions_init : array, optional
        Inverse covariances, shaped by `covariance_type` as in scikit-learn: (k, d, d), (d, d),
        (k, d) or (k,).
    weight_concentration : float
        Concentration of the Dirichlet prior on the weights; 1 is flat (maximum likelihood).
    standardize : bool
        Divide columns by their standard deviation inside the fit; everything is reported in the
        units of `X`, except that a spherical variance is then the geometric mean over columns.
    uncertainty : {None, "bootstrap"}
        "bootstrap": refit under random row weights, so that memberships come with intervals.
    num_draws : int
        Number of refits.
    random_state : int, RandomState or None
    verbose : bool or int
        Print what each start reached, and how far draws have come.
    warm_start : bool
        Begin at the last fit's parameters.

    Attributes
    ----------
    weights_ : (k,) ndarray
    means_ : (k, d) ndarray
    covariances_, precisions_, precisions_cholesky_ : ndarray
        Shaped by `covariance_type`, as in scikit-learn.
    converged_ : bool
    n_iter_ : int
    lower_bound_ : float
        Mean log likelihood at the last E-step.
    lower_bounds_ : (t,) ndarray
        The same after every step of the best start; never falls.
    objectives_ : (n_init,) ndarray
        Where every start ended.
    n_floored_ : int
        Components held up by `reg_covar` in some direction.
    labels_ : (n,) int32 ndarray
        Most probable component of each training row, found when first read.
    clustering_ : Clustering
        Keeps a copy of the training rows (as much memory as `X`), so that answers stay the fit's
        whatever becomes of `X`; a pickle leaves it out.
    n_features_in_ : int
    feature_names_in_ : ndarray

    Notes
    -----
    Components are numbered by their means' columns, first column first, unless `means_init` or
    `warm_start` says otherwise.

    Examples
    --------
    >>> from bayesclust import GaussianMixture
    >>> from bayesclust.datasets import load_old_faithful
    >>> gm = GaussianMixture(2, random_state=0, standardize=True).fit(load_old_faithful())
    >>> gm.means_.round(2).tolist()
    [[2.04, 54.48], [4.29, 79.97]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(_names.COVARIANCES))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(_names.STARTS))],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "weight_concentration": [Interval(Real, 0.0, None, closed="neither")],
        "standardize": ["boolean"],
        "uncertainty": [StrOptions(set(_names.UNCERTAINTIES)), None],
        "num_draws": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
    }

    @known_only
    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-5,
        reg_covar: float = 1e-6,
        max_iter: int = 500,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        weight_concentration: float = 1.0,
        standardize: bool = False,
        uncertainty: str | None = None,
        num_draws: int = 200,
        random_state: Any = None,
        verbose: bool | int = 0,
        warm_start: bool = False,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.weight_concentration = weight_concentration
        self.standardize = standardize
        self.uncertainty = uncertainty
        self.num_draws = num_draws
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    @whole
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GaussianMixture:
        """Fit the mixture.

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
        rows = self._validate(X, reset=True, minimum=2)
        k, d = self.n_components, rows.shape[1]
        weight = self._weights(sample_weight, rows)
        self._enough_rows(rows, weight, k, "n_components")
        units = self._units(rows, weight)
        key = self._key()
        family = _names.look_up(_names.COVARIANCES, self.covariance_type, "covariance_type")
        mixture = Mixture(
            family(ridge=np.asarray(self.reg_covar, rows.dtype)),
            k,
            Dirichlet(np.asarray(self.weight_concentration, rows.dtype)),
        )
        start = _names.look_up(_names.STARTS, self.init_params, "init_params")
        given, log_weights = self._given(k, d, family)
        if given or log_weights is not None:
            inner = family().in_units(
                _completed(given, family, d), -units.shift / units.scale, 1.0 / units.scale
            )
            inner = {n: np.asarray(v, rows.dtype) for n, v in inner.items() if n in given}
            if log_weights is not None:
                log_weights = log_weights.astype(rows.dtype)
            start = Given(inner, log_weights, start)
        n_init = 1 if isinstance(start, Given) and len(given) == len(family.dims) else self.n_init
        engine = EM(tol=float(self.tol), max_iter=int(self.max_iter), n_init=int(n_init))
        point = engine.run(key, mixture, rows, sample_weight=weight, start=start, units=units)
        self._tell(point, "mean log likelihood")
        if "mean" not in given:
            point = in_order(point, family)
        if point.flags["floored"].any() and warn_short(rows, weight, k, "n_components"):
            point.flags["short"] = np.ones((1, 1), bool)
        elif not point.flags["converged"].all():
            warn_unconverged(
                f"EM had not converged after max_iter={self.max_iter} steps: the mean log "
                f"likelihood still changes by more than tol={self.tol:g}. Raise max_iter or tol, "
                "use more starts (n_init), or fewer components"
            )
        self._conclude(key, engine, mixture, point, rows, X, weight, units, hard=False)
        self._report(point, rows, weight)
        return self

    def _report(self, point: Any, rows: np.ndarray, weight: Any) -> None:
        dtype = rows.dtype
        self.weights_ = np.exp(point.log_weights[0, 0]).astype(dtype)
        self.means_ = point.params["mean"][0, 0].astype(dtype)
        spread = point.params["cov" if "cov" in point.params else "var"][0, 0]
        self.covariances_ = spread.astype(dtype)
        chol = _precisions_cholesky(spread, self.covariance_type)
        self.precisions_cholesky_ = chol.astype(dtype)
        self.precisions_ = _precisions(chol, self.covariance_type).astype(dtype)
        self.converged_ = bool(point.flags["converged"].all())
        self.n_iter_ = int(point.stats["n_steps"][0, 0])
        self.lower_bound_ = float(point.stats["objective"][0, 0])
        objectives = np.array(point.flags["objectives"])
        trace = np.asarray(point.trace)[int(np.nanargmax(objectives))]
        self.lower_bounds_ = trace[np.isfinite(trace)]
        self.objectives_ = objectives
        self.n_floored_ = int(point.flags["floored"].max())
        vars(self).pop("labels_", None)  # of the last fit

    @functools.cached_property
    def labels_(self) -> np.ndarray:
        """Most probable component of each training row, ``(n,)``, found when first read."""
        check_is_fitted(self, "clustering_")
        return self.clustering_.predict(self.clustering_.rows)

    def __getstate__(self) -> Any:
        if "clustering_" in vars(self):
            _ = self.labels_  # a pickle leaves the rows behind
        return super().__getstate__()

    def _given(self, k: int, d: int, family: Any) -> tuple[dict[str, Any], Any]:
        """Parameters given by the user or by the last fit, in the user's units."""
        if self.warm_start and hasattr(self, "clustering_") and self.means_.shape == (k, d):
            point = self.clustering_.point
            if type(self.clustering_.mixture.family) is family:
                return {n: v[0, 0] for n, v in point.params.items()}, point.log_weights[0, 0]
        given: dict[str, Any] = {}
        if self.means_init is not None:
            given["mean"] = _shaped(self.means_init, (k, d), "means_init")
        if self.precisions_init is not None:
            kind = self.covariance_type
            shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[kind]
            precision = _shaped(self.precisions_init, shape, "precisions_init")
            given[_SPREAD[kind]] = _inverted(precision, kind)
        log_weights = None
        if self.weights_init is not None:
            weights = _shaped(self.weights_init, (k,), "weights_init")
            if (weights < 0).any() or not np.isclose(weights.sum(), 1, rtol=1e-6):
                raise ValueError(
                    "weights_init must be non-negative and sum to 1: divide it by its sum"
                )
            with np.errstate(divide="ignore"):
                log_weights = np.log(weights)
        return given, log_weights

    # -- scikit-learn's questions ----------------------------------------------------------------

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Labels of the training rows, ``(n,)``."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density of each row, ``(n,)``, in the units of `X`."""
        rows = self._ask(X)
        return self.clustering_.log_density(rows).astype(rows.dtype, copy=False)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log density of the rows."""
        rows = self._ask(X)
        weight = self._weights(sample_weight, rows.values)
        density = self.clustering_.log_density(rows).astype(np.float64)
        return float(np.average(density, weights=weight))

    def _n_parameters(self) -> int:
        k, d = self.means_.shape
        return self.clustering_.mixture.family.n_parameters(k, d) + k - 1

    def _deviance(self, rows: np.ndarray, sample_weight: Any) -> tuple[float, float]:
        """Minus twice the log likelihood at the point fit, and the weight of the rows."""
        weight = self._weights(sample_weight, rows)
        weight = np.ones(len(rows)) if weight is None else weight.astype(np.float64)
        density = membership.log_density(self.clustering_.point_model, rows)
        return -2.0 * float(weight @ density), float(weight.sum())

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion of the point fit (Schwarz 1978); lower is better."""
        return self._bic(self._ask(X).values, sample_weight)

    def _bic(self, rows: np.ndarray, sample_weight: Any) -> float:
        deviance, total = self._deviance(rows, sample_weight)
        return deviance + self._n_parameters() * float(np.log(total))

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike information criterion of the point fit; lower is better."""
        return self._deviance(self._ask(X).values, sample_weight)[0] + 2.0 * self._n_parameters()

    def icl(self, X: Any, sample_weight: Any = None) -> float:
        """Integrated completed likelihood; lower is better.

        BIC plus twice the entropy of the memberships (Biernacki, Celeux & Govaert 2000, eq. 5,
        with the memberships in place of their modes): clusters that overlap are paid for.
        """
        rows = self._ask(X).values
        p = membership.probabilities(self.clustering_.point_model, rows).astype(np.float64)
        entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1)
        weight = self._weights(sample_weight, rows)
        total = entropy.sum() if weight is None else (weight * entropy).sum()
        return self._bic(rows, sample_weight) + 2 * float(total)

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows from the fitted mixture.

        Parameters
        ----------
        n_samples : int

        Returns
        -------
        X : (n_samples, d) ndarray
        y : (n_samples,) int ndarray
            Component of each row.
        """
        check_is_fitted(self, "clustering_")
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one "
                "sample."
            )
        rng = check_random_state(self.random_state)
        key = key_of(rng.randint(np.iinfo(np.int32).max))
        model = self.clustering_.point_model
        with jax.enable_x64(model.dtype == np.float64):
            params = {n: v[0] for n, v in model.params.items()}
            X, z = model.mixture.sample(key, params, model.log_weights[0], n_samples)
            X, z = np.asarray(X), np.asarray(z)
        order = np.argsort(z, kind="stable")
        return model.units.outward(X[order]).astype(self.means_.dtype), z[order]


_SPREAD = {"full": "cov", "tied": "cov", "diag": "var", "spherical": "var"}


def _shaped(value: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    given, _ = read_numbers(value, name)
    if given.shape != shape:
        raise ValueError(f"{name} has shape {given.shape}, expected {shape}")
    return given.astype(np.float64)


def _inverted(precision: np.ndarray, kind: str) -> np.ndarray:
    if _SPREAD[kind] == "var":
        if (precision <= 0).any():
            raise ValueError("precisions_init must be positive")
        return 1.0 / precision
    eigenvalues = np.linalg.eigvalsh(precision)
    if not np.allclose(precision, np.swapaxes(precision, -1, -2)) or (eigenvalues <= 0).any():
        raise ValueError("precisions_init must be symmetric and positive definite")
    return np.linalg.inv(precision)


def _completed(given: dict[str, Any], family: Any, d: int) -> dict[str, Any]:
    """Given parameters with stand-ins for the missing ones, so that units can be changed."""
    k = 1
    blank = {
        n: np.ones([d if dim != "cluster" else k for dim in dims])
        for n, dims in family.dims.items()
    }
    return {**blank, **given}


def _precisions_cholesky(covariance: np.ndarray, kind: str) -> np.ndarray:
    """Factor ``P`` with ``P P^T`` the precision; upper triangular, as in scikit-learn."""
    if _SPREAD[kind] == "var":
        return 1.0 / np.sqrt(covariance)
    d = covariance.shape[-1]

    def factor(cov: np.ndarray) -> np.ndarray:
        return solve_triangular(np.linalg.cholesky(cov), np.eye(d), lower=True).T

    return factor(covariance) if kind == "tied" else np.stack([factor(c) for c in covariance])


def _precisions(chol: np.ndarray, kind: str) -> np.ndarray:
    return chol**2 if _SPREAD[kind] == "var" else chol @ np.swapaxes(chol, -1, -2)
