"""From packed rows to centres: seed, iterate, keep the best of several starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._typing import Array, Key
from bayesclust.core.loop import entry, iterate, over_parts, restarts, run, total
from bayesclust.core.random import generator
from bayesclust.core.rows import Rows, pack_host, split, spread
from bayesclust.core.units import Units
from bayesclust.kmeans.assignment import assign_program
from bayesclust.kmeans.lloyd import KMeansState, LloydStep, lloyd_block
from bayesclust.kmeans.seeding import greedy, greedy_driven, n_candidates, numbers

Seeding = Callable[..., Array]
"""``(key, rows, k) -> (k, d) centres``: `seeding.greedy`, `seeding.random_rows`, or one's own."""


class Start(NamedTuple):
    """The outcome of one start: its final state, its inertia there, where it began."""

    state: KMeansState
    objective: Array
    seeds: Array


class Plan(NamedTuple):
    """How starts are made.

    Attributes
    ----------
    seeding : Seeding or None
        None: begin at given centres.
    k, n_init : int
    trace_length : int
    """

    seeding: Seeding | None
    k: int
    n_init: int
    trace_length: int = 0

    def luck(self, key: Key, dtype: Any) -> Array | None:
        """What every start draws on, ``(n_init, ..)``: a key each, or the numbers for `greedy`."""
        if self.seeding is None:
            return None
        if self.seeding is greedy:
            return numbers(key, self.k, dtype, (self.n_init,))
        return key[None] if self.n_init == 1 else jax.random.split(key, self.n_init)


def best_start(
    luck: Array | None,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    algorithm: LloydStep,
    max_iter: Any,
    plan: Plan,
) -> tuple[Start, Array]:
    """All starts and the choice between them, inside one program.

    Parameters
    ----------
    luck : (n_init, ..) array or None
        From `Plan.luck`.
    rows, seeds_from : Rows
        The rows to fit, and those to draw seeds from.
    given : (k, d) array or None
    algorithm : LloydStep
    max_iter : int
    plan : Plan

    Returns
    -------
    best : Start
        Clusters numbered by their centres, unless these were given.
    objectives : (n_init,) array
    """

    def once(own: Array) -> Start:
        seeds = given
        if plan.seeding is not None:
            seeds = seed(plan.seeding, own, seeds_from, plan.k, algorithm.direct)
        assert seeds is not None
        state = iterate(algorithm, KMeansState.start(seeds, plan.trace_length), rows, max_iter)
        if plan.n_init == 1:  # nobody to be compared with
            return Start(state, state.inertia, seeds)
        stats = algorithm.sweep(state, rows)
        return Start(state, algorithm.inertia(state.centers, stats), seeds)

    if plan.n_init == 1:
        best = once(None if luck is None else luck[0])
        objectives = best.objective[None]
    else:
        starts = restarts(once, luck)
        objectives = starts.objective
        best = entry(starts, jnp.argmin(objectives))
    return (best if plan.seeding is None else in_order(best)), objectives


def best_start_driven(
    luck: Array | None,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    algorithm: LloydStep,
    max_iter: int,
    plan: Plan,
    work: int,
) -> tuple[Start, Array]:
    """`best_start` from the host, every sweep shared by all cores or devices."""
    parts = spread(rows, work)
    best: Start | None = None
    objectives = []
    for i in range(plan.n_init):
        seeds = given
        if plan.seeding is not None:
            assert luck is not None
            seeds = seed_program(plan.seeding, luck[i], seeds_from, plan.k, algorithm.direct)
        assert seeds is not None
        state = KMeansState.start(seeds, plan.trace_length)
        state = run(algorithm, state, rows, max_iter, work=work)
        objective = state.inertia
        if plan.n_init > 1:
            stats = over_parts(_sweep_program, (algorithm, state), parts)
            objective = algorithm.inertia(state.centers, total(stats))
        objectives.append(objective)
        if best is None or bool(objective < best.objective):
            best = Start(state, objective, seeds)
    assert best is not None
    return (best if plan.seeding is None else in_order(best)), jnp.stack(objectives)


def in_order(start: Start) -> Start:
    """Number the clusters by their centres, so that names do not depend on the seed."""
    state = start.state
    order = jnp.lexsort(state.centers.T[::-1])
    state = KMeansState(
        **{**vars(state), "centers": state.centers[order], "counts": state.counts[order]}
    )
    return start._replace(state=state)


def seed(seeding: Seeding, own: Array, rows: Rows, k: int, direct: bool) -> Array:
    """Centres ``(k, d)`` by a seeding function from its luck; `direct` as in `greedy`."""
    if seeding is greedy:
        return greedy(own, rows, k, direct=direct)
    return seeding(own, rows, k)


_seed = jax.jit(seed, static_argnums=(0, 3, 4))


def seed_program(seeding: Seeding, own: Array, rows: Rows, k: int, direct: bool) -> Array:
    """`seed`, compiled; many rows are judged by all cores."""
    if seeding is greedy:
        own = numbers(own, k, rows.dtype)
    if seeding is greedy and not isinstance(rows.x, jax.core.Tracer):
        parts = split(rows, rows.x.size * n_candidates(k))
        if len(parts) > 1:
            return greedy_driven(own, parts, k, direct=direct)
    return _seed(seeding, own, rows, k, direct)


@jax.jit
def _sweep_program(stage: tuple[LloydStep, KMeansState], rows: Rows) -> Any:
    algorithm, state = stage
    return algorithm.sweep(state, rows)


def subsample(
    key: Key,
    X: np.ndarray,
    weight: np.ndarray | None,
    size: int,
    units: Units,
    k: int,
) -> Rows:
    """Pack a random subset of rows like the whole."""
    n, d = X.shape
    index = np.sort(generator(key).choice(n, size, replace=False))
    return pack_host(
        np.ascontiguousarray(X[index]),
        None if weight is None else weight[index],
        shift=units.shift,
        scale=units.scale,
        exponent=units.exponent,
        block=lloyd_block(size, k, d, X.dtype),
    )


def seed_host(
    key: Key,
    X: np.ndarray,
    k: int,
    weight: np.ndarray | None,
    init: Seeding | np.ndarray,
    units: Units,
    *,
    n_init: int,
    sample: int,
) -> Array:
    """Centres ``(k, d)`` in the fit's units, the best of `n_init` seedings of a subsample."""
    if not callable(init):
        return jnp.asarray(units.inward(np.asarray(init, X.dtype)))
    if weight is not None:
        X, weight = X[weight > 0], weight[weight > 0]
    size = min(max(sample, k), len(X))
    key_rows, key_seeds = jax.random.split(key)
    rows = subsample(key_rows, X, weight, size, units, k)
    luck = Plan(init, k, n_init).luck(key_seeds, rows.dtype)
    assert luck is not None
    best: tuple[float, Array] | None = None
    for own in luck:
        centers = seed_program(init, own, rows, k, True)
        inertia = float(assign_program(centers, rows, direct=True).inertia)
        if best is None or inertia < best[0]:
            best = inertia, centers
    assert best is not None
    centers = best[1]
    return centers[jnp.lexsort(centers.T[::-1])]
