"""What the Gaussian families share: priors, the floor on spreads, tails."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, Self, override

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._typing import Array, Key, Params
from bayesclust.core.linalg import cholesky, inverse_lower, matmul
from bayesclust.families.base import ConjugateFamily
from bayesclust.families.prior import ConjugatePrior, Kind, Prior, State, Summary

LOG_2PI = math.log(2 * math.pi)


class GaussianFamily(ConjugateFamily):
    """A Gaussian family: means ``(k, d)`` and a spread, with an optional prior on both.

    Attributes
    ----------
    ridge : scalar
        Floor on the spread: this multiple of the data's column variances is added to every
        variance where there is no prior.
    spread : (d,) array or scalar
        Column standard deviations the ridge is relative to, see `scaled_to`.
    prior : Prior or None
    kind : str
        Of the spread.
    usual : type
        The prior that is taken where a proper one is needed and none is given.
    """

    ridge: Any
    spread: Any
    prior: Any
    kind: ClassVar[Kind]
    usual: ClassVar[type[Prior]]

    @abc.abstractmethod
    def summary(self, params: Params, stats: Any, constants: Any) -> Summary:
        """Counts, means and scatters of the rows, from statistics taken at `params`."""

    @abc.abstractmethod
    def likeliest(self, params: Params, seen: Summary) -> Params:
        """Parameters of greatest likelihood, the floor added; old ones where there is no mass."""

    @property
    def _name(self) -> str:
        """What the spread is called."""
        return next(name for name in self.dims if name != "mean")

    def _with(self, prior: Any) -> Self:
        family: Any = self  # each family is a dataclass; this base is none
        return dataclasses.replace(family, prior=prior)

    @property
    def _proper(self) -> Any:
        """The prior, which must leave nothing open."""
        leaves = jax.tree.leaves(self.prior, is_leaf=lambda v: v is None)
        if any(leaf is None for leaf in leaves):
            name = type(self).__name__
            raise ValueError(
                f"prior of {name} is not set: give {name} a prior with all its fields, or call "
                "family.scaled_to(sd).informed(k) with the data's column standard deviations"
            )
        return self.prior

    def _floor(self, mean: Array) -> Array:
        return self.ridge * jnp.square(jnp.broadcast_to(self.spread, mean.shape[-1:]))

    @override
    def scaled_to(self, spread: Array) -> Self:
        family: Any = self
        return dataclasses.replace(family, spread=spread)

    @override
    def informed(self, k: int) -> Self:
        if jnp.ndim(self.spread) == 0:
            raise ValueError(
                f"{type(self).__name__} does not know the columns' standard deviations: call "
                "scaled_to(sd) with an array (d,) before informed(k)"
            )
        prior = self.usual() if self.prior is None else self.prior
        return self._with(prior.informed(jnp.asarray(self.spread), k, self.kind))

    @override
    def in_prior_units(self, shift: Any, scale: Any) -> Self:
        return self if self.prior is None else self._with(self.prior.in_units(shift, scale))

    @override
    def maximise(self, params: Params, stats: Any, constants: Any) -> Params:
        seen = self.summary(params, stats, constants)
        if self.prior is None:
            return self.likeliest(params, seen)
        mean, spread = self.prior.maximise(seen, params["mean"], params[self._name])
        return {"mean": mean, self._name: spread}

    @override
    def log_prior(self, params: Params, state: State | None = None) -> Array:
        if self.prior is None:
            return jnp.zeros(params["mean"].shape[0], params["mean"].dtype)
        return self.prior.log_prob(params["mean"], params[self._name], state or {})

    @override
    def wrong(self, params: Params) -> str:
        name, spread = self._name, np.asarray(params[self._name])
        matrices = name == "cov"
        variance = np.diagonal(spread, axis1=-2, axis2=-1) if matrices else spread
        if not (variance > 0).all():
            return f"{name} must be {'positive definite' if matrices else 'positive'}"
        if matrices and not positive_definite(spread.astype(np.float64)):
            return f"{name} must be symmetric and positive definite"
        return super().wrong(params)

    @override
    def begin(self) -> State:
        return self._proper.begin()

    @override
    def redraw(
        self, key: Key, params: Params, stats: Any, constants: Any, state: State
    ) -> tuple[Params, State]:
        seen = self.summary(params, stats, constants)
        mean, spread, state = self._proper.update(
            key, seen, params["mean"], params[self._name], state
        )
        return {"mean": mean, self._name: spread}, state

    @override
    def from_prior(self, key: Key, k: int) -> tuple[Params, State]:
        mean, spread, state = self._proper.from_prior(key, k, self.kind)
        return {"mean": mean, self._name: spread}, state

    @override
    def sample_sites(self, k: int) -> Params:
        mean, spread = self._proper.sample_sites(k, self.kind)
        return {"mean": mean, self._name: spread}

    @override
    def as_sites(self, params: Params) -> dict[str, Array]:
        if self._name != "cov":
            return params
        root = inverse_lower(cholesky(params["cov"]))
        precision = matmul(root.mT, root)
        if precision.shape[-1] == 1:
            return {"mean": params["mean"], "precision": precision[..., 0, 0]}
        return {"mean": params["mean"], "precision_cholesky": cholesky(precision)}

    @override
    def from_sites(self, sites: dict[str, Array]) -> Params:
        if self._name != "cov":
            return {name: sites[name] for name in self.dims}
        if "precision" in sites:
            return {"mean": sites["mean"], "cov": 1.0 / sites["precision"][..., None, None]}
        root = inverse_lower(sites["precision_cholesky"])
        return {"mean": sites["mean"], "cov": matmul(root.mT, root)}

    @override
    def posterior(self, params: Params, stats: Any, constants: Any) -> ConjugatePrior:
        return self._proper.posterior(self.summary(params, stats, constants))

    @override
    def draw(self, key: Key, hyper: ConjugatePrior) -> Params:
        mean, spread = hyper.draw(key)
        return {"mean": mean, self._name: spread}

    @override
    def expected(self, hyper: ConjugatePrior) -> tuple[Params, Array]:
        mean, spread, offset = hyper.expected()
        return {"mean": mean, self._name: spread}, offset

    @override
    def kl(self, hyper: ConjugatePrior) -> Array:
        return hyper.kl(self._proper)

    @override
    def blend(self, hyper: ConjugatePrior, other: ConjugatePrior, rate: Array) -> ConjugatePrior:
        return hyper.blend(other, rate)


def positive_definite(matrices: np.ndarray) -> bool:
    """Whether all of these ``(.., d, d)`` are, of positive diagonal and symmetric but for rounding.

    Looked at as correlations, so that columns of any magnitude may stand side by side.
    """
    sd = np.sqrt(np.diagonal(matrices, axis1=-2, axis2=-1))
    with np.errstate(over="ignore", invalid="ignore"):
        correlation = matrices / sd[..., :, None] / sd[..., None, :]
    asymmetry = np.abs(correlation - np.swapaxes(correlation, -1, -2))
    if not (asymmetry <= ASYMMETRY).all():  # NaN is not
        return False
    try:
        np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        return False
    return True


ASYMMETRY = 1e-3
"""What products of float32 matrices may leave, as a correlation."""


def chi2_tail(score: Array, peak: Array, d: int) -> Array:
    """P(chi2_d >= squared Mahalanobis distance), the latter read off a Gaussian log density.

    Parameters
    ----------
    score : (k, b) array
        Log densities.
    peak : (k,) array
        Log densities at the means.
    d : int
    """
    # A square beyond the range of the numbers has no tail either; 0 times infinity has none.
    half = jnp.clip(peak[:, None] - score, 0, jnp.finfo(score.dtype).max)
    if d > UNROLLED:
        return jax.scipy.special.gammaincc(jnp.asarray(d / 2, half.dtype), half)
    # For whole d a finite sum, upwards from P(chi2_1) or P(chi2_2) (Abramowitz and Stegun 26.4).
    odd = d % 2 == 1
    root = jnp.sqrt(half)
    tail = jax.scipy.special.erfc(root) if odd else jnp.exp(-half)
    term = jnp.exp(-half) * (2 / math.sqrt(math.pi) * root if odd else half)
    for m in range(3 if odd else 4, d + 1, 2):
        tail = tail + term
        term = term * (half / (0.5 * m))
    return tail


UNROLLED = 32
"""Up to so many columns the tail of a chi-squared variable is written out."""


def safe_counts(counts: Array) -> tuple[Array, Array]:
    """Counts to divide by, and which components have any mass at all."""
    alive = counts > 10 * jnp.finfo(counts.dtype).tiny
    return jnp.where(alive, counts, 1), alive


def keep(alive: Array, new: Array, old: Array) -> Array:
    """New parameters where a component has mass, else the old ones."""
    return jnp.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def mostly_floor(whiten: Array, floor: Array) -> Array:
    """Whether the variance in some direction is mostly floor, by covariance.

    Parameters
    ----------
    whiten : (.., d, d) array
        Inverse Cholesky factors of covariances, the floor included.
    floor : (d,) array

    Notes
    -----
    In units of the floor all eigenvalues are at least one. The sum of their reciprocals is the
    trace of ``floor cov^{-1}``, which is at least 1/2 if an eigenvalue is at most two.
    """
    return jnp.sum(jnp.square(whiten) * floor, axis=(-2, -1)) >= 0.5
