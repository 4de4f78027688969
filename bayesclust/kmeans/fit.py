"""K-means from data to centres: seed, iterate, keep the best of several starts."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import pytree, traced
from bayesclust._typing import Array, Key
from bayesclust.core import rows as rows_
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.checks import check_integer, check_key, check_memory, check_number
from bayesclust.core.loop import run, settle_all, trace_length
from bayesclust.core.rows import Rows, pack, pack_host, spread, unblock
from bayesclust.core.units import Units, natural_units, natural_units_traced, read_rows, scale_by
from bayesclust.kmeans.assignment import DIRECT_WORK, Assigned, assign_parts, assign_program
from bayesclust.kmeans.lloyd import KMeansState, LloydStep, lloyd_block
from bayesclust.kmeans.restarts import Plan, Seeding, best_start, best_start_driven, subsample
from bayesclust.kmeans.seeding import greedy
from bayesclust.table import read_numbers

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
        Inertia by step of the best start, infinite where no step was made; of a million steps at
        most.
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
        and one common scale. The result is then in their scaled units, which are those of the
        data unless these are of extraordinary magnitude, where squares would over- or underflow.
    seeding_rows : int, optional
        Seed on a random subsample of this many rows, for huge n.

    Returns
    -------
    KMeansFit

    Raises
    ------
    TypeError, ValueError
        If a number is of a wrong kind or out of range, or more starts are asked for than memory
        can hold.

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
    inside = traced(key, X, sample_weight, given, tol)
    weight = sample_weight
    if not inside:
        X, weight = read_rows(X, sample_weight, units)
    n, d = np.shape(X)
    check_key(key)
    check_integer("k", k, 1, n)
    check_integer("n_init", n_init)
    check_integer("max_iter", max_iter, 0)
    check_number("tol", tol)
    if seeding_rows is not None:
        check_integer("seeding_rows", seeding_rows)
    numbers = 4 * k * (d + 4) + trace_length(max_iter, n_init)
    check_memory("starts", 8.0 * n_init * numbers, n_init=n_init)
    if inside:
        if history:
            raise ValueError("history=True keeps a host record: call fit outside jit and vmap")
        with arithmetic():
            return _fit_traced(
                key, jnp.asarray(X), k, weight, given, seeding, n_init, max_iter, tol
            )
    if given is not None:
        given = read_numbers(given, "init", remedy="give finite centres")[0]
    own = natural_units(X, weight) if units is None else units
    with arithmetic(X.dtype == np.float64):
        result = fit_host(
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
            units=own,
            seeding_rows=seeding_rows,
        )
    return result if units is not None else _unscaled(result, own)


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
    rows = pack_host(
        X,
        weight,
        shift=units.shift,
        scale=units.scale,
        exponent=units.exponent,
        block=lloyd_block(n, k, d, X.dtype),
    )
    if given is not None:
        given = jnp.asarray(units.inward(np.asarray(given, X.dtype)))
    seeds_from = rows
    if seeding_rows is not None and given is None and seeding_rows < n:
        key_rows, key = jax.random.split(key)
        seeds_from = subsample(key_rows, X, weight, max(seeding_rows, k), units, k)
    variance = units.variance(X, weight)
    absolute_tol = np.asarray(tol * np.mean(variance), X.dtype)
    total = n if weight is None else np.sum(weight, dtype=np.float64)
    square = np.asarray(total * np.sum(variance), X.dtype)
    work = n * k * d
    plan = Plan(seeding, k, n_init, trace_length(max_iter, n_init))
    luck = plan.luck(key, rows.dtype)
    result = None
    small = work <= DIRECT_WORK and rows.x.shape[0] == 1
    for direct in (True,) if small else (False, True):
        algorithm = LloydStep(absolute_tol, square, direct)
        result = _fit_rows(
            luck, rows, seeds_from, given, algorithm, max_iter, plan, work=work, history=history
        )
        if direct or not bool(result.imprecise):
            break
    assert result is not None
    scale2 = units.scale[0] ** 2 if np.all(units.scale == units.scale[0]) else 1.0
    host = jax.tree.map(np.asarray, result)
    del rows, seeds_from, result
    rows_.release()  # before labels become wider

    def outward(centers: np.ndarray) -> np.ndarray:
        return units.outward(centers).astype(X.dtype)

    return KMeansFit(
        centers=outward(host.centers),
        labels=host.labels.reshape(-1)[:n].astype(np.int32),
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


def _unscaled(result: KMeansFit, units: Units) -> KMeansFit:
    """A fit in the user's units from one in scaled units; squares may not be representable."""
    if units.exponent is None:
        return result
    power = int(units.exponent.min())
    centers = ("centers", "history")
    squares = ("inertia", "objectives", "trace")
    changed = {
        **{n: units.unscaled(v) for n in centers if (v := getattr(result, n)) is not None},
        **{n: scale_by(np.asarray(getattr(result, n), float), 2 * power) for n in squares},
    }
    return dataclasses.replace(result, **changed)


