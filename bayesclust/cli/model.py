"""From options to an estimator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bayesclust.cli.refuse import fail


class Model(StrEnum):
    """Estimators the command line fits."""

    kmeans = "kmeans"
    gmm = "gmm"
    bayes = "bayes"


class Covariance(StrEnum):
    """Covariances of a Gaussian mixture."""

    full = "full"
    tied = "tied"
    diag = "diag"
    spherical = "spherical"


class Engine(StrEnum):
    """Ways to find a posterior."""

    gibbs = "gibbs"
    nuts = "nuts"
    svi = "svi"
    cavi = "cavi"


class Prior(StrEnum):
    """Priors of means and covariances."""

    conjugate = "conjugate"
    independent = "independent"
    hierarchical = "hierarchical"


class Uncertainty(StrEnum):
    """Ways to draw around a point fit."""

    bootstrap = "bootstrap"
    gibbs = "gibbs"


STARTS = {
    Model.kmeans: ("k-means++", "random"),
    Model.gmm: ("kmeans", "k-means++", "random_from_data", "random"),
}
"""Kinds of starts."""


@dataclass(frozen=True)
class Choice:
    """A model and the options that were given for it: None where one was not.

    Attributes
    ----------
    model : Model
    k : int
    standardize : bool
    seed : int
    covariance, engine, prior, uncertainty : enums or None
    draws, chains, warmup, starts, max_iter : int or None
    init : str or None
        Kinds of starts, separated by commas.
    level : float or None
        Mass of the intervals.
    """

    model: Model
    k: int
    standardize: bool
    seed: int
    covariance: Covariance | None = None
    engine: Engine | None = None
    prior: Prior | None = None
    uncertainty: Uncertainty | None = None
    draws: int | None = None
    chains: int | None = None
    warmup: int | None = None
    init: str | None = None
    starts: int | None = None
    max_iter: int | None = None
    level: float | None = None

    @property
    def drawn(self) -> bool:
        """Whether there are draws, and so intervals."""
        return self.model is Model.bayes or self.uncertainty is not None

    @property
    def sampled(self) -> bool:
        """Whether Markov chains draw from the posterior of a mixture."""
        return self.model is Model.bayes and self.engine in (None, Engine.gibbs, Engine.nuts)

    def refuse_unused(self) -> None:
        """Refuse an option that would have no effect."""
        bayes = self.model is Model.bayes
        chains = "--model bayes with --engine gibbs or nuts"
        drawn = "--model bayes, or for --uncertainty"
        points = "--model kmeans and gmm"
        owners: dict[str, tuple[Any, bool, str]] = {
            "--covariance": (
                self.covariance,
                self.model is not Model.kmeans,
                "--model gmm and bayes",
            ),
            "--engine": (self.engine, bayes, "--model bayes"),
            "--prior": (self.prior, bayes, "--model bayes"),
            "--chains": (self.chains, self.sampled, chains),
            "--warmup": (self.warmup, self.sampled, chains),
            "--uncertainty": (
                self.uncertainty,
                not bayes,
                f"{points}: the draws of --model bayes say it already",
            ),
            "--draws": (self.draws, self.drawn, drawn),
            "--level": (self.level, self.drawn, drawn),
            "--init": (self.init, not bayes, points),
            "--starts": (self.starts, not bayes, points),
            "--max-iter": (
                self.max_iter,
                not self.sampled,
                f"{points}, and for --model bayes with --engine svi or cavi",
            ),
        }
        for option, (given, effective, owner) in owners.items():
            if given is not None and not effective:
                fail(f"{option} is for {owner}; it has no effect here, so leave it out")
        if self.model is not Model.kmeans and self.uncertainty is Uncertainty.gibbs:
            fail("--uncertainty gibbs is for kmeans: give --model kmeans, or --model bayes")
        if self.engine is Engine.cavi and self.prior not in (None, Prior.conjugate):
            fail(f"--engine cavi needs --prior conjugate: for {self.prior} use gibbs, nuts or svi")
        if self.level is not None and not 0 < self.level < 1:
            fail(f"--level {self.level:g} must lie between 0 and 1, e.g. --level 0.9")
        for name in self.kinds():
            if name not in STARTS[self.model]:
                fail(
                    f"--init {name}: for --model {self.model} give {', '.join(STARTS[self.model])}"
                )

    def kinds(self) -> list[str]:
        """Kinds of starts that were asked for."""
        return [] if self.init is None else [name.strip() for name in self.init.split(",")]

    def estimator(self) -> Any:
        """The estimator that the options describe, not yet fitted."""
        compile_cache()
        common: dict[str, Any] = {"standardize": self.standardize, "random_state": self.seed}
        return self._posterior(common) if self.model is Model.bayes else self._point(common)

    def _point(self, settings: dict[str, Any]) -> Any:
        from bayesclust.estimators import GaussianMixture, KMeans

        hard = self.model is Model.kmeans
        if self.uncertainty is not None:
            settings["uncertainty"] = self.uncertainty.value
            settings |= _given(num_draws=self.draws)
        settings |= _given(max_iter=self.max_iter)
        kinds = self.kinds()
        if kinds:
            settings["init" if hard else "init_params"] = kinds[0] if len(kinds) == 1 else kinds
        if hard:
            return KMeans(self.k, **settings, **_given(n_init=self.starts))
        settings |= _given(covariance_type=self.covariance and self.covariance.value)
        return GaussianMixture(self.k, n_init=self.starts or 10, **settings)

    def _posterior(self, settings: dict[str, Any]) -> Any:
        from bayesclust import engines
        from bayesclust.estimators import BayesianMixture

        engine = self.engine or Engine.gibbs
        steps = "num_steps" if engine is Engine.svi else "max_iter"
        given = _given(
            num_draws=self.draws,
            num_chains=self.chains,
            num_warmup=self.warmup,
            **{steps: self.max_iter},
        )
        name = "Gibbs" if engine is Engine.gibbs else engine.upper()
        return BayesianMixture(
            self.k,
            family=(self.covariance or Covariance.full).value,
            prior=(self.prior or Prior.conjugate).value,
            engine=getattr(engines, name)(**given),
            **settings,
        )


def _given(**settings: Any) -> dict[str, Any]:
    """Settings that are not None: the library knows the rest."""
    return {name: value for name, value in settings.items() if value is not None}


def compile_cache() -> None:
    """Keep compiled programs between runs; commands start often, libraries do not."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(home) / "bayesclust" / "jax")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
