"""Expectation maximisation: maximum likelihood, or the posterior mode under a prior.

References
----------
A. P. Dempster, N. M. Laird and D. B. Rubin (1977), Maximum likelihood from incomplete data via the
    EM algorithm, J. R. Stat. Soc. B 39, 1-38.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree, static, traced
from bayesclust._typing import Array, Key, Params
from bayesclust.core import assign
from bayesclust.core import rows as rows_
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.loop import (
    Algorithm,
    entry,
    iterate,
    record,
    restarts,
    run,
    trace_length,
)
from bayesclust.core.rows import Rows
from bayesclust.core.sweep import sweep
from bayesclust.core.units import Units, read_rows
from bayesclust.draws import Draws
from bayesclust.engines.base import (
    Fitted,
    PointEngine,
    Problem,
    check,
    constants_of,
    outward,
    pose,
)
from bayesclust.engines.record import informed
from bayesclust.engines.starts import KMeansStart, Start, chosen
from bayesclust.mixture import Mixture

AFFORDABLE_LOSS = 1e-3
"""Rounding error of a log density from which a float32 fit is redone in double precision."""


@pytree
class EMState:
    """Where a run of EM stands.

    Attributes
    ----------
    params : dict
    log_weights : (k,) array
    objective : scalar
        Log posterior per unit of weight at the last sweep, before its update; with a flat prior
        the mean log likelihood.
    n_steps : int scalar
    converged : bool scalar
    trace : (t,) array
        Objective by step; infinite where no step was made.
    """

    params: Params
    log_weights: Array
    objective: Array
    n_steps: Array
    converged: Array
    trace: Array

    @classmethod
    def start(cls, params: Params, log_weights: Array, trace_length: int = 0) -> EMState:
        """State before the first sweep."""
        dtype = log_weights.dtype
        return cls(
            params=params,
            log_weights=log_weights,
            objective=jnp.asarray(-jnp.inf, dtype),
            n_steps=jnp.int32(0),
            converged=jnp.asarray(False),
            trace=jnp.full(trace_length, jnp.inf, dtype),
        )


@pytree
class EMStep(Algorithm):
    """One E-step and M-step, fused: responsibilities exist one block at a time.

    Attributes
    ----------
    mixture : Mixture
    constants : pytree
        Of the family.
    weight : scalar
        Total weight of the rows.
    tol : scalar
        Converged when the objective changes by less than this.
    """

    mixture: Mixture
    constants: Any
    weight: Any
    tol: Any

    @override
    def sweep(self, state: EMState, rows: Rows) -> Any:
        family = self.mixture.family
        prepared = family.prepare(state.params)
        return sweep(
            rows,
            lambda x: family.score(prepared, x) + state.log_weights[:, None],
            assign.soft,
            lambda x, resp: (family.stats(prepared, x, resp), jnp.sum(resp, axis=1)),
        )

    @override
    def update(self, state: EMState, stats: Any) -> EMState:
        (moments, counts), log_likelihood = stats
        log_prior = self.mixture.log_prior(state.params, state.log_weights)
        objective = (log_likelihood + log_prior) / self.weight
        # A change below the rounding error of the objective is none.
        noise = 4 * jnp.finfo(objective.dtype).eps * jnp.abs(objective)
        change = jnp.abs(objective - state.objective)
        return EMState(
            params=self.mixture.family.maximise(state.params, moments, self.constants),
            log_weights=self.mixture.weights.mode(counts),
            objective=objective,
            n_steps=state.n_steps + 1,
            converged=change < jnp.maximum(self.tol, noise),
            trace=record(state.trace, state.n_steps, objective),
        )


@pytree
class EM(PointEngine):
    """Expectation maximisation.

    Attributes
    ----------
    tol : float
        Converged when the mean log likelihood (log posterior) changes by less than this.
    max_iter : int
    n_init : int
        Number of starts; the one of greatest objective is returned.
    """

    tol: Any = 1e-5
    max_iter: int = static(default=500)
    n_init: int = static(default=1)

    def run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        *,
        sample_weight: Any = None,
        start: Start | Sequence[Start] | None = None,
        units: Units | None = None,
    ) -> Draws:
        """Fit by EM; see `Engine.run`.

        `start` is a `Start`, or several, which `n_init` starts take in turn; parameters of a
        `Given` are in the fit's units. Rows that float32
        cannot tell apart finely enough, for clusters very tight and very far apart, are fitted
        again in double precision; the flag `imprecise` says where that was impossible.
        """
        several = start if isinstance(start, list | tuple) and start else [start]
        starts = tuple(chosen(s, KMeansStart()) for s in several)
        inside = traced(key, mixture, X, sample_weight, starts)
        if not inside:
            X, sample_weight = read_rows(X, sample_weight, units)
        check(self, mixture, X, key)
        if inside:
            with arithmetic():
                return self._run(key, mixture, X, sample_weight, starts, units)
        with arithmetic(X.dtype == np.float64):
            draws = self._run(key, mixture, X, sample_weight, starts, units)
        if X.dtype == np.float32 and bool(draws.flags["imprecise"].any()):
            with arithmetic(True):
                wide = jax.tree.map(lambda v: np.asarray(v, np.float64), (mixture, starts))
                draws = self._run(key, wide[0], X.astype(np.float64), sample_weight, wide[1], units)
            # Such parameters are only right in double precision: score rows in it, too.
            flags = {**draws.flags, "widened": np.ones((1, 1), bool)}
            return dataclasses.replace(draws, flags=flags)
        return draws

    def _run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        sample_weight: Any,
        starts: tuple[Start, ...],
        units: Units | None,
    ) -> Draws:
        d = X.shape[1]
        problem = pose(X, sample_weight, units, numbers_per_row(mixture.k, d))
        if getattr(mixture.family, "prior", None) is not None:
            model = informed(mixture, problem)
        else:
            family = mixture.family.scaled_to(problem.spread)
            model = dataclasses.replace(mixture, family=family)
        fitted, objective, objectives, traces = self._best(key, model, problem, starts)
        params, log_weights = outward(model, fitted, problem.units)
        draws = Draws(
            params=params,
            log_weights=log_weights,
            stats={**fitted.stats, "objective": objective},
            trace=traces,
            flags={**fitted.flags, "objectives": objectives},
        )
        return problem.finished(model, per_unit(one(draws), problem))

    def _best(
        self, key: Key, mixture: Mixture, problem: Problem, starts: tuple[Start, ...]
    ) -> tuple[Fitted, Array, Array, Array]:
        """Fit from every kind of start; start `i` is of kind `i` modulo their number."""
        length = trace_length(self.max_iter, self.n_init)
        if len(starts) == 1:
            return self._fit(key, mixture, problem, starts[0], self.n_init, length)
        m = min(len(starts), self.n_init)
        turns = [np.arange(i, self.n_init, m) for i in range(m)]
        found = [
            self._fit(own, mixture, problem, start, len(turn), length)
            for own, start, turn in zip(jax.random.split(key, m), starts, turns, strict=False)
        ]
        fitted, objective, objectives, traces = zip(*found, strict=True)
        order = np.argsort(np.concatenate(turns))
        best = jnp.argmax(jnp.nan_to_num(jnp.stack(objective), nan=-jnp.inf))
        kinds = jax.tree.map(lambda *v: jnp.stack(v), *zip(fitted, objective, strict=True))
        pick = entry(kinds, best)
        return *pick, jnp.concatenate(objectives)[order], jnp.concatenate(traces)[order]

    def _fit(
        self, key: Key, mixture: Mixture, problem: Problem, start: Start, n_init: int, length: int
    ) -> tuple[Fitted, Array, Array, Array]:
        """Fit from `n_init` starts of one kind.

        Returns
        -------
        fitted, objective
            Of the best start.
        objectives, traces
            Of all, ``(n_init,)`` and ``(n_init, length)``.
        """
        # Of the rows with their padding: a new n in the same bucket runs the same program. A score
        # costs an exponential and two passes over the columns, measured in multiply-adds.
        work = problem.rows.weight.size * mixture.k * 8 * (problem.d + 4)
        tol = np.asarray(self.tol, problem.dtype) if not traced(self.tol) else self.tol
        if traced(problem.rows) or work < rows_.PARALLEL_WORK:
            share = work if work < 1 << 20 else rows_.PARALLEL_WORK - 1
            if n_init == 1:
                key = start.luck(key, mixture, problem.rows, share)
            return _fit_program(
                key,
                mixture,
                problem.rows,
                start,
                tol,
                np.int32(self.max_iter),
                n_init=n_init,
                trace_length=length,
                work=share,
            )
        constants, weight = constants_of(mixture, problem.rows)
        algorithm = EMStep(mixture, constants, weight, tol)
        best: EMState | None = None
        objectives, traces = [], []
        for key_start in jax.random.split(key, n_init):
            params, log_weights = start.begin(key_start, mixture, problem.rows, constants, work)
            state = EMState.start(params, log_weights, length)
            state = run(algorithm, state, problem.rows, self.max_iter, work=work)
            objectives.append(state.objective)
            traces.append(state.trace)
            if best is None or bool(state.objective > best.objective):
                best = state
        assert best is not None
        fitted = _finish_program(mixture, best, weight)
        return fitted, best.objective, jnp.stack(objectives), jnp.stack(traces)

    @override
    def refit(self, mixture: Mixture, rows: Rows, params: Params, log_weights: Array) -> Fitted:
        constants = mixture.family.constants(rows)
        weight = jnp.sum(rows.weight)
        algorithm = EMStep(mixture, constants, weight, jnp.asarray(self.tol, rows.dtype))
        state = iterate(algorithm, EMState.start(params, log_weights), rows, self.max_iter)
        return finish(mixture, state, weight)


@functools.partial(jax.jit, static_argnames=("n_init", "trace_length", "work"))
def _fit_program(
    key: Key,
    mixture: Mixture,
    rows: Rows,
    start: Start,
    tol: Any,
    max_iter: Any,
    *,
    n_init: int,
    trace_length: int,
    work: int,
) -> tuple[Fitted, Array, Array, Array]:
    """All starts and the choice between them in one program."""
    constants, weight = constants_of(mixture, rows)
    algorithm = EMStep(mixture, constants, weight, tol)

    def once(key: Key) -> EMState:
        params, log_weights = start.begin(key, mixture, rows, constants, work)
        return iterate(algorithm, EMState.start(params, log_weights, trace_length), rows, max_iter)

    if n_init == 1:
        state = once(key)
        objective, fitted = state.objective, finish(mixture, state, weight)
        return fitted, objective, objective[None], state.trace[None]
    states = restarts(once, jax.random.split(key, n_init))
    best = jnp.argmax(jnp.where(jnp.isnan(states.objective), -jnp.inf, states.objective))
    state = entry(states, best)
    return finish(mixture, state, weight), state.objective, states.objective, states.trace


def finish(mixture: Mixture, state: EMState, weight: Array) -> Fitted:
    """What a state says as a fit."""
    eps = jnp.finfo(state.log_weights.dtype).eps
    loss = eps * mixture.family.cancellation(state.params)
    return Fitted(
        params=state.params,
        log_weights=state.log_weights,
        stats={"log_likelihood": state.objective * weight, "n_steps": state.n_steps},
        flags={
            "converged": state.converged,
            "floored": jnp.sum(mixture.family.floored(state.params)),
            "imprecise": ~(loss <= AFFORDABLE_LOSS),
        },
    )


_finish_program = jax.jit(finish)


def per_unit(draws: Draws, problem: Problem) -> Draws:
    """Objectives of densities per unit of the user's scale."""
    stretch = problem.log_scale
    stats, flags = dict(draws.stats), dict(draws.flags)
    stats["objective"] = stats["objective"] - stretch
    stats["log_likelihood"] = stats["log_likelihood"] - problem.weight * stretch
    flags["objectives"] = flags["objectives"] - stretch
    return dataclasses.replace(draws, stats=stats, trace=draws.trace - stretch, flags=flags)


def numbers_per_row(k: int, d: int) -> int:
    """Numbers an E-step holds per row: rows, scores, and whitened rows."""
    return (d + 1) + k * (d + 2)


def one(draws: Draws) -> Draws:
    """A point fit as draws: one chain of one draw."""
    host = not traced(draws)
    lift = (lambda v: np.asarray(v)[None, None]) if host else (lambda v: v[None, None])
    bare = np.asarray if host else (lambda v: v)
    return Draws(
        params={n: lift(v) for n, v in draws.params.items()},
        log_weights=lift(draws.log_weights),
        stats={n: lift(v) for n, v in draws.stats.items()},
        trace=bare(draws.trace),
        flags={n: bare(v) if n == "objectives" else lift(v) for n, v in draws.flags.items()},
    )
