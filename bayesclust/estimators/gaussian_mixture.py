"""Gaussian mixtures by EM, in scikit-learn's language."""

from __future__ import annotations

from typing import Any, ClassVar, override

import numpy as np
from sklearn.base import DensityMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.checks import check_integer, check_memory
from bayesclust.core.units import Units, in_steps, scale_by
from bayesclust.engines.em import EM
from bayesclust.engines.starts import Given, Start
from bayesclust.estimators import _names
from bayesclust.estimators._base import (
    Clusterer,
    rows_by_name,
    shown,
    warn_short,
    warn_unconverged,
    whole,
)
from bayesclust.estimators._parameters import (
    NO_DRAWS,
    RANDOM_STATE,
    Number,
    Whole,
    known_only,
    refuse_unused,
)
from bayesclust.estimators._precisions import SPREAD, inverted, precisions_cholesky
from bayesclust.estimators._precisions import precisions as precisions_of
from bayesclust.mixture import Mixture, unscaled
from bayesclust.posterior import membership
from bayesclust.posterior.clustering import Clustering
from bayesclust.posterior.relabel import in_order
from bayesclust.posterior.report import n_best_starts
from bayesclust.table import read_numbers
from bayesclust.weights.dirichlet import Dirichlet

ONE_START = "where means_init and precisions_init give the one start: leave it out"


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
    init_params : {"kmeans", "k-means++", "random_from_data", "random"} or list of these
        How starts are found. Of a list the `n_init` starts take one each, in turn. Starts of
        "kmeans" often end alike, since each is the best of several k-means fits already: elongated
        clusters that lie side by side want others beside them.
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
    n_best_starts_ : int
        Starts that ended within 1e-3 of the best; where it is 1 of several, there may be a better
        one still.
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
        "n_components": [Whole()],
        "covariance_type": [StrOptions(set(_names.COVARIANCES))],
        "tol": [Number()],
        "reg_covar": [Number()],
        "max_iter": [Whole()],
        "n_init": [Whole()],
        "init_params": [StrOptions(set(_names.STARTS)), list, tuple],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "weight_concentration": [Number(closed="right")],
        "standardize": ["boolean"],
        "uncertainty": [StrOptions(set(_names.UNCERTAINTIES)), None],
        "num_draws": [Whole(2)],
        "random_state": RANDOM_STATE,
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
        init_params: Any = "kmeans",
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
        self._refuse_unused()
        rows = self._validate(X, reset=True, minimum=2)
        k, d = self.n_components, rows.shape[1]
        weight = self._weights(sample_weight, rows)
        self._enough_rows(rows, weight, k, "n_components")
        units = self._units(rows, weight)
        key_fit, key_draws = self._keys("fit", "draws")
        family = _names.look_up(_names.COVARIANCES, self.covariance_type, "covariance_type")
        mixture = Mixture(
            family(ridge=np.asarray(self.reg_covar, rows.dtype)),
            k,
            Dirichlet(np.asarray(self.weight_concentration, rows.dtype)),
        )
        starts = self._starts()
        given, log_weights = self._given(k, d, family, units)
        if given or log_weights is not None:
            inner = family().in_units(
                _completed(given, family, d), -units.shift / units.scale, 1.0 / units.scale
            )
            inner = {n: np.asarray(v, rows.dtype) for n, v in inner.items() if n in given}
            if log_weights is not None:
                log_weights = log_weights.astype(rows.dtype)
            starts = [Given(inner, log_weights, start) for start in starts]
        n_init = 1 if len(given) == len(family.dims) else self.n_init
        engine = EM(tol=float(self.tol), max_iter=int(self.max_iter), n_init=int(n_init))
        point = engine.run(key_fit, mixture, rows, sample_weight=weight, start=starts, units=units)
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
        self._conclude(key_draws, engine, mixture, point, rows, X, weight, units, hard=False)
        self._report(point, mixture, units, rows.dtype)
        return self

    def _refuse_unused(self) -> None:
        """Refuse parameters that were set and have no effect."""
        refuse_unused(self, "num_draws", self.uncertainty is None, NO_DRAWS)
        given = self.means_init is not None and self.precisions_init is not None
        refuse_unused(self, "n_init", given, ONE_START)
        refuse_unused(self, "init_params", given, ONE_START)

    def _report(self, point: Any, mixture: Mixture, units: Units, dtype: Any) -> None:
        outer = unscaled(mixture, point, units).params
        name = "cov" if "cov" in point.params else "var"
        self.weights_ = np.exp(point.log_weights[0, 0]).astype(dtype)
        self.means_ = shown(outer["mean"][0, 0], dtype)
        self.covariances_ = shown(outer[name][0, 0], dtype)
        chol = precisions_cholesky(point.params[name][0, 0], self.covariance_type)
        precisions = precisions_of(chol, self.covariance_type)
        if units.exponent is not None:
            power = -units.exponent
            if self.covariance_type == "spherical":
                chol = chol * 2.0 ** power.mean()
                precisions = scale_by(
                    precisions * 4.0 ** (power.mean() % 1), 2 * int(power.mean() // 1)
                )
            elif name == "var":
                chol, precisions = scale_by(chol, power), scale_by(precisions, 2 * power)
            else:
                chol = scale_by(chol, power[:, None])
                precisions = scale_by(precisions, power[:, None] + power)
        self.precisions_cholesky_ = shown(chol, dtype)
        self.precisions_ = shown(precisions, dtype)
        self.converged_ = bool(point.flags["converged"].all())
        self.n_iter_ = int(point.stats["n_steps"][0, 0])
        self.lower_bound_ = float(point.stats["objective"][0, 0])
        objectives = np.array(point.flags["objectives"])
        trace = np.asarray(point.trace)[int(np.nanargmax(objectives))]
        self.lower_bounds_ = trace[np.isfinite(trace)]
        self.objectives_ = objectives
        self.n_best_starts_ = n_best_starts(objectives, hard=False)
        self.n_floored_ = int(point.flags["floored"].max())

    def _starts(self) -> list[Start]:
        """Kinds of starts that `init_params` names."""
        names = [self.init_params] if isinstance(self.init_params, str) else self.init_params
        if not 1 <= len(names) <= self.n_init:
            raise ValueError(
                f"init_params={self.init_params!r} names {len(names)} kinds of starts for "
                f"n_init={self.n_init}: name at least one, and raise n_init so that each is used"
            )
        return [_names.look_up(_names.STARTS, name, "init_params") for name in names]

    @classmethod
    @override
    def _parameters_of(cls, clustering: Clustering) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "n_components": clustering.n_clusters,
            "covariance_type": _names.covariance_of(clustering.mixture.family),
            "standardize": bool(clustering.settings.get("standardize", False)),
        }
        weights = clustering.mixture.weights
        if isinstance(weights, Dirichlet) and np.ndim(weights.concentration) == 0:
            parameters["weight_concentration"] = float(weights.concentration)
        if clustering.draws is not None:
            parameters["uncertainty"] = "bootstrap"
            parameters["num_draws"] = int(np.prod(clustering.draws.shape))
        return parameters

    @override
    def _adopt(self) -> None:
        clustering = self.clustering_
        self._report(clustering.point, clustering.mixture, clustering.units, clustering.dtype)

    def _given(self, k: int, d: int, family: Any, units: Units) -> tuple[dict[str, Any], Any]:
        """Parameters given by the user or by the last fit, in scaled units of this one."""

        def moved(params: dict[str, Any], exponent: Any) -> dict[str, Any]:
            """From rows times two to minus this power."""
            zero = np.zeros(d, np.int32)
            power = (zero if exponent is None else exponent) - (
                zero if units.exponent is None else units.exponent
            )
            if not power.any():
                return params
            inner = in_steps(family().in_units, _completed(params, family, d), power)
            return {n: inner[n] for n in params}

        if self.warm_start and hasattr(self, "clustering_") and self.means_.shape == (k, d):
            point = self.clustering_.point
            if type(self.clustering_.mixture.family) is family:
                params = {n: v[0, 0] for n, v in point.params.items()}
                params = moved(params, self.clustering_.units.exponent)
                return params, point.log_weights[0, 0]
        given: dict[str, Any] = {}
        if self.means_init is not None:
            given["mean"] = _shaped(self.means_init, (k, d), "means_init")
        if self.precisions_init is not None:
            kind = self.covariance_type
            shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[kind]
            precision = _shaped(self.precisions_init, shape, "precisions_init")
            given[SPREAD[kind]] = inverted(precision, kind)
        log_weights = None
        if self.weights_init is not None:
            weights = _shaped(self.weights_init, (k,), "weights_init")
            if (weights < 0).any() or not np.isclose(weights.sum(), 1, rtol=1e-6):
                raise ValueError(
                    "weights_init must be non-negative and sum to 1: divide it by its sum"
                )
            with np.errstate(divide="ignore"):
                log_weights = np.log(weights)
        return moved(given, None), log_weights

    # -- scikit-learn's questions ----------------------------------------------------------------

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Labels of the training rows, ``(n,)``."""
        return self.fit(X, sample_weight=sample_weight).labels_

    @rows_by_name
    def score_samples(self, X: Any) -> np.ndarray:
        """Log density of each row, ``(n,)``, in the units of `X`."""
        rows = self._ask(X)
        return self.clustering_.log_density(rows).astype(rows.dtype, copy=False)

    @rows_by_name
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

    @rows_by_name
    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion of the point fit (Schwarz 1978); lower is better."""
        return self._bic(self._ask(X).values, sample_weight)

    def _bic(self, rows: np.ndarray, sample_weight: Any) -> float:
        deviance, total = self._deviance(rows, sample_weight)
        return deviance + self._n_parameters() * float(np.log(total))

    @rows_by_name
    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike information criterion of the point fit; lower is better."""
        return self._deviance(self._ask(X).values, sample_weight)[0] + 2.0 * self._n_parameters()

    @rows_by_name
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
        check_integer("n_samples", n_samples)
        check_memory("rows", 32.0 * n_samples * self.means_.shape[1], n_samples=n_samples)
        (key,) = self._keys("sample")
        model = self.clustering_.point_model
        with arithmetic(model.dtype == np.float64):
            params = {n: v[0] for n, v in model.params.items()}
            X, z = model.mixture.sample(key, params, model.log_weights[0], n_samples)
            X, z = np.asarray(X), np.asarray(z)
        order = np.argsort(z, kind="stable")
        X = model.units.unscaled(model.units.outward(X[order]))
        return X.astype(self.means_.dtype), z[order]


def _shaped(value: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    given, _ = read_numbers(value, name)
    if given.shape != shape:
        raise ValueError(f"{name} has shape {given.shape}, expected {shape}")
    return given.astype(np.float64)


def _completed(given: dict[str, Any], family: Any, d: int) -> dict[str, Any]:
    """Given parameters with stand-ins for the missing ones, so that units can be changed."""
    k = 1
    blank = {
        n: np.ones([d if dim != "cluster" else k for dim in dims])
        for n, dims in family.dims.items()
    }
    return {**blank, **given}
