"""Coordinate ascent variational inference: soft assignments, and posteriors instead of points.

References
----------
C. M. Bishop (2006), Pattern Recognition and Machine Learning, section 10.2: updates and bound.
M. D. Hoffman, D. M. Blei, C. Wang and J. Paisley (2013), Stochastic variational inference, J. Mach.
    Learn. Res. 14, 1303-1347: mini-batches; eq. 26 for the rates.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, Self, override

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key, Params
from bayesclust.core import assign
from bayesclust.core import rows as rows_
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.loop import Algorithm, iterate, record, restarts, run, trace_length
from bayesclust.core.rows import Rows, pack_host
from bayesclust.core.sweep import sweep
from bayesclust.core.units import Units, read_rows
from bayesclust.draws import Draws
from bayesclust.engines.base import Engine, Problem, check, constants_of, pose
from bayesclust.engines.em import numbers_per_row
from bayesclust.engines.progress import Progress, shown
from bayesclust.engines.record import Record, informed, lay_out, score
from bayesclust.engines.starts import KMeansStart, Start, chosen
from bayesclust.families.base import ConjugateFamily
from bayesclust.families.prior import ConjugatePrior
from bayesclust.mixture import Mixture


@pytree
class CAVIState:
    """Where a run stands.

    Attributes
    ----------
    params : dict
        At which the expected log density of a row is the log density plus `offset`.
    offset : (k,) array
        Expected log weights included.
    hyper : pytree
        Posterior of the components.
    counts : (k,) array
        Expected rows of each component.
    objective : scalar
        Evidence lower bound per unit of weight, of the posterior the last sweep began at.
    n_steps : int scalar
    converged : bool scalar
    trace : (t,) array
        Bound by step; infinite where no step was made, and at the first, which begins at a point.
    """

    params: Params
    offset: Array
    hyper: Any
    counts: Array
    objective: Array
    n_steps: Array
    converged: Array
    trace: Array

    @classmethod
    def start(
        cls, mixture: Mixture, params: Params, log_weights: Array, constants: Any, length: int = 0
    ) -> Self:
        """State before the first sweep, which scores rows at a point."""
        family: Any = mixture.family
        dtype = log_weights.dtype
        x = jnp.zeros((params["mean"].shape[1], 1), dtype)
        nothing = family.stats(family.prepare(params), x, jnp.zeros((mixture.k, 1), dtype))
        return cls(
            params=params,
            offset=log_weights,
            hyper=family.posterior(params, nothing, constants),
            counts=jnp.zeros(mixture.k, dtype),
            objective=jnp.asarray(-jnp.inf, dtype),
            n_steps=jnp.int32(0),
            converged=jnp.asarray(False),
            trace=jnp.full(length, jnp.inf, dtype),
        )


@pytree
class CAVIStep(Algorithm):
    """Responsibilities given posteriors, then posteriors given responsibilities, in one sweep.

    Attributes
    ----------
    mixture : Mixture
        With a conjugate prior.
    constants : pytree
        Of the family.
    weight : scalar
        Total weight of the rows.
    tol : scalar
        Converged when the bound per unit of weight changes by less than this.
    """

    mixture: Mixture
    constants: Any
    weight: Any
    tol: Any

    @override
    def sweep(self, state: CAVIState, rows: Rows) -> Any:
        family = self.mixture.family
        prepared = family.prepare(state.params)
        return sweep(
            rows,
            lambda x: family.score(prepared, x) + state.offset[:, None],
            assign.soft,
            lambda x, resp: (family.stats(prepared, x, resp), jnp.sum(resp, axis=1)),
        )

    @override
    def update(self, state: CAVIState, stats: Any) -> CAVIState:
        (moments, counts), value = stats
        family: Any = self.mixture.family
        objective = self.bound(state, value)
        # A change below the rounding error of the objective is none.
        noise = 4 * jnp.finfo(objective.dtype).eps * jnp.abs(objective)
        change = jnp.abs(objective - state.objective)
        written = jnp.where(state.n_steps > 0, objective, jnp.inf)
        state = dataclasses.replace(
            state,
            objective=objective,
            n_steps=state.n_steps + 1,
            converged=change < jnp.maximum(self.tol, noise),
            trace=record(state.trace, state.n_steps, written),
        )
        return self.at(state, family.posterior(state.params, moments, self.constants), counts)

    def at(self, state: CAVIState, hyper: Any, counts: Array) -> CAVIState:
        """The state with this posterior."""
        family: Any = self.mixture.family
        params, offset = family.expected(hyper)
        offset = offset + self.mixture.weights.expected_log(counts)
        return dataclasses.replace(state, params=params, offset=offset, hyper=hyper, counts=counts)

    def bound(self, state: CAVIState, value: Array) -> Array:
        """Evidence lower bound per unit of weight; `value` is the sum of the rows' log sums.

        With the best responsibilities in place, Bishop (2006), eq. 10.70 is the log sums less
        the divergences of the posteriors from their priors.
        """
        family: Any = self.mixture.family
        divergence = family.kl(state.hyper) + self.mixture.weights.kl(state.counts)
        bound = (value - divergence) / self.weight
        return jnp.where(state.n_steps > 0, bound, -jnp.inf).astype(value.dtype)


@pytree
class CAVI(Engine):
    """Coordinate ascent variational inference.

    The posterior is taken to be a product of one of weights, parameters and one of labels. Fast,
    and its bound on the evidence grows with every step; it says too little of how unsure it is.

    Attributes
    ----------
    tol : float
        Converged when the bound per row changes by less than this.
    max_iter : int
        Sweeps, or passes over all mini-batches.
    n_init : int
        Number of starts; the one of greatest bound is returned.
    num_draws : int
        Draws from the fitted posterior.
    batch_size : int, optional
        Rows per mini-batch, for stochastic variational inference.
    delay, forgetting : float
        Step `t` over mini-batches has the rate ``(t + delay)^-forgetting``, with `forgetting`
        above 1/2 and at most 1.
    """

    needs: ClassVar[type[ConjugateFamily]] = ConjugateFamily
    needs_prior: ClassVar[type] = ConjugatePrior

    tol: Any = 1e-6
    max_iter: int = static(default=500)
    n_init: int = static(default=1)
    num_draws: int = static(default=1000)
    batch_size: int | None = static(default=None)
    delay: Any = 1.0
    forgetting: Any = 0.7

    def run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        *,
        sample_weight: Any = None,
        start: Start | None = None,
        units: Units | None = None,
        progress: Progress | None = None,
    ) -> Draws:
        """Fit host data; see `Engine.run`.

        Parameters
        ----------
        key, mixture, X, sample_weight, units
            As for `Engine.run`; the prior is treated as by `Gibbs.run`.
        start : Start, optional
            Responsibilities of the first sweep are those at this point; default: k-means.
        progress : callable, optional
            Called as ``progress(passes_done, max_iter)`` when there are mini-batches.

        Returns
        -------
        Draws
            Of the fitted posterior, as one chain; the trace is the bound per row, by start.
        """
        X, sample_weight = read_rows(X, sample_weight, units)
        check(self, mixture, X, key)
        with arithmetic(X.dtype == np.float64):
            problem = pose(X, sample_weight, units, numbers_per_row(mixture.k, X.shape[1]))
            model = informed(mixture, problem)
            key_fit, key_draw = jax.random.split(key)
            start = chosen(start, KMeansStart())
            if self.batch_size is None:
                state, objectives, traces = self._fit(key_fit, model, problem, start)
            else:
                state, objectives, traces = self._stream(
                    key_fit, model, problem, start, X, sample_weight, progress
                )
            found = _draws(key_draw, model, problem.rows, state, num_draws=self.num_draws)
            flags = {"converged": np.asarray(state.converged)}
            stretch = problem.log_scale
            draws = lay_out(model, found, problem, flags, np.asarray(traces) - stretch)
            bound = float(state.objective - stretch) * float(problem.weight)
            stats = {**draws.stats, "bound": np.full(draws.shape, bound)}
            flags = {**draws.flags, "objectives": np.asarray(objectives) - stretch}
            return dataclasses.replace(draws, stats=stats, flags=flags)

    def _fit(
        self, key: Key, mixture: Mixture, problem: Problem, start: Start
    ) -> tuple[CAVIState, Array, Array]:
        """The best state, the bound of every start, and their traces."""
        work = problem.rows.weight.size * mixture.k * 8 * (problem.d + 4)
        length = trace_length(self.max_iter, self.n_init)
        tol = np.asarray(self.tol, problem.dtype)
        if work < rows_.PARALLEL_WORK:
            return _fit_program(
                key,
                mixture,
                problem.rows,
                start,
                tol,
                np.int32(self.max_iter),
                n_init=self.n_init,
                length=length,
                work=work if work < 1 << 20 else rows_.PARALLEL_WORK - 1,
            )
        constants, weight = constants_of(mixture, problem.rows)
        algorithm = CAVIStep(mixture, constants, weight, tol)
        states = []
        for key_start in jax.random.split(key, self.n_init):
            params, log_weights = start.begin(key_start, mixture, problem.rows, constants, work)
            state = CAVIState.start(mixture, params, log_weights, constants, length)
            states.append(run(algorithm, state, problem.rows, self.max_iter, work=work))
        objectives = jnp.stack([s.objective for s in states])
        best = int(jnp.argmax(objectives))
        return states[best], objectives, jnp.stack([s.trace for s in states])

    def _stream(
        self,
        key: Key,
        mixture: Mixture,
        problem: Problem,
        start: Start,
        X: np.ndarray,
        sample_weight: Any,
        progress: Progress | None,
    ) -> tuple[CAVIState, Array, Array]:
        """The same, by mini-batches of rows in random order."""
        n = len(X)
        assert self.batch_size is not None
        key_order, key_start, key_pass = jax.random.split(key, 3)
        order = np.asarray(jax.random.permutation(key_order, n))
        shuffled = pack_host(
            X[order],
            None if sample_weight is None else np.asarray(sample_weight)[order],
            shift=problem.units.shift,
            scale=problem.units.scale,
            exponent=problem.units.exponent,
            block=min(self.batch_size, n),
        )
        constants, weight = constants_of(mixture, problem.rows)
        algorithm = CAVIStep(mixture, constants, weight, np.asarray(self.tol, problem.dtype))
        work = problem.rows.weight.size * mixture.k * 8 * (problem.d + 4)
        params, log_weights = start.begin(key_start, mixture, problem.rows, constants, work)
        length = trace_length(self.max_iter)
        state = CAVIState.start(mixture, params, log_weights, constants, length)
        rates = tuple(np.asarray(v, problem.dtype) for v in (self.delay, self.forgetting))
        with shown(progress, "CAVI passes") as watch:
            for i in range(self.max_iter):
                key_now = jax.random.fold_in(key_pass, i)
                state = _pass(algorithm, state, shuffled, key_now, np.int32(i), rates)
                if watch is not None:
                    watch(i + 1, self.max_iter)
                if bool(state.converged):
                    break
        return state, state.objective[None], state.trace[None]


@functools.partial(jax.jit, static_argnames=("n_init", "length", "work"))
def _fit_program(
    key: Key,
    mixture: Mixture,
    rows: Rows,
    start: Start,
    tol: Any,
    max_iter: Any,
    *,
    n_init: int,
    length: int,
    work: int,
) -> tuple[CAVIState, Array, Array]:
    constants, weight = constants_of(mixture, rows)
    algorithm = CAVIStep(mixture, constants, weight, tol)

    def once(key: Key) -> CAVIState:
        params, log_weights = start.begin(key, mixture, rows, constants, work)
        state = CAVIState.start(mixture, params, log_weights, constants, length)
        return iterate(algorithm, state, rows, max_iter)

    states = restarts(once, jax.random.split(key, n_init))
    best = jnp.argmax(jnp.where(jnp.isnan(states.objective), -jnp.inf, states.objective))
    return jax.tree.map(lambda v: v[best], states), states.objective, states.trace


@jax.jit
def _pass(
    algorithm: CAVIStep, state: CAVIState, rows: Rows, key: Key, number: Array, rates: Any
) -> CAVIState:
    """All mini-batches once, in random order; then the bound, from a sweep over all of them.

    Statistics of a batch stand for all rows; the posterior moves towards theirs in its natural
    parameters (Hoffman et al. 2013, Figure 4).
    """
    family: Any = algorithm.mixture.family
    blocks = rows.x.shape[0]
    delay, forgetting = rates
    order = jax.random.permutation(key, blocks)

    def batch(j: Array, state: CAVIState) -> CAVIState:
        i = order[j]
        part = Rows(rows.x[i][None], rows.weight[i][None], jnp.int32(0), jnp.int32(1))
        here = jnp.sum(part.weight)
        share = jnp.where(here > 0, algorithm.weight / here, 0)
        (moments, counts), _ = algorithm.sweep(state, part)
        constants = family.constants(part)
        moments, constants = jax.tree.map(lambda v: v * share, (moments, constants))
        hyper = family.posterior(state.params, moments, constants)
        step = (number * blocks + j).astype(rows.dtype)
        rate = jnp.where(here > 0, (step + delay) ** -forgetting, 0)
        rate = jnp.minimum(rate, 1)
        counts = state.counts + rate * (counts * share - state.counts)
        return algorithm.at(state, family.blend(state.hyper, hyper, rate), counts)

    state = jax.lax.fori_loop(0, blocks, batch, state)
    state = dataclasses.replace(state, n_steps=state.n_steps + 1)
    _, value = algorithm.sweep(state, rows)
    objective = algorithm.bound(state, value)
    return dataclasses.replace(
        state,
        objective=objective,
        converged=jnp.abs(objective - state.objective) < algorithm.tol,
        trace=record(state.trace, number, objective),
    )


@functools.partial(jax.jit, static_argnames="num_draws")
def _draws(key: Key, mixture: Mixture, rows: Rows, state: CAVIState, *, num_draws: int) -> Record:
    """Draws ``(1, s, ..)`` from the fitted posterior."""
    family: Any = mixture.family
    begin = mixture.weights.begin(mixture.k, rows.dtype)

    def one(key: Key) -> tuple[Params, Array]:
        key_params, key_weights = jax.random.split(key)
        log_weights, _ = mixture.weights.draw(key_weights, state.counts, begin)
        return family.draw(key_params, state.hyper), log_weights

    params, log_weights = jax.vmap(one)(jax.random.split(key, num_draws))
    hyper = jax.tree.map(lambda v: jnp.broadcast_to(v, (1, num_draws, *v.shape)), begin)
    lifted = jax.tree.map(lambda v: v[None], (params, log_weights))
    return score(mixture, rows, *lifted, hyper, {})
