"""Membership of rows, seen or new: a second pass p(z | x, theta) over aligned draws.

The same code serves one draw (a point fit), bootstrap replicates and posterior draws. Three
numbers have three names: the *probability* is the average over draws of p(z = k | x, theta); the
*vote share* is the share of draws in which the cluster wins, no probability of membership; the
*plug-in* is p at one parameter value.

References
----------
S. Depeweg et al. (2018), Decomposition of uncertainty in Bayesian deep learning, ICML, eq. 2-3: the
    entropy of the mean is the mean entropy (overlap) plus the mutual information (ignorance).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._typing import Array
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.assign import drawn, winner
from bayesclust.core.chunks import by_tiles, chunk_size, map_rows, refuse_overflow
from bayesclust.core.quantile import quantiles
from bayesclust.core.rows import bucket
from bayesclust.core.simplex import entropy, log_sum_exp, softmax
from bayesclust.core.units import Units
from bayesclust.mixture import Mixture

REFERENCE_ROWS = 4096
"""Training rows whose log densities are kept for ranks; all of them up to this many."""

OUTLIER = 1e-3
"""A row of a smaller tail probability under every cluster is unlike any of them.

Of the rows that clusters of these shapes really have, at most this share is called so.
"""


class Model(NamedTuple):
    """A mixture with draws of its parameters, in the units of its fit.

    Attributes
    ----------
    mixture : Mixture
    params : dict of (s, ..) arrays
    log_weights : (s, k) array
    units : Units
        From the user's units to the fit's.
    dtype : dtype
        Of all arithmetic on rows.
    """

    mixture: Mixture
    params: Any
    log_weights: Any
    units: Units
    dtype: Any

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return len(self.log_weights)

    @property
    def log_scale(self) -> float:
        """How much lower log densities are in the user's units."""
        return self.units.log_scale

    @classmethod
    def of(cls, mixture: Mixture, params: Any, log_weights: Any, units: Units, dtype: Any) -> Model:
        """From parameters in scaled units, in double precision, behind one axis of draws."""
        shift, scale = units.shift, units.scale
        convert = functools.partial(
            mixture.family.in_units, shift=-shift / scale, scale=1.0 / scale
        )
        each = [
            convert({n: np.asarray(v[i]) for n, v in params.items()})
            for i in range(len(log_weights))
        ]
        inner = {n: np.stack([e[n] for e in each]).astype(dtype) for n in params}
        return cls(mixture, inner, np.asarray(log_weights).astype(dtype), units, dtype)

    def rows(
        self,
        call: Callable[..., Any],
        X: np.ndarray,
        *beside: np.ndarray,
        numbers_per_row: int,
    ) -> Any:
        """``call(mixture, params, log_weights, x (b, d), *beside)`` over all rows in chunks.

        A call holds `numbers_per_row` for each.
        """
        chunk = chunk_size(numbers_per_row)
        with arithmetic(self.dtype == np.float64):
            bound = functools.partial(call, self.mixture, self.params, self.log_weights)
            return map_rows(bound, X, self.units, chunk, *beside, dtype=self.dtype)

    def answers(
        self,
        program: Callable[..., Any],
        X: np.ndarray,
        *beside: np.ndarray,
        more: tuple[Any, ...] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """What a `_program` answers of all rows, given `more` and what is `beside` each row.

        Raises
        ------
        Overflow
            If the density of a row is no finite number under some draw.
        """
        with arithmetic(self.dtype == np.float64):
            bound = functools.partial(program, self.mixture, self.params, self.log_weights, more)
            found, finite = map_rows(
                bound, X, self.units, self.chunk(X), *beside, dtype=self.dtype, progress=progress
            )
        refuse_overflow(finite, X, self.units, self.dtype)
        return found

    def chunk(self, X: np.ndarray) -> int:
        """Rows per call of a program."""
        return chunk_size(_width(*self.log_weights.shape, X.shape[1]))


class Scored(NamedTuple):
    """A tile of rows ``x (b, d)`` and their log joint densities ``(s, k, b)`` under all draws."""

    mixture: Mixture
    params: Any
    log_weights: Array
    x: Array
    joint: Array


Answer = Callable[..., Any]
"""``(scored, *more, *beside) -> pytree of (b, ..)``."""


def _joint(mixture: Mixture, params: Any, log_weights: Array, x: Array) -> Array:
    """Log joint densities ``(s, k, b)`` of rows ``(b, d)`` under all draws."""

    def one(params: Any, log_weights: Array) -> Array:
        family = mixture.family
        return family.score(family.prepare(params), x.T) + log_weights[:, None]

    # Computed once for all that is read off them, see `core.simplex.softmax`.
    return lax.optimization_barrier(jax.vmap(one)(params, log_weights))


def _finite(joint: Array) -> Array:
    """Which rows have a finite density under every draw, ``(b,)``."""
    return jnp.all(jnp.isfinite(jnp.max(joint, axis=1)), axis=0)


def _program(answer: Answer) -> Callable[..., Any]:
    """Compile an answer, worked through in tiles, beside which rows' densities are finite."""

    @jax.jit
    @functools.wraps(answer)
    def program(
        mixture: Mixture, params: Any, log_weights: Array, more: Any, x: Array, *beside: Array
    ) -> Any:
        def tile(x: Array, *beside: Array) -> Any:
            joint = _joint(mixture, params, log_weights, x)
            scored = Scored(mixture, params, log_weights, x, joint)
            return answer(scored, *more, *beside), _finite(joint)

        return by_tiles(tile, x, _width(*log_weights.shape, x.shape[1]), *beside)

    return program


def _mean(joint: Array) -> tuple[Array, Array]:
    """Memberships of every draw ``(s, k, b)`` and their average ``(k, b)``."""
    p = softmax(joint, axis=1)
    return p, lax.optimization_barrier(jnp.mean(p, axis=0))


def _mean_density(joint: Array) -> Array:
    """Log of the density averaged over draws, ``(b,)``."""
    return log_sum_exp(log_sum_exp(joint, axis=1), axis=0) - jnp.log(joint.shape[0])


@_program
def _probability(scored: Scored) -> Array:
    return _mean(scored.joint)[1].T


@_program
def _label(scored: Scored) -> Array:
    return winner(_mean(scored.joint)[1])[0]


@_program
def _log_density(scored: Scored) -> Array:
    return _mean_density(scored.joint)


@_program
def _log_densities(scored: Scored) -> Array:
    return log_sum_exp(scored.joint, axis=1).T


@_program
def _full(scored: Scored, level: Array, label: Array | None = None) -> dict[str, Array]:
    mixture, params, log_weights, x, joint = scored
    p, probability = _mean(joint)
    if label is None:
        label = winner(probability)[0]

    def tail(params: Any) -> Array:
        family = mixture.family
        return family.tail_probability(family.prepare(params), x.T)

    tails = jnp.mean(jax.vmap(tail)(params), axis=0)
    active = jnp.any(log_weights > -jnp.inf, axis=0)[:, None]
    whole = entropy(probability, axis=0)
    out = {
        "probability": probability.T,
        "tail_probability": tails.T,
        "outlier": jnp.max(jnp.where(active, tails, 0), axis=0) < OUTLIER,
        "cluster": label,
        "entropy": whole,
        "log_density": _mean_density(joint),
    }
    if p.shape[0] > 1:
        low, high = quantiles(p, jnp.stack([0.5 - level / 2, 0.5 + level / 2]))
        # The entropy of an average is at least the average entropy, up to rounding.
        overlap = jnp.minimum(jnp.mean(entropy(p, axis=1), axis=0), whole)
        votes = jax.vmap(lambda q: winner(q)[0])(p) == label
        out |= {
            # A few draws far from the rest can take their average out of the middle part.
            "lower": jnp.minimum(low, probability).T,
            "upper": jnp.maximum(high, probability).T,
            "entropy_overlap": overlap,
            "entropy_ignorance": whole - overlap,
            "vote_share": jnp.mean(votes.astype(x.dtype), axis=0),
        }
    return out


def probabilities(model: Model, X: np.ndarray) -> np.ndarray:
    """Membership probabilities ``(n, k)``, averaged over draws."""
    return model.answers(_probability, X)


def labels(model: Model, X: np.ndarray) -> np.ndarray:
    """Most probable component of each row, ``(n,)`` int32; the first one where several are."""
    return model.answers(_label, X)


def log_density(model: Model, X: np.ndarray) -> np.ndarray:
    """Log of the density averaged over draws, ``(n,)``, in the user's units."""
    # In double precision, so that a shift changes no order.
    return model.answers(_log_density, X).astype(np.float64) - model.log_scale


def reference(model: Model, X: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    """Sorted log densities of (some of) the training rows, to `rank` others among."""
    if sample_weight is not None:
        X = X[np.asarray(sample_weight) > 0]
    step = -(-len(X) // REFERENCE_ROWS)
    return np.sort(log_density(model, X[::step]).astype(np.float64))


def rank(reference: np.ndarray, log_density: np.ndarray) -> np.ndarray:
    """Share of the reference that is no denser than each row, ``(n,)``; NaN without one."""
    if not len(reference):
        return np.full(len(log_density), np.nan)
    place = np.searchsorted(reference, log_density.astype(np.float64), side="right")
    return place / len(reference)


def log_likelihood(model: Model, X: np.ndarray) -> np.ndarray:
    """Log density of each row under each draw, ``(s, n)``, components summed out."""
    return model.answers(_log_densities, X).T - model.log_scale


def membership(
    model: Model,
    X: np.ndarray,
    level: float,
    label: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """All that draws say of each row.

    Parameters
    ----------
    model : Model
    X : (n, d) ndarray
        In the user's units.
    level : float
        Mass of the interval.
    label : (n,) int32 ndarray, optional
        Cluster of each row; default: the most probable one, as `labels` has it.
    progress : callable, optional

    Returns
    -------
    dict
        ``(n, k)``: probability, tail_probability, and with several draws lower, upper; ``(n,)``:
        cluster, outlier, entropy, log_density, and with several draws entropy_overlap,
        entropy_ignorance, vote_share. Without several draws the latter are NaN: nothing was
        drawn that could say.
    """
    beside = () if label is None else (label,)
    level = np.asarray(level, model.dtype)
    out = model.answers(_full, X, *beside, more=(level,), progress=progress)
    out["log_density"] = out["log_density"].astype(np.float64) - model.log_scale
    if model.n_draws == 1:
        unknown = np.full(len(X), np.nan, model.dtype)
        wide = np.full(out["probability"].shape, np.nan, model.dtype)
        out |= {"lower": wide, "upper": wide.copy()}
        out |= {
            name: unknown.copy() for name in ("entropy_overlap", "entropy_ignorance", "vote_share")
        }
    return out


@jax.jit
def _drawn(
    mixture: Mixture, params: Any, log_weights: Array, x: Array, key: Array
) -> tuple[Array, Array]:
    joint = _joint(mixture, params, log_weights, x)
    keys = jax.random.split(key, joint.shape[0])

    def one(scores: Array, key: Array) -> Array:
        resp, _ = drawn(key)(scores, jnp.int32(0))
        return winner(resp)[0]

    kind = jnp.int8 if joint.shape[1] <= 127 else jnp.int16
    return jax.vmap(one)(joint, keys).astype(kind), _finite(joint)


def label_draws(model: Model, X: np.ndarray, key: Array) -> np.ndarray:
    """A label of each row under each draw ``(s, n)`` int8 or int16, drawn from p(z | x, theta)."""
    n, size = len(X), model.chunk(X)
    found, finite = [], []
    with arithmetic(model.dtype == np.float64):
        for first in range(0, n, size):
            with np.errstate(over="ignore", invalid="ignore"):
                rows = model.units.inward(X[first : first + size].astype(model.dtype, copy=False))
            used = len(rows)
            rows = np.pad(rows, ((0, (size if n > size else bucket(n, 16)) - used), (0, 0)))
            args = (model.params, model.log_weights, rows, jax.random.fold_in(key, first))
            labels, known = jax.device_get(_drawn(model.mixture, *args))
            found.append(labels[:, :used])
            finite.append(known[:used])
    refuse_overflow(np.concatenate(finite), X, model.units, model.dtype)
    return np.concatenate(found, axis=1)


def _width(s: int, k: int, d: int) -> int:
    """Numbers held per row for `s` draws of `k` components."""
    return d + s * k * (d + 4)
