"""Where an iterative engine begins: small pytrees that turn rows into parameters."""

from __future__ import annotations

import abc
import functools
from typing import Any, override

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key, Params
from bayesclust.core import assign
from bayesclust.core import rows as rows_
from bayesclust.core.checks import check_integer
from bayesclust.core.linalg import half_squared_distance
from bayesclust.core.loop import over_parts
from bayesclust.core.random import uniform
from bayesclust.core.rows import Rows, spread
from bayesclust.core.sweep import sweep
from bayesclust.kmeans.assignment import DIRECT_WORK
from bayesclust.kmeans.lloyd import LloydStep, total_square
from bayesclust.kmeans.restarts import Plan, best_start, best_start_driven, seed_program
from bayesclust.kmeans.seeding import greedy
from bayesclust.mixture import Mixture


class Start(abc.ABC):
    """A rule for the first parameters."""

    @abc.abstractmethod
    def begin(
        self, key: Key, mixture: Mixture, rows: Rows, constants: Any, work: int
    ) -> tuple[Params, Array]:
        """Parameters and log weights to begin at, in the units of the rows.

        Parameters
        ----------
        key : PRNG key
            Or what `luck` makes of it.
        mixture : Mixture
        rows : Rows
        constants : pytree
            Of the family, for its `maximise`.
        work : int
            Multiply-adds of one sweep over all scores: chooses one core or all.
        """

    def luck(self, key: Key, mixture: Mixture, rows: Rows, work: int) -> Any:
        """What `begin` may take in place of a key; found on the host, it needs no generator."""
        return key


def chosen(start: Any, default: Start) -> Start:
    """The start that was given, or the default.

    Raises
    ------
    TypeError
        If something else was given.
    """
    if start is None:
        return default
    if not isinstance(start, Start):
        raise TypeError(
            f"start={start!r} is no Start: give one of bayesclust.engines, such as KMeansStart()"
        )
    return start


@functools.partial(jax.jit, static_argnames="plan")
def _best_start(
    luck: Any, rows: Rows, algorithm: LloydStep, max_iter: Any, *, plan: Plan
) -> tuple[Any, Array]:
    return best_start(luck, rows, rows, None, algorithm, max_iter, plan)


@pytree
class KMeansStart(Start):
    """One M-step from a k-means partition, the best of `n_init` (0: four if cheap, else one)."""

    n_init: int = static(default=0)
    max_iter: int = static(default=100)

    @override
    def begin(
        self, key: Key, mixture: Mixture, rows: Rows, constants: Any, work: int
    ) -> tuple[Params, Array]:
        d = rows.n_features
        distance_work = _distance_work(mixture, rows, work)
        algorithm = LloydStep(
            jnp.asarray(1e-6 * d, rows.dtype),
            total_square(rows),
            distance_work <= DIRECT_WORK,
        )
        plan, luck = self._plan(mixture, rows, work), self.luck(key, mixture, rows, work)
        if isinstance(rows.x, jax.core.Tracer) or distance_work < rows_.PARALLEL_WORK:
            best, _ = _best_start(luck, rows, algorithm, self.max_iter, plan=plan)
        else:
            best, _ = best_start_driven(
                luck, rows, rows, None, algorithm, self.max_iter, plan, distance_work
            )
        return from_centers(mixture, rows, best.state.centers, constants, work)

    @override
    def luck(self, key: Key, mixture: Mixture, rows: Rows, work: int) -> Any:
        return self._plan(mixture, rows, work).luck(key, rows.dtype)

    def _plan(self, mixture: Mixture, rows: Rows, work: int) -> Plan:
        check_integer("n_init", self.n_init, 0)
        check_integer("max_iter", self.max_iter)
        cheap = _distance_work(mixture, rows, work) < 1 << 20
        return Plan(greedy, mixture.k, self.n_init or (4 if cheap else 1))


