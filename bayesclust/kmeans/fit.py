"""K-means from data to centres: seed, iterate, keep the best of several starts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key
from bayesclust.core import rows as rows_
from bayesclust.core.loop import iterate, over_parts, run, settle_all
from bayesclust.core.rows import Rows, block_size, bucket, pack, pack_host, spread, unblock
from bayesclust.core.units import Units, natural_units, natural_units_traced
from bayesclust.kmeans.lloyd import (
    Assigned,
    KMeansState,
    LloydStep,
    assign_rows,
    total_square,
)
from bayesclust.kmeans.seeding import greedy

Seeding = Callable[..., Array]
"""``(key, rows, k) -> (k, d) centres``: `seeding.greedy`, `seeding.random_rows`, or one's own."""

DIRECT_WORK = 1 << 18
"""Below this many multiply-adds per sweep, distances are always taken by differences."""

AFFORDABLE_LOSS = 1e-3
"""Rounding error of a squared distance, relative to the mean one, from which a fit is redone."""


@pytree
class KMeansFit:
    """A fitted k-means clustering, in the units of the data.

    Attributes
    ----------
    centers : (k, d) array
    labels : (n,) int32 array
        Nearest centre of each row.
    counts : (k,) array
        Weight per cluster.
    inertia : scalar
        Weighted sum of squared distances to the nearest centre; with `units` of unequal scales,
        measured in those.
    n_steps : int scalar
        Steps of the best start.
    converged : bool scalar
    short : bool scalar
        There are fewer distinct rows than clusters.
    imprecise : bool scalar
        Clusters so tight and far apart that rounding may have moved labels (only inside a
        caller's program; on the host such a fit is redone with exact differences).
    objectives : (r,) array
        Inertia of every start.
    trace : (t,) array
        Inertia by step of the best start, NaN-padded.
    history : (n_steps + 1, k, d) array or None
        Centres before the first and after every step of the best start.
    """

    centers: Array
    labels: Array
    counts: Array
    inertia: Array
    n_steps: Array
    converged: Array
    short: Array
    imprecise: Array
    objectives: Array
    trace: Array
    history: Array | None = None


class Start(NamedTuple):
    """The outcome of one start: its final state, its inertia there, where it began."""

    state: KMeansState
    objective: Array
    seeds: Array


def fit(
    key: Key,
    X: Any,
    k: int,
    *,
    sample_weight: Any = None,
    init: Seeding | Any = greedy,
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    history: bool = False,
    units: Units | None = None,
    seeding_rows: int | None = None,
) -> KMeansFit:
    """Partition rows into exactly `k` clusters of least squared distance to their mean.

    Minimises ``sum_i w_i min_j |x_i - c_j|^2`` by Lloyd's algorithm. A cluster that loses all its
    rows moves to the row served worst, so that exactly `k` clusters are non-empty whenever there
    are `k` distinct rows of positive weight.

    Parameters
    ----------
    key : PRNG key
    X : (n, d) array
        Finite float32 or float64 rows. Inside a caller's jit or vmap everything stays in the
        program; otherwise the rows are centred on the host in double precision, and large data
        use all cores.
    k : int
        Number of clusters, at most n.
    sample_weight : (n,) array, optional
        Non-negative; weight 2 equals the row twice, weight 0 its absence.
    init : callable or (k, d) array
        A seeding function such as `greedy` (default) and `random_rows`, or the centres
        themselves; given centres keep their order, else clusters are numbered by their centres'
        columns, first column first.
    n_init : int
        Number of starts; the one of least inertia is returned.
    max_iter : int
        Most steps of each start.
    tol : float
        Stop when the squared moves of the centres sum to at most this, relative to the mean
        column variance. With 0: when no assignment changes.
    history : bool
        Keep the centres of every step of the best start.
    units : Units, optional
        Shift and scales to work in, e.g. `core.units.standard_units`; default: the data's mean
        and one common scale.
    seeding_rows : int, optional
        Seed on a random subsample of this many rows, for huge n.

    Returns
    -------
    KMeansFit

    References
    ----------
    S. P. Lloyd (1982), Least squares quantization in PCM, IEEE Trans. Inf. Theory 28, 129-137.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from bayesclust import kmeans
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    >>> kmeans.fit(jax.random.key(0), X, 2).centers.tolist()
    [[0.5], [10.5]]
    """
    given = None if callable(init) else init
    seeding = init if callable(init) else None
    if isinstance(X, jax.core.Tracer) or isinstance(sample_weight, jax.core.Tracer):
        if history:
            raise ValueError("history=True keeps a host record: call fit outside jit and vmap")
        return _fit_traced(key, X, k, sample_weight, given, seeding, n_init, max_iter, tol)
    X = np.asarray(X)
    weight = None if sample_weight is None else np.asarray(sample_weight)
    with jax.enable_x64(X.dtype == np.float64):
        return fit_host(
            key,
            X,
            k,
            weight,
            given,
            seeding,
            n_init=1 if given is not None else n_init,
            max_iter=max_iter,
            tol=tol,
            history=history,
            units=units or natural_units(X, weight),
            seeding_rows=seeding_rows,
        )


