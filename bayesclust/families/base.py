"""The contract of a family of component distributions."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np

from bayesclust._typing import Array, Key, Params
from bayesclust.core.rows import Rows


class Family(abc.ABC):
    """A family of distributions, one of which every component has.

    Blocks of rows come features first, ``x (d, b)``, and scores components first, ``(k, b)``;
    `log_prob` is the same in the usual ``(n, d) -> (n, k)``. Everything is pure and works under
    jit, vmap and grad. Fields of a subclass are hyperparameters: traced, so that a new value
    never recompiles.

    Attributes
    ----------
    dims : dict
        Names of the axes of every parameter; `"cluster"` marks the one that labels permute.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]]

    @abc.abstractmethod
    def scaled_to(self, spread: Array) -> Self:
        """The family with its scale-bound hyperparameters set for data of this spread.

        Parameters
        ----------
        spread : (d,) array
            Column standard deviations of the data; 1 where a column is constant.
        """

    @abc.abstractmethod
    def located(self, centers: Array) -> Params:
        """A component at each centre ``(k, d)``, as wide as all data: where sweeps begin."""

    @abc.abstractmethod
    def prepare(self, params: Params) -> Any:
        """What `score` and `stats` need, computed once per sweep."""

    @abc.abstractmethod
    def score(self, prepared: Any, x: Array) -> Array:
        """Log density of each row under each component: ``(d, b) -> (k, b)``."""

    @abc.abstractmethod
    def stats(self, prepared: Any, x: Array, resp: Array) -> Any:
        """Sufficient statistics of a block given weighted responsibilities ``(k, b)``; additive."""

    def constants(self, rows: Rows) -> Any:
        """Sums over all rows that no iteration changes, for `maximise`."""
        return ()

    @abc.abstractmethod
    def maximise(self, params: Params, stats: Any, constants: Any) -> Params:
        """Parameters of greatest posterior density given the statistics taken at `params`."""

    @abc.abstractmethod
    def floored(self, params: Params) -> Array:
        """Components ``(k,)`` held up by the floor on their spread: degenerate without it."""

    @abc.abstractmethod
    def log_prior(self, params: Params, state: dict[str, Array] | None = None) -> Array:
        """Log prior density of each component's parameters, ``(k,)``; zero if flat.

        Parameters
        ----------
        params : dict
        state : dict, optional
            Hyperparameters that a sampler drew; default: their prior means, as given.
        """

    @abc.abstractmethod
    def sample_sites(self, k: int) -> Params:
        """Parameters of `k` components by NumPyro sample statements, in a plate `cluster`.

        Every parameter is a site of its own name, sampled or deterministic.
        """

    @abc.abstractmethod
    def as_sites(self, params: Params) -> dict[str, Array]:
        """Values of the sample sites at these parameters, hyperparameters apart."""

    @abc.abstractmethod
    def from_sites(self, sites: dict[str, Array]) -> Params:
        """Parameters from the values of the sample sites."""

    @abc.abstractmethod
    def sample(self, key: Key, params: Params, z: Array) -> Array:
        """Rows ``(n, d)`` from components ``z (n,)``."""

    @abc.abstractmethod
    def tail_probability(self, prepared: Any, x: Array) -> Array:
        """Probability that a member of each component lies at least as far out, ``(k, b)``."""

    @abc.abstractmethod
    def in_units(self, params: Params, shift: Array, scale: Array) -> Params:
        """Parameters of ``x * scale + shift`` if these are the parameters of ``x``.

        They may lie behind axes of draws.
        """

    @abc.abstractmethod
    def n_parameters(self, k: int, d: int) -> int:
        """Free parameters of `k` components in `d` dimensions, weights apart."""

    @abc.abstractmethod
    def cancellation(self, params: Params) -> Array:
        """How many times the rounding error of a row grows in `score` and `stats`, scalar."""

    def wrong(self, params: Params) -> str:
        """Say which parameters no component can have, for values that come from a file.

        Parameters
        ----------
        params : dict of ndarrays
            Maybe behind axes of draws.

        Returns
        -------
        str
            The parameter's name and what it must be; empty if nothing is wrong.
        """
        for name, value in params.items():
            if not np.isfinite(value).all():
                return f"{name} holds NaN or infinity"
        return ""

    def log_prob(self, params: Params, X: Array) -> Array:
        """Log density of each row under each component.

        Parameters
        ----------
        params : dict
        X : (n, d) array

        Returns
        -------
        (n, k) array
        """
        return self.score(self.prepare(params), jnp.asarray(X).T).T


class ConditionalFamily(Family):
    """A family whose parameters can be drawn given allocated rows: what Gibbs sampling needs.

    Attributes
    ----------
    prior : pytree or None
        None: flat, for maximum likelihood; engines that need a proper prior take the default of
        `informed`.
    """

    prior: Any

    @abc.abstractmethod
    def informed(self, k: int) -> Self:
        """The family with a weak prior scaled to the data, as far as none was given."""

    @abc.abstractmethod
    def in_prior_units(self, shift: Any, scale: Any) -> Self:
        """The family with the prior of ``x * scale + shift`` if this is the prior of ``x``."""

    @abc.abstractmethod
    def begin(self) -> dict[str, Array]:
        """Where the hyperparameters that are drawn begin; empty if all are given."""

    @abc.abstractmethod
    def redraw(
        self, key: Key, params: Params, stats: Any, constants: Any, state: dict[str, Array]
    ) -> tuple[Params, dict[str, Array]]:
        """One Gibbs update of parameters and hyperparameters given statistics at `params`."""

    @abc.abstractmethod
    def from_prior(self, key: Key, k: int) -> tuple[Params, dict[str, Array]]:
        """Parameters of `k` components, and hyperparameters, from the prior."""


class ConjugateFamily(ConditionalFamily):
    """A family that, under a conjugate prior, knows its posterior given allocated rows.

    A posterior is a pytree `hyper`, of the prior's class.
    """

    @abc.abstractmethod
    def posterior(self, params: Params, stats: Any, constants: Any) -> Any:
        """Posterior hyperparameters given statistics taken at `params`."""

    @abc.abstractmethod
    def draw(self, key: Key, hyper: Any) -> Params:
        """Parameters of all components from posterior hyperparameters."""

    @abc.abstractmethod
    def expected(self, hyper: Any) -> tuple[Params, Array]:
        """Parameters and offsets ``(k,)``: the expected log density is `score` there plus these."""

    @abc.abstractmethod
    def kl(self, hyper: Any) -> Array:
        """Kullback-Leibler divergence of the posterior of all components from the prior."""

    @abc.abstractmethod
    def blend(self, hyper: Any, other: Any, rate: Array) -> Any:
        """Posterior whose natural parameters lie the share `rate` of the way to `other`."""