def _distance_work(mixture: Mixture, rows: Rows, work: int) -> int:
    """Multiply-adds of one sweep of k-means."""
    return min(work, rows.weight.size * mixture.k * rows.n_features)


@pytree
class SeededStart(Start):
    """One M-step from the nearest of seeded centres, by a function of `kmeans.seeding`."""

    seeding: Any = static(default=greedy)

    @override
    def begin(
        self, key: Key, mixture: Mixture, rows: Rows, constants: Any, work: int
    ) -> tuple[Params, Array]:
        centers = seed_program(self.seeding, key, rows, mixture.k, False)
        return from_centers(mixture, rows, centers, constants, work)


@pytree
class RandomResponsibilities(Start):
    """One M-step from uniform random responsibilities."""

    @override
    def begin(
        self, key: Key, mixture: Mixture, rows: Rows, constants: Any, work: int
    ) -> tuple[Params, Array]:
        return _from_random(key, mixture, rows, constants)


@pytree
class Given(Start):
    """Given parameters, in the units of the rows; what is missing comes from another start.

    Attributes
    ----------
    params : dict
        Some or all of the family's parameters.
    log_weights : (k,) array, optional
    otherwise : Start
    """

    params: Any
    log_weights: Any = None
    otherwise: Start = KMeansStart()

    @override
    def begin(
        self, key: Key, mixture: Mixture, rows: Rows, constants: Any, work: int
    ) -> tuple[Params, Array]:
        params, log_weights = dict(self.params), self.log_weights
        if log_weights is None or set(params) != set(mixture.family.dims):
            drawn, drawn_weights = self.otherwise.begin(key, mixture, rows, constants, work)
            params = {**drawn, **params}
            log_weights = drawn_weights if log_weights is None else log_weights
        return params, log_weights


@jax.jit
def _center_stats(stage: tuple[Mixture, Array], rows: Rows) -> Any:
    mixture, centers = stage
    prepared = mixture.family.prepare(mixture.family.located(centers))
    stats, _ = sweep(
        rows,
        lambda x: -half_squared_distance(x, centers, direct=False),
        assign.hard,
        lambda x, resp: (
            mixture.family.stats(prepared, x, resp),
            jnp.sum(resp, axis=1),
        ),
    )
    return stats


@jax.jit
def _center_update(mixture: Mixture, centers: Array, parts: Any, constants: Any) -> Any:
    stats, counts = jax.tree.map(lambda *s: sum(s[1:], s[0]), *parts)
    params = mixture.family.maximise(mixture.family.located(centers), stats, constants)
    return params, mixture.weights.mode(counts)


def from_centers(
    mixture: Mixture, rows: Rows, centers: Array, constants: Any, work: int
) -> tuple[Params, Array]:
    """M-step of the partition by the nearest centre ``(k, d)``."""
    if isinstance(rows.x, jax.core.Tracer):
        stats = [_center_stats((mixture, centers), rows)]
    else:
        stats = over_parts(_center_stats, (mixture, centers), spread(rows, work))
    return _center_update(mixture, centers, stats, constants)


@functools.partial(jax.jit)
def _from_random(key: Key, mixture: Mixture, rows: Rows, constants: Any) -> tuple[Params, Array]:
    d = rows.n_features
    reference = mixture.family.located(jnp.zeros((mixture.k, d), rows.dtype))
    prepared = mixture.family.prepare(reference)

    def shares(scores: Array, block: Array) -> tuple[Array, Array]:
        u = uniform(jax.random.fold_in(key, block), scores.shape, scores.dtype)
        return u / jnp.sum(u, axis=0), jnp.zeros(scores.shape[1], scores.dtype)

    (stats, counts), _ = sweep(
        rows,
        lambda x: jnp.zeros((mixture.k, x.shape[1]), x.dtype),
        shares,
        lambda x, resp: (mixture.family.stats(prepared, x, resp), jnp.sum(resp, axis=1)),
    )
    params = mixture.family.maximise(reference, stats, constants)
    return params, mixture.weights.mode(counts)
