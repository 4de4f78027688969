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

from bayesclust._typing import Array
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.assign import drawn, winner
from bayesclust.core.chunks import by_tiles, chunk_size, map_rows
from bayesclust.core.quantile import quantiles
from bayesclust.core.rows import bucket
from bayesclust.core.simplex import entropy, log_normalize
from bayesclust.core.units import Units
from bayesclust.mixture import Mixture

REFERENCE_ROWS = 4096
"""Training rows whose log densities are kept for ranks; all of them up to this many."""


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

    def thinned(self, most: int) -> Model:
        """At most so many draws, evenly spread."""
        step = -(-self.n_draws // max(most, 1))
        params = {n: v[::step] for n, v in self.params.items()}
        return self._replace(params=params, log_weights=self.log_weights[::step])

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
        *more: Any,
        numbers_per_row: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """``call(mixture, params, log_weights, x (b, d), *more)`` over all rows in chunks.

        A call holds `numbers_per_row` for each; by default what scores under all draws take.
        """
        chunk = chunk_size(numbers_per_row) if numbers_per_row else self.chunk(X)
        with arithmetic(self.dtype == np.float64):

            def bound(x: Any) -> Any:
                return call(self.mixture, self.params, self.log_weights, x, *more)

            X = X.astype(self.dtype, copy=False)
            return map_rows(bound, X, self.units, chunk, progress=progress)

    def chunk(self, X: np.ndarray) -> int:
        """Rows per call of a program."""
        return chunk_size(_width(*self.log_weights.shape, X.shape[1]))


def _joint(mixture: Mixture, params: Any, log_weights: Array, x: Array) -> Array:
    """Log joint densities ``(s, k, b)`` of a chunk ``(b, d)`` under all draws."""

    def one(params: Any, log_weights: Array) -> Array:
        family = mixture.family
        return family.score(family.prepare(params), x.T) + log_weights[:, None]

    return jax.vmap(one)(params, log_weights)


def _mean(joint: Array) -> Array:
    """Average membership probability over draws: ``(s, k, b) -> (k, b)``."""
    return jnp.mean(jnp.exp(log_normalize(joint, axis=1)), axis=0)


Answer = Callable[..., Any]
"""``(mixture, params, log_weights, x (b, d), *more) -> pytree of (b, ..)``."""


def _program(answer: Answer) -> Answer:
    """Compile an answer, worked through in tiles."""

    @jax.jit
    @functools.wraps(answer)
    def program(mixture: Mixture, params: Any, log_weights: Array, x: Array, *more: Array) -> Any:
        def tile(rows: Array) -> Any:
            return answer(mixture, params, log_weights, rows, *more)

        return by_tiles(tile, x, _width(*log_weights.shape, x.shape[1]))

    return program


@_program
def _probability(mixture: Mixture, params: Any, log_weights: Array, x: Array) -> Array:
    return _mean(_joint(mixture, params, log_weights, x)).T


@_program
def _label(mixture: Mixture, params: Any, log_weights: Array, x: Array) -> Array:
    joint = _joint(mixture, params, log_weights, x)
    return winner(joint[0] if joint.shape[0] == 1 else _mean(joint))[0]


@_program
def _log_density(mixture: Mixture, params: Any, log_weights: Array, x: Array) -> Array:
    density = jax.scipy.special.logsumexp(_joint(mixture, params, log_weights, x), axis=1)
    return jax.scipy.special.logsumexp(density, axis=0) - jnp.log(density.shape[0])


@_program
def _log_densities(mixture: Mixture, params: Any, log_weights: Array, x: Array) -> Array:
    joint = _joint(mixture, params, log_weights, x)
    return jax.scipy.special.logsumexp(joint, axis=1).T


@_program
def _full(
    mixture: Mixture, params: Any, log_weights: Array, x: Array, level: Array
) -> dict[str, Array]:
    joint = _joint(mixture, params, log_weights, x)
    p = jnp.exp(log_normalize(joint, axis=1))
    probability = jnp.mean(p, axis=0)
    label = winner(probability)[0]
    density = jax.scipy.special.logsumexp(joint, axis=1)

    def tail(params: Any) -> Array:
        family = mixture.family
        return family.tail_probability(family.prepare(params), x.T)

    out = {
        "probability": probability.T,
        "tail_probability": jnp.mean(jax.vmap(tail)(params), axis=0).T,
        "cluster": label,
        "entropy": entropy(probability, axis=0),
        "log_density": jax.scipy.special.logsumexp(density, axis=0) - jnp.log(p.shape[0]),
    }
    if p.shape[0] > 1:
        bounds = quantiles(p, jnp.stack([0.5 - level / 2, 0.5 + level / 2]))
        overlap = jnp.mean(entropy(p, axis=1), axis=0)
        votes = jax.vmap(lambda q: winner(q)[0])(p) == label
        out |= {
            "lower": bounds[0].T,
            "upper": bounds[1].T,
            "entropy_overlap": overlap,
            "entropy_ignorance": jnp.maximum(out["entropy"] - overlap, 0),
            "vote_share": jnp.mean(votes.astype(x.dtype), axis=0),
        }
    return out


def probabilities(model: Model, X: np.ndarray) -> np.ndarray:
    """Membership probabilities ``(n, k)``, averaged over draws."""
    return model.rows(_probability, X)


def labels(model: Model, X: np.ndarray) -> np.ndarray:
    """Most probable component of each row, ``(n,)`` int32."""
    return model.rows(_label, X)


def log_density(model: Model, X: np.ndarray) -> np.ndarray:
    """Log of the density averaged over draws, ``(n,)``, in the user's units."""
    # In double precision, so that a shift changes no order.
    return model.rows(_log_density, X).astype(np.float64) - model.log_scale


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
    return model.rows(_log_densities, X).T - model.log_scale


def membership(
    model: Model,
    X: np.ndarray,
    level: float,
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
    progress : callable, optional

    Returns
    -------
    dict
        ``(n, k)``: probability, tail_probability, and with several draws lower, upper; ``(n,)``:
        cluster, entropy, log_density, and with several draws entropy_overlap,
        entropy_ignorance, vote_share. Without several draws the latter are NaN: nothing was
        drawn that could say.
    """
    out = model.rows(_full, X, np.asarray(level, model.dtype), progress=progress)
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
def _drawn(mixture: Mixture, params: Any, log_weights: Array, x: Array, key: Array) -> Array:
    joint = _joint(mixture, params, log_weights, x)
    keys = jax.random.split(key, joint.shape[0])

    def one(scores: Array, key: Array) -> Array:
        resp, _ = drawn(key)(scores, jnp.int32(0))
        return winner(resp)[0]

    kind = jnp.int8 if joint.shape[1] <= 127 else jnp.int16
    return jax.vmap(one)(joint, keys).astype(kind)


def label_draws(model: Model, X: np.ndarray, key: Array) -> np.ndarray:
    """A label of each row under each draw ``(s, n)`` int8 or int16, drawn from p(z | x, theta)."""
    n, size = len(X), model.chunk(X)
    with arithmetic(model.dtype == np.float64):
        parts = []
        for first in range(0, n, size):
            rows = model.units.inward(X[first : first + size].astype(model.dtype, copy=False))
            short = (size if n > size else bucket(n, 16)) - len(rows)
            rows = np.pad(rows, ((0, short), (0, 0)))
            args = (model.params, model.log_weights, rows, jax.random.fold_in(key, first))
            labels = np.asarray(_drawn(model.mixture, *args))
            parts.append(labels[:, : labels.shape[1] - short])
    return np.concatenate(parts, axis=1)


def _width(s: int, k: int, d: int) -> int:
    """Numbers held per row for `s` draws of `k` components."""
    return d + s * k * (d + 4)