def _fit_rows(
    luck: Array | None,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    algorithm: LloydStep,
    max_iter: int,
    plan: Plan,
    *,
    work: int,
    history: bool,
) -> KMeansFit:
    """Fit packed rows in their own units; one program if small, else all cores step by step."""
    if work < rows_.PARALLEL_WORK:
        result, seeds = _fit_program(
            luck, rows, seeds_from, given, algorithm, np.int32(max_iter), plan=plan
        )
    else:
        result, seeds = _fit_driven(luck, rows, seeds_from, given, algorithm, max_iter, plan, work)
    if not history:
        return result
    path = [seeds]
    run(
        algorithm,
        KMeansState.start(seeds, plan.trace_length),
        rows,
        max_iter,
        work=work,
        watch=lambda state: path.append(state.centers),
    )
    if given is None:  # number the clusters of the record as those of the result
        order = jnp.lexsort(path[-1].T[::-1])
        path = [centers[order] for centers in path]
    return KMeansFit(**{**vars(result), "history": jnp.stack(path)})


@functools.partial(jax.jit, static_argnames="plan")
def _fit_program(
    luck: Array | None,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    algorithm: LloydStep,
    max_iter: Any,
    *,
    plan: Plan,
) -> tuple[KMeansFit, Array]:
    """The whole fit in one program."""
    best, objectives = best_start(luck, rows, seeds_from, given, algorithm, max_iter, plan)

    def going(carry: tuple[KMeansState, Assigned]) -> Array:
        state, assigned = carry
        return jnp.any(assigned.counts <= 0) & ~state.short

    def mend(carry: tuple[KMeansState, Assigned]) -> tuple[KMeansState, Assigned]:
        state, assigned = carry
        state = settle_all(algorithm, _emptied(state, assigned), rows)
        # By differences: expanded, a centre on a row may tie with its neighbour for ever.
        return state, assign_program(state.centers, rows, direct=True)

    assigned = assign_program(best.state.centers, rows, direct=algorithm.direct)
    state, assigned = lax.while_loop(going, mend, (best.state, assigned))
    return _result(state, assigned, objectives, algorithm), best.seeds


def _fit_driven(
    luck: Array | None,
    rows: Rows,
    seeds_from: Rows,
    given: Array | None,
    algorithm: LloydStep,
    max_iter: int,
    plan: Plan,
    work: int,
) -> tuple[KMeansFit, Array]:
    """The same from the host, every sweep shared by all cores or devices."""
    best, objectives = best_start_driven(
        luck, rows, seeds_from, given, algorithm, max_iter, plan, work
    )
    parts = spread(rows, work)
    state, direct = best.state, algorithm.direct
    while True:
        assigned = assign_parts(state.centers, parts, direct=direct)
        if bool(state.short) or bool(jnp.all(assigned.counts > 0)):
            break
        state = _settle_program(algorithm, _emptied(state, assigned), rows)
        direct = True  # expanded, a centre on a row may tie with its neighbour for ever
    return _result(state, assigned, objectives, algorithm), best.seeds


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
    weight = jnp.ones(n, X.dtype) if sample_weight is None else jnp.asarray(sample_weight, X.dtype)
    shift, scale, variance = natural_units_traced(X, weight / jnp.sum(weight))
    rows = pack((X - shift) / scale, weight, block=lloyd_block(n, k, d, X.dtype))
    if given is not None:
        given = (jnp.asarray(given, X.dtype) - shift) / scale
    square = jnp.sum(weight) * jnp.sum(variance)
    algorithm = LloydStep(tol * jnp.mean(variance), square, n * k * d <= DIRECT_WORK)
    n_init = 1 if given is not None else n_init
    plan = Plan(seeding, k, n_init, trace_length(max_iter, n_init))
    luck = plan.luck(key, X.dtype)
    result, _ = _fit_program(luck, rows, rows, given, algorithm, max_iter, plan=plan)
    return KMeansFit(
        **{
            **vars(result),
            "centers": result.centers * scale + shift,
            "labels": unblock(result.labels, n).astype(jnp.int32),
            # The square of a scale may not be representable where the product is.
            "inertia": result.inertia * scale * scale,
            "objectives": result.objectives * scale * scale,
            "trace": result.trace * scale * scale,
        }
    )


_settle_program = jax.jit(settle_all)


def _emptied(state: KMeansState, assigned: Assigned) -> KMeansState:
    return KMeansState(**{**vars(state), "empty": assigned.counts <= 0})


def _result(
    state: KMeansState, assigned: Assigned, objectives: Array, algorithm: LloydStep
) -> KMeansFit:
    # Rounding of an expanded squared distance is eps |x|^2; with `direct` there is none.
    loss = jnp.finfo(state.centers.dtype).eps * algorithm.square
    best = jnp.arange(len(objectives)) == jnp.argmin(objectives)
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
        objectives=jnp.where(best, assigned.inertia, objectives),
        trace=state.trace,
    )
