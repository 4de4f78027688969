"""Bayesian mixtures in scikit-learn's language."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import warnings
from pkgutil import resolve_name
from typing import Any, ClassVar, override

import jax
import numpy as np
from sklearn.base import DensityMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.checks import check_integer, check_memory
from bayesclust.core.random import generator
from bayesclust.draws import Draws
from bayesclust.engines.base import Engine, check
from bayesclust.engines.record import described, informed_prior, unscaled_prior
from bayesclust.estimators import _names
from bayesclust.estimators._base import (
    PACKAGE,
    Clusterer,
    rows_by_name,
    shown,
    warn_interrupted,
    warn_unconverged,
    whole,
)
from bayesclust.estimators._parameters import RANDOM_STATE, Whole, known_only
from bayesclust.families import ConditionalFamily, Prior
from bayesclust.mixture import Mixture
from bayesclust.posterior.clustering import Clustering, Training
from bayesclust.posterior.priors import is_known, restored
from bayesclust.posterior.relabel import in_order
from bayesclust.posterior.report import unreadable
from bayesclust.posterior.tree import over_draws
from bayesclust.table import row_names
from bayesclust.weights.base import WeightPrior


class BayesianMixture(DensityMixin, Clusterer):
    """Bayesian mixture: a posterior over everything, and memberships averaged over it.

    Parameters
    ----------
    n_components : int
        The most there can be: components may be empty, and may outnumber the rows.
    family : {"gaussian", "full", "tied", "diag", "spherical"} or ConditionalFamily
        "gaussian" means "full". A family object may bring its own prior, in the units of `X`.
    prior : {"conjugate", "independent", "hierarchical"} or Prior
        Of means and covariances, for a family given by name: the weak conjugate default scaled to
        the data (Fraley and Raftery 2007); means independent of covariances; or the same with a
        hyperprior on the covariances' scale (Richardson and Green 1997, Stephens 1997). Whatever
        an object leaves at None is set for the data.
    weights : "dirichlet" or WeightPrior
    engine : {"gibbs", "nuts", "svi", "cavi"} or Engine
        How the posterior is found: blocked Gibbs sampling, the no-U-turn sampler, or variational
        inference by gradients or by coordinate ascent (which says too little of its doubt).
    align : {"pivot", "stephens", "order"}
        How draws are brought to one labelling: matched to the most probable draw, matched to
        their own average (Stephens 2000), or sorted by the mean of the first feature;
        `Clustering.realigned` sorts by other parameters.
    standardize : bool
        Divide columns by their standard deviation inside the fit; everything is reported in the
        units of `X`.
    random_state : int, RandomState or None
    verbose : bool or int
        Print what each start reached, and how far draws have come.

    Attributes
    ----------
    weights_ : (k,) ndarray
        Posterior means, as all parameters below, over aligned draws.
    means_ : (k, d) ndarray
    covariances_ : ndarray
        Shaped by the family, as in scikit-learn.
    labels_ : (n,) int32 ndarray
        Most probable cluster of each training row, found when first read.
    prior_ : Mixture
        The model with all hyperparameters of its priors set, in the units of `X`.
    clustering_ : Clustering
        Keeps a copy of the training rows (as much memory as `X`), so that answers stay the fit's
        whatever becomes of `X`; a pickle leaves it out.
    n_features_in_ : int
    feature_names_in_ : ndarray

    Examples
    --------
    >>> from bayesclust import BayesianMixture
    >>> from bayesclust.datasets import load_old_faithful
    >>> from bayesclust.engines import Gibbs
    >>> engine = Gibbs(num_warmup=100, num_draws=100, num_chains=2)
    >>> bm = BayesianMixture(2, engine=engine, standardize=True, random_state=0)
    >>> bm.fit(load_old_faithful()).means_[:, 0].round(1).tolist()
    [2.0, 4.3]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Whole()],
        "family": [StrOptions(set(_names.FAMILIES)), ConditionalFamily],
        "prior": [StrOptions(set(_names.PRIORS)), Prior],
        "weights": [StrOptions(set(_names.WEIGHTS)), WeightPrior],
        "engine": [StrOptions(set(_names.ENGINES)), Engine],
        "align": [StrOptions(set(_names.ALIGNMENTS))],
        "standardize": ["boolean"],
        "random_state": RANDOM_STATE,
        "verbose": ["verbose"],
    }

    @known_only
    def __init__(
        self,
        n_components: int = 1,
        *,
        family: Any = "gaussian",
        prior: Any = "conjugate",
        weights: Any = "dirichlet",
        engine: Any = "gibbs",
        align: str = "pivot",
        standardize: bool = False,
        random_state: Any = None,
        verbose: bool | int = 0,
    ) -> None:
        self.n_components = n_components
        self.family = family
        self.prior = prior
        self.weights = weights
        self.engine = engine
        self.align = align
        self.standardize = standardize
        self.random_state = random_state
        self.verbose = verbose

    @whole
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BayesianMixture:
        """Sample the posterior.

        Parameters
        ----------
        X : (n, d) array or data frame
        y : ignored
        sample_weight : (n,) array, optional
            Weight 2 equals the row twice, weight 0 its absence. Parts of rows have no labels
            that Gibbs sampling could draw: `engine` must then be another.

        Returns
        -------
        self
        """
        self._validate_params()
        rows = self._validate(X, reset=True, minimum=2)
        weight = self._weights(sample_weight, rows)
        units = self._units(rows, weight)
        mixture = _kept(self._mixture())
        engine = self.engine
        if isinstance(engine, str):
            engine = resolve_name(_names.look_up(_names.ENGINES, engine, "engine"))()
        check(engine, mixture)
        extra = {}
        progress = self._reporter(type(engine).__name__)
        if progress is not None and "progress" in inspect.signature(engine.run).parameters:
            extra["progress"] = progress
        (key,) = self._keys("fit")
        draws = engine.run(key, mixture, rows, sample_weight=weight, units=units, **extra)
        self._tell(draws, "bound")
        warn_interrupted(draws)
        if not np.all(draws.flags.get("converged", True)):
            warn_unconverged(
                f"{type(engine).__name__} stopped before its bound converged: let it run longer "
                "(max_iter of CAVI, num_steps of SVI)"
            )
        self._scaled_prior = informed_prior(mixture, rows, weight, units)
        self.prior_ = unscaled_prior(self._scaled_prior, units)
        self.clustering_ = Clustering(
            mixture,
            in_order(_most_probable(draws), mixture.family),
            draws,
            units,
            rows.dtype,
            self._features(rows),
            hard=False,
            kind=type(self).__name__,
            align=self.align,
            training=Training(rows, weight, row_names(X)),
            settings={**self._settings(), "prior": described(self.prior_)},
        )
        assert self.clustering_.alignment is not None
        for sentence in unreadable(self.clustering_.alignment):
            warnings.warn(sentence, UserWarning, skip_file_prefixes=(PACKAGE,))
        self._report(rows.dtype)
        return self

    def _mixture(self) -> Mixture:
        """The model that the parameters name."""
        family = self.family
        if isinstance(family, str):
            prior = self.prior
            if isinstance(prior, str):
                covariance = "full" if family == "gaussian" else family
                prior = _names.look_up(_names.PRIORS, prior, "prior")[covariance]
            family = _names.look_up(_names.FAMILIES, family, "family")(prior=prior)
        elif self.prior != "conjugate":
            raise ValueError("prior is for a family given by name: give it to the family object")
        weights = self.weights
        if isinstance(weights, str):
            weights = _names.look_up(_names.WEIGHTS, weights, "weights")
        return Mixture(family, self.n_components, weights)

    def _report(self, dtype: Any) -> None:
        if self.clustering_.draws is None:
            raise ValueError("there are no draws")
        mean = over_draws(self.clustering_, np.mean)
        self.weights_ = np.asarray(mean["weights"]).astype(dtype)
        self.means_ = shown(np.asarray(mean["mean"]), dtype)
        self.covariances_ = shown(np.asarray(mean["cov" if "cov" in mean else "var"]), dtype)
        vars(self).pop("labels_", None)  # of the last fit

    @classmethod
    @override
    def _parameters_of(cls, clustering: Clustering) -> dict[str, Any]:
        return {
            "n_components": clustering.n_clusters,
            "family": _names.covariance_of(clustering.mixture.family),
            "align": "pivot" if clustering.alignment is None else clustering.alignment.method,
            "standardize": bool(clustering.settings.get("standardize", False)),
        }

    @override
    def _adopt(self) -> None:
        clustering = self.clustering_
        self._report(clustering.dtype)
        family: Any = clustering.mixture.family
        described = json.loads(clustering.settings["prior"])
        if not {"components", "weights"} <= described.keys():
            raise ValueError("prior describes no mixture")
        representable = clustering.units.exponent is None
        known = all(is_known(part) for part in described.values())  # not of the user's making
        if representable and known:
            prior = restored(described["components"], len(clustering.features))
            weights = restored(described["weights"], clustering.n_clusters)
            _names.check_prior(prior, self.family)
            self.prior_ = Mixture(
                dataclasses.replace(family, prior=prior), clustering.n_clusters, weights
            )
            self._scaled_prior = self.prior_

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Labels of the training rows, ``(n,)``."""
        return self.fit(X, sample_weight=sample_weight).labels_

    @rows_by_name
    def score_samples(self, X: Any) -> np.ndarray:
        """Log posterior predictive density of each row, ``(n,)``, in the units of `X`."""
        rows = self._ask(X)
        return self.clustering_.log_density(rows).astype(rows.dtype, copy=False)

    @rows_by_name
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log posterior predictive density of the rows."""
        rows = self._ask(X)
        weight = self._weights(sample_weight, rows.values)
        density = self.clustering_.log_density(rows).astype(np.float64)
        return float(np.average(density, weights=weight))

    def diagnostics(self) -> Any:
        """How well the chains have mixed, see `Clustering.diagnostics`."""
        check_is_fitted(self, "clustering_")
        return self.clustering_.diagnostics()

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows from the posterior predictive distribution.

        Parameters
        ----------
        n_samples : int

        Returns
        -------
        X : (n_samples, d) ndarray
        y : (n_samples,) int ndarray
            Component of each row, by the aligned labels.
        """
        check_is_fitted(self, "clustering_")
        check_integer("n_samples", n_samples)
        model = self.clustering_.model
        each = sum(v[0].size for v in model.params.values()) + 4 * self.means_.shape[1]
        check_memory("rows", 8.0 * n_samples * each, n_samples=n_samples)
        key_draws, key_rows = self._keys("sample draws", "sample")
        which = generator(key_draws).integers(model.n_draws, size=n_samples)
        with arithmetic(model.dtype == np.float64):
            X, z = _one_row_each(
                model.mixture,
                {n: v[which] for n, v in model.params.items()},
                model.log_weights[which],
                jax.random.split(key_rows, n_samples),
            )
        X = model.units.unscaled(model.units.outward(np.asarray(X)))
        return X.astype(self.means_.dtype), np.asarray(z)

    def prior_predictive(
        self, n_draws: int = 50, n_samples: int = 100
    ) -> tuple[np.ndarray, np.ndarray]:
        """Data sets that the prior expects, to be held against the data.

        Parameters
        ----------
        n_draws : int
            Data sets, each from parameters of its own.
        n_samples : int
            Rows of each.

        Returns
        -------
        X : (n_draws, n_samples, d) ndarray
            In the units of the data.
        y : (n_draws, n_samples) int ndarray
            Component of each row.
        """
        check_is_fitted(self, "clustering_")
        check_integer("n_draws", n_draws)
        check_integer("n_samples", n_samples)
        if "_scaled_prior" not in vars(self):
            raise ValueError("the file of this model does not hold all of its prior: fit again")
        needed = 32.0 * n_draws * (n_samples + self.n_components) * self.means_.shape[1]
        check_memory("rows", needed, n_draws=n_draws, n_samples=n_samples)
        (key,) = self._keys("prior")
        with arithmetic(True):
            X, y = _from_prior(self._scaled_prior, jax.random.split(key, n_draws), n_samples)
            X = self.clustering_.units.unscaled(np.asarray(X))
            return X.astype(self.means_.dtype), np.asarray(y)


def _kept(mixture: Mixture) -> Mixture:
    """The same model with copies of the arrays that its priors hold."""
    return jax.tree.map(lambda v: v.copy() if isinstance(v, np.ndarray) else v, mixture)


@functools.partial(jax.jit, static_argnames="n")
def _from_prior(mixture: Mixture, keys: Any, n: int) -> Any:
    family: Any = mixture.family

    def one(key: Any) -> Any:
        key_params, key_weights, key_rows = jax.random.split(key, 3)
        params, _ = family.from_prior(key_params, mixture.k)
        log_weights, _ = mixture.weights.from_prior(key_weights, mixture.k, np.float64)
        return mixture.sample(key_rows, params, log_weights, n)

    return jax.vmap(one)(keys)


@jax.jit
def _one_row_each(mixture: Mixture, params: Any, log_weights: Any, keys: Any) -> Any:
    def one(params: Any, log_weights: Any, key: Any) -> Any:
        X, z = mixture.sample(key, params, log_weights, 1)
        return X[0], z[0]

    return jax.vmap(one)(params, log_weights, keys)


def _most_probable(draws: Draws) -> Draws:
    """The draw of greatest posterior density, as draws of one."""
    best = np.unravel_index(np.argmax(draws.stats["log_posterior"]), draws.shape)

    def pick(v: Any) -> np.ndarray:
        return np.asarray(v)[best][None, None]

    return Draws(
        params={n: pick(v) for n, v in draws.params.items()},
        log_weights=pick(draws.log_weights),
        stats={n: pick(v) for n, v in draws.stats.items()},
        trace=draws.trace,
        flags={n: v for n, v in draws.flags.items() if n == "objectives"},
    )
