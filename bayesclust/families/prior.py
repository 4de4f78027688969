"""The contract of a prior on Gaussian means and spreads.

A *spread* is what the family calls it: covariances ``(k, d, d)``, one covariance ``(d, d)``,
variances ``(k, d)``, or one variance per sphere ``(k,)``. A hyperparameter left at None is set for
the data at hand by `informed`.
"""

from __future__ import annotations

import abc
import functools
from typing import Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp

from bayesclust._typing import Array, Key

Kind = Literal["full", "tied", "diag", "sphere"]
"""Of a spread: by component, shared, by column, or one number each."""

State = dict[str, Array]
"""Hyperparameters that a sampler draws, by name."""


class Summary(NamedTuple):
    """What Gaussian components have seen.

    Attributes
    ----------
    count : (k,) array
        Weight of their rows.
    mean : (k, d) array
    scatter : (k, d, d), (d, d), (k, d) or (k,) array
        Sum of (outer) squares about the mean: full, pooled, by column, or over all columns.
    """

    count: Array
    mean: Array
    scatter: Array


def nothing(k: int, mean: Array, kind: Kind) -> Summary:
    """A summary of no rows, with a scatter of this kind."""
    d = mean.shape[-1]
    shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "sphere": (k,)}[kind]
    zeros = functools.partial(jnp.zeros, dtype=mean.dtype)
    return Summary(zeros(k), jnp.broadcast_to(mean, (k, d)), zeros(shape))


class Prior(abc.ABC):
    """A proper prior of `k` means and their spreads."""

    @abc.abstractmethod
    def informed(self, spread: Array, k: int, kind: Kind) -> Self:
        """The prior with what was left open set for centred data.

        Parameters
        ----------
        spread : (d,) array
            Column standard deviations of the data.
        k : int
        kind : {"full", "tied", "diag", "sphere"}
        """

    @abc.abstractmethod
    def in_units(self, shift: Any, scale: Any) -> Self:
        """The prior of ``x * scale + shift`` if this is the prior of ``x``."""

    @abc.abstractmethod
    def begin(self) -> State:
        """Where the hyperparameters that are drawn begin; empty if all are given."""

    @abc.abstractmethod
    def update(
        self, key: Key, seen: Summary, mean: Array, spread: Array, state: State
    ) -> tuple[Array, Array, State]:
        """One Gibbs update of means, spreads and hyperparameters given allocated rows."""

    @abc.abstractmethod
    def maximise(self, seen: Summary, mean: Array, spread: Array) -> tuple[Array, Array]:
        """Means and spreads of no lower, if possible greatest, posterior density."""

    @abc.abstractmethod
    def log_prob(self, mean: Array, spread: Array, state: State) -> Array:
        """Log density by component ``(k,)``; what components share is split evenly."""

    @abc.abstractmethod
    def from_prior(self, key: Key, k: int, kind: Kind) -> tuple[Array, Array, State]:
        """Means, spreads and hyperparameters from the prior."""

    @abc.abstractmethod
    def sample_sites(self, k: int, kind: Kind) -> tuple[Array, Array]:
        """The same prior as NumPyro sample statements; returns means and spreads."""


class ConjugatePrior(Prior):
    """A prior whose posterior given allocated rows is of the same class.

    The posterior has a leading axis of components on its hyperparameters.
    """

    @abc.abstractmethod
    def posterior(self, seen: Summary) -> Self:
        """The posterior given rows; of nothing it is the prior."""

    @abc.abstractmethod
    def draw(self, key: Key) -> tuple[Array, Array]:
        """Means and spreads of a posterior."""

    @abc.abstractmethod
    def mode(self) -> tuple[Array, Array]:
        """Means and spreads of greatest density of a posterior."""

    @abc.abstractmethod
    def expected(self) -> tuple[Array, Array, Array]:
        """What the expected log density of a row is made of, for a posterior.

        Returns
        -------
        mean : (k, d) array
        spread : array
        offset : (k,) array
            The expected log density is the one at `mean` and `spread` plus this.
        """

    @abc.abstractmethod
    def kl(self, prior: Self) -> Array:
        """Kullback-Leibler divergence of a posterior of all components from `prior`, scalar."""

    @abc.abstractmethod
    def blend(self, other: Self, rate: Array) -> Self:
        """Posterior whose natural parameters lie the share `rate` of the way to `other`."""


def mapped(change: Any, value: Any) -> Any:
    """``change(value)``; what was left open stays open."""
    return None if value is None else change(value)


def expected_chi_log(df: Array, d: int) -> Array:
    """``E log |W|`` of a standard Wishart matrix (Bishop 2006, eq. B.81)."""
    i = jnp.arange(d, dtype=df.dtype)
    return jnp.sum(jax.scipy.special.digamma(0.5 * (df[..., None] - i)), -1) + d * jnp.log(2.0)