def fit_host(
    key: Key,
    X: np.ndarray,
    k: int,
    weight: np.ndarray | None,
    given: Any,
    seeding: Seeding | None,
    *,
    n_init: int,
    max_iter: int,
    tol: float,
    history: bool,
    units: Units,
    seeding_rows: int | None,
) -> KMeansFit:
    """`fit` on host data whose dtype the surrounding JAX mode supports."""
    n, d = X.shape
    rows = pack_host(X, weight, shift=units.shift, scale=units.scale, block=block_size(n, k + d))
    if given is not None:
        given = jnp.asarray(units.inward(np.asarray(given, X.dtype)))
    seeds_from = rows
    if seeding_rows is not None and given is None and seeding_rows < n:
        seeds_from = _subsample(key, X, weight, max(seeding_rows, k), units, k)
    variance = units.variance(X, weight)
    absolute_tol = np.asarray(tol * np.mean(variance), X.dtype)
    total = n if weight is None else np.sum(weight, dtype=np.float64)
    square = np.asarray(total * np.sum(variance), X.dtype)
    work = n * k * d
    result = None
    for direct in (True,) if work <= DIRECT_WORK else (False, True):
        result = fit_rows(
            key,
            rows,
            seeds_from,
            given,
            seeding,
            k=k,
            n_init=n_init,
            max_iter=max_iter,
            tol=absolute_tol,
            square=square,
            work=work,
            direct=direct,
            history=history,
        )
        if direct or not bool(result.imprecise):
            break
    assert result is not None
    scale2 = units.scale[0] ** 2 if np.all(units.scale == units.scale[0]) else 1.0
    host = jax.device_get(result)

    def outward(centers: np.ndarray) -> np.ndarray:
        return units.outward(centers).astype(X.dtype)

    return KMeansFit(
        centers=outward(host.centers),
        labels=np.asarray(unblock_host(host.labels, n)),
        counts=host.counts,
        inertia=np.asarray(host.inertia * scale2, X.dtype),
        n_steps=host.n_steps,
        converged=host.converged,
        short=host.short,
        imprecise=np.asarray(False),
        objectives=np.asarray(host.objectives * scale2, X.dtype),
        trace=np.asarray(host.trace * scale2, X.dtype),
        history=None if host.history is None else outward(host.history),
    )


def unblock_host(labels: np.ndarray, n: int) -> np.ndarray:
    """Per-row results in block layout ``(m, b)``, in row order."""
    return labels.reshape(-1)[:n]


def fit_rows(
    key: Key,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    seeding: Seeding | None,
    *,
    k: int,
    n_init: int,
    max_iter: int,
    tol: Any,
    work: int,
    direct: bool,
    history: bool,
    square: Any = None,
) -> KMeansFit:
    """Fit packed rows in their own units; one program if small, else all cores step by step."""
    trace_length = bucket(max_iter)
    if square is None:
        square = _total_square(rows)
    if work < rows_.PARALLEL_WORK or isinstance(rows.x, jax.core.Tracer):
        result, seeds = _fit_program(
            key,
            rows,
            seeds_from,
            given,
            tol,
            np.int32(max_iter),
            k=k,
            n_init=n_init,
            seeding=seeding,
            direct=direct,
            trace_length=trace_length,
        )
    else:
        result, seeds = _fit_driven(
            key,
            rows,
            seeds_from,
            given,
            LloydStep(tol, square, direct),
            max_iter,
            k,
            n_init,
            seeding,
            trace_length,
            work,
        )
    if not history:
        return result
    path = [seeds]
    algorithm = LloydStep(tol, square, direct)
    run(
        algorithm,
        KMeansState.start(seeds, trace_length),
        rows,
        max_iter,
        work=work,
        watch=lambda state: path.append(state.centers),
    )
    if given is None:  # number the clusters of the record as those of the result
        order = jnp.lexsort(path[-1].T[::-1])
        path = [centers[order] for centers in path]
    return KMeansFit(**{**vars(result), "history": jnp.stack(path)})


@functools.partial(jax.jit, static_argnames=("k", "n_init", "seeding", "direct", "trace_length"))
def _fit_program(
    key: Key,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    tol: Any,
    max_iter: Any,
    *,
    k: int,
    n_init: int,
    seeding: Seeding | None,
    direct: bool,
    trace_length: int,
) -> tuple[KMeansFit, Array]:
    """All starts and the choice between them in one program."""
    algorithm = LloydStep(tol, total_square(rows), direct)

    def start(key: Key) -> Start:
        seeds = given if seeding is None else seed(seeding, key, seeds_from, k, direct)
        assert seeds is not None
        state = iterate(algorithm, KMeansState.start(seeds, trace_length), rows, max_iter)
        return Start(state, _objective(algorithm, state, rows), seeds)

    if n_init == 1:
        best = start(key)
        objectives = best.objective[None]
    else:
        together = max(1, min(n_init, rows_.TILE_FLOATS // (rows.block * k)))
        starts = lax.map(start, jax.random.split(key, n_init), batch_size=together)
        objectives = starts.objective
        best = jax.tree.map(lambda v: v[jnp.argmin(objectives)], starts)
    state = _in_order(best.state) if seeding is not None else best.state
    assigned = assign_rows(state.centers, rows, direct=direct)

    def going(carry: tuple[KMeansState, Assigned]) -> Array:
        state, assigned = carry
        return jnp.any(assigned.counts <= 0) & ~state.short

    def mend(carry: tuple[KMeansState, Assigned]) -> tuple[KMeansState, Assigned]:
        state, assigned = carry
        state = settle_all(algorithm, _emptied(state, assigned), rows)
        # By differences: expanded, a centre on a row may tie with its neighbour for ever.
        return state, assign_rows(state.centers, rows, direct=True)

    state, assigned = lax.while_loop(going, mend, (state, assigned))
    return _result(state, assigned, objectives, algorithm), best.seeds


def _fit_driven(
    key: Key,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    algorithm: LloydStep,
    max_iter: int,
    k: int,
    n_init: int,
    seeding: Seeding | None,
    trace_length: int,
    work: int,
) -> tuple[KMeansFit, Array]:
    """The same from the host, every sweep shared by all cores or devices."""
    direct = algorithm.direct
    parts = spread(rows, work)
    best: Start | None = None
    objectives = []
    for key_start in jax.random.split(key, n_init) if n_init > 1 else [key]:
        seeds = given
        if seeding is not None:
            seeds = seed_program(seeding, key_start, seeds_from, k, direct)
        assert seeds is not None
        state = run(algorithm, KMeansState.start(seeds, trace_length), rows, max_iter, work=work)
        if n_init > 1:
            sums = over_parts(_sweep_program, (algorithm, state), parts)
            objective = algorithm.inertia(sum(value for _, value in sums))
        else:
            objective = state.inertia
        objectives.append(objective)
        if best is None or bool(objective < best.objective):
            best = Start(state, objective, seeds)
    assert best is not None
    state = _in_order(best.state) if seeding is not None else best.state
    exact = direct
    while True:
        assigned = _merge(
            over_parts(functools.partial(_assign_program, direct=exact), state.centers, parts),
            parts,
        )
        if bool(state.short) or bool(jnp.all(assigned.counts > 0)):
            break
        state = _settle_program(algorithm, _emptied(state, assigned), rows)
        exact = True  # expanded, a centre on a row may tie with its neighbour for ever
    return _result(state, assigned, jnp.stack(objectives), algorithm), best.seeds


def _fit_traced(
    key: Key,
    X: Array,
    k: int,
    sample_weight: Array | None,
    given: Array | None,
    seeding: Seeding | None,
    n_init: int,
    max_iter: int,
    tol: float,
) -> KMeansFit:
    """`fit` as part of somebody else's program."""
    n, d = X.shape
    weight = jnp.ones(n, X.dtype) if sample_weight is None else sample_weight.astype(X.dtype)
    shift, scale, variance = natural_units_traced(X, weight / jnp.sum(weight))
    rows = pack((X - shift) / scale, weight, block=block_size(n, k + d))
    if given is not None:
        given = (jnp.asarray(given, X.dtype) - shift) / scale
    result, _ = _fit_program(
        key,
        rows,
        rows,
        given,
        tol * jnp.mean(variance) / scale**2,
        max_iter,
        k=k,
        n_init=1 if given is not None else n_init,
        seeding=seeding,
        direct=n * k * d <= DIRECT_WORK,
        trace_length=bucket(max_iter),
    )
    return KMeansFit(
        **{
            **vars(result),
            "centers": result.centers * scale + shift,
            "labels": unblock(result.labels, n),
            "inertia": result.inertia * scale**2,
            "objectives": result.objectives * scale**2,
            "trace": result.trace * scale**2,
        }
    )


def seed(seeding: Seeding, key: Key, rows: Rows, k: int, direct: bool) -> Array:
    """Centres ``(k, d)`` by a seeding function; `direct` as in `greedy`."""
    if seeding is greedy:
        return greedy(key, rows, k, direct=direct)
    return seeding(key, rows, k)


seed_program = jax.jit(seed, static_argnums=(0, 3, 4))
_total_square = jax.jit(total_square)
_settle_program = jax.jit(settle_all)


@jax.jit
def _sweep_program(stage: tuple[LloydStep, KMeansState], rows: Rows) -> Any:
    algorithm, state = stage
    return algorithm.sweep(state, rows)


@functools.partial(jax.jit, static_argnames="direct")
def _assign_program(centers: Array, rows: Rows, direct: bool) -> Assigned:
    return assign_rows(centers, rows, direct=direct)


def _objective(algorithm: LloydStep, state: KMeansState, rows: Rows) -> Array:
    """Inertia at the centres of the state."""
    _, value = algorithm.sweep(state, rows)
    return algorithm.inertia(value)


def _in_order(state: KMeansState) -> KMeansState:
    """Number the clusters by their centres, so that names do not depend on the seed."""
    order = jnp.lexsort(state.centers.T[::-1])
    return KMeansState(
        **{**vars(state), "centers": state.centers[order], "counts": state.counts[order]}
    )


def _emptied(state: KMeansState, assigned: Assigned) -> KMeansState:
    return KMeansState(**{**vars(state), "empty": assigned.counts <= 0})


def _merge(assigned: list[Assigned], parts: list[Rows]) -> Assigned:
    """One assignment from those of the parts."""
    if len(assigned) == 1:
        return assigned[0]
    labels = np.concatenate(
        [
            np.asarray(a.labels)[int(part.first) : int(part.last)]
            for a, part in zip(assigned, parts, strict=True)
        ]
    )
    return Assigned(
        labels,  # type: ignore[arg-type]
        sum(a.counts for a in assigned[1:]) + assigned[0].counts,
        sum(a.inertia for a in assigned[1:]) + assigned[0].inertia,
    )


def _result(
    state: KMeansState, assigned: Assigned, objectives: Array, algorithm: LloydStep
) -> KMeansFit:
    # Rounding of an expanded squared distance is eps |x|^2; with `direct` there is none.
    loss = jnp.finfo(state.centers.dtype).eps * algorithm.square
    imprecise = jnp.asarray(not algorithm.direct) & (loss > AFFORDABLE_LOSS * assigned.inertia)
    return KMeansFit(
        centers=state.centers,
        labels=assigned.labels,
        counts=assigned.counts,
        inertia=assigned.inertia,
        n_steps=state.n_steps,
        converged=state.converged,
        short=state.short,
        imprecise=imprecise,
        objectives=objectives.at[jnp.argmin(objectives)].set(assigned.inertia),
        trace=state.trace,
    )


def _subsample(
    key: Key,
    X: np.ndarray,
    weight: np.ndarray | None,
    size: int,
    units: Units,
    k: int,
) -> Rows:
    """A random subset of rows, packed like the whole."""
    n, d = X.shape
    seed = np.asarray(jax.random.key_data(jax.random.fold_in(key, 1))).ravel()
    index = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    return pack_host(
        np.ascontiguousarray(X[index]),
        None if weight is None else weight[index],
        shift=units.shift,
        scale=units.scale,
        block=block_size(size, k + d),
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
    rows = _subsample(key, X, weight, size, units, k)
    best: tuple[float, Array] | None = None
    for key_start in jax.random.split(key, n_init):
        centers = seed_program(init, key_start, rows, k, True)
        inertia = float(_assign_program(centers, rows, direct=True).inertia)
        if best is None or inertia < best[0]:
            best = inertia, centers
    assert best is not None
    centers = best[1]
    return centers[jnp.lexsort(centers.T[::-1])]


def assign_all(
    centers: Array, X: np.ndarray, weight: np.ndarray | None, units: Units
) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels ``(n,)``, weight per cluster ``(k,)`` and inertia, at centres in the fit's units."""
    n, d = X.shape
    k = centers.shape[0]
    rows = pack_host(X, weight, shift=units.shift, scale=units.scale, block=block_size(n, k + d))
    work = n * k * d
    parts = spread(rows, work)
    call = functools.partial(_assign_program, direct=work <= DIRECT_WORK)
    merged = _merge(over_parts(call, centers, parts), parts)
    labels = np.asarray(merged.labels).reshape(-1)[:n]
    return labels, np.asarray(merged.counts), float(merged.inertia)


def assign(X: Any, centers: Any, *, units: Units | None = None) -> np.ndarray:
    """Index of the nearest centre of each row; the lowest index wins ties.

    Parameters
    ----------
    X : (n, d) array
    centers : (k, d) array
    units : Units, optional
        The units distances are measured in; default: centred at the mean of the centres.

    Returns
    -------
    (n,) int32 ndarray
    """
    X = np.asarray(X)
    d = X.shape[1]
    centers = np.asarray(centers, np.float64)
    if units is None:
        shift = centers.mean(axis=0).astype(X.dtype).astype(np.float64)
        units = Units(shift, np.ones(d))
    inner = ((centers - units.shift) / units.scale).astype(X.dtype)
    with jax.enable_x64(X.dtype == np.float64):
        return assign_all(jnp.asarray(inner), X, None, units)[0]
