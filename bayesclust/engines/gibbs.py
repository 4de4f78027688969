"""Blocked Gibbs sampling of a mixture: all labels, then all parameters.

References
----------
J. Diebolt and C. P. Robert (1994), Estimation of finite mixture distributions through Bayesian
    sampling, J. R. Stat. Soc. B 56, 363-375.
S. Fruehwirth-Schnatter (2001), Markov chain Monte Carlo estimation of classical and dynamic
    switching and mixture models, J. Am. Stat. Assoc. 96, 194-209: the random permutation step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key, Params
from bayesclust.core import assign, threads
from bayesclust.core import rows as rows_
from bayesclust.core.rows import Rows, cores
from bayesclust.core.sweep import sweep
from bayesclust.core.units import Units
from bayesclust.draws import Draws
from bayesclust.engines import checkpoint
from bayesclust.engines.base import Engine, Fitted, Problem, outward, pose
from bayesclust.engines.em import floats_per_row
from bayesclust.engines.starts import SeededStart, Start
from bayesclust.families.base import ConjugateFamily
from bayesclust.mixture import Mixture

CHUNK = 50
"""Draws per program call: between calls live progress, interruption and checkpoints."""


@pytree
class GibbsState:
    """Where a chain stands.

    Attributes
    ----------
    key : PRNG key
        Of the chain; each sweep folds its number in, so that how sweeps are divided among
        programs changes nothing.
    step : int scalar
        Sweeps made.
    params : dict
    log_weights : (k,) array
    weights : dict
        State of the weight prior.
    """

    key: Any
    step: Array
    params: Params
    log_weights: Array
    weights: dict[str, Array]


class Record(NamedTuple):
    """One draw: parameters and what the sweep that started from them found.

    Attributes
    ----------
    params : dict
    log_weights : (k,) array
    stats : dict of scalars
    """

    params: Params
    log_weights: Array
    stats: dict[str, Array]


def init(
    key: Key, mixture: Mixture, rows: Rows, start: Start, constants: Any, work: int
) -> GibbsState:
    """A chain at parameters that `start` chooses, see `engines.starts`."""
    key_start, key_chain = jax.random.split(key)
    params, log_weights = start.begin(key_start, mixture, rows, constants, work)
    state = mixture.weights.begin(mixture.k, log_weights.dtype)
    # A start may leave a component empty; a chain must be able to fill it.
    log_weights = jax.nn.log_softmax(jnp.maximum(log_weights, -10.0))
    return GibbsState(key_chain, jnp.int32(0), params, log_weights, state)


def step(
    mixture: Mixture, constants: Any, rows: Rows, state: GibbsState
) -> tuple[GibbsState, Record]:
    """One sweep: labels given parameters, then parameters and weights given statistics.

    Pure; works under jit and vmap. Labels are never stored.

    Parameters
    ----------
    mixture : Mixture
        Of a `ConjugateFamily` with a prior.
    constants : pytree
        ``mixture.family.constants(rows)``.
    rows : Rows
    state : GibbsState

    Returns
    -------
    state : GibbsState
    record : Record
        Of the state the sweep began at; `log_likelihood` has the labels summed out.
    """
    family = mixture.family
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 4)
    prepared = family.prepare(state.params)
    (moments, counts), log_likelihood = sweep(
        rows,
        lambda x: family.score(prepared, x) + state.log_weights[:, None],
        assign.drawn(keys[0]),
        lambda x, resp: (family.stats(prepared, x, resp), jnp.sum(resp, axis=1)),
    )
    log_prior = jnp.sum(family.log_prior(state.params))
    log_prior = log_prior + mixture.weights.log_prior(state.log_weights, state.weights)
    weights = jnp.exp(state.log_weights)
    record = Record(
        state.params,
        state.log_weights,
        {
            "log_likelihood": log_likelihood,
            "log_posterior": log_likelihood + log_prior,
            "occupied": jnp.sum(counts > 0),
            "weight_entropy": jnp.sum(jax.scipy.special.entr(weights)),
            "weight_sum_of_squares": jnp.sum(weights * weights),
            **state.weights,
        },
    )
    params = family.draw(keys[1], family.posterior(state.params, moments, constants))
    log_weights, weight_state = mixture.weights.draw(keys[2], counts, state.weights)
    order = jax.random.permutation(keys[3], mixture.k)
    params = {
        name: jnp.take(v, order, axis=family.dims[name].index("cluster"))
        if "cluster" in family.dims[name]
        else v
        for name, v in params.items()
    }
    log_weights = jnp.take(log_weights, order)
    return GibbsState(state.key, state.step + 1, params, log_weights, weight_state), record


@functools.partial(jax.jit, static_argnames="together")
def _advance(
    mixture: Mixture, constants: Any, rows: Rows, states: GibbsState, gaps: Array, *, together: bool
) -> tuple[GibbsState, Record]:
    """Draws of several chains; draw `i` after ``gaps[i]`` more sweeps."""

    def chain(state: GibbsState) -> tuple[GibbsState, Record]:
        shapes = jax.eval_shape(lambda s: step(mixture, constants, rows, s)[1], state)
        blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def draw(carry: tuple[GibbsState, Record], gap: Array) -> Any:
            def sweep_once(_: Array, c: tuple[GibbsState, Record]) -> tuple[GibbsState, Record]:
                return step(mixture, constants, rows, c[0])

            carry = lax.fori_loop(0, gap, sweep_once, carry)
            return carry, carry[1]

        (state, _), records = lax.scan(draw, (state, blank), gaps)
        return state, records

    return jax.vmap(chain)(states) if together else lax.map(chain, states)


@pytree
class Gibbs(Engine):
    """Blocked Gibbs sampling.

    Attributes
    ----------
    num_warmup : int
        Sweeps of each chain before its first draw.
    num_draws : int
        Draws kept of each chain.
    num_chains : int
    thinning : int
        Sweeps per draw.
    checkpoint : str, optional
        File to keep the run in. A run that was killed goes on from there when it is started
        again with the same data, model, settings and key, and gives bitwise the same draws.
    """

    needs: ClassVar[type[ConjugateFamily]] = ConjugateFamily

    num_warmup: int = static(default=500)
    num_draws: int = static(default=1000)
    num_chains: int = static(default=4)
    thinning: int = static(default=1)
    checkpoint: str | None = static(default=None)

    def run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        *,
        sample_weight: Any = None,
        start: Start | None = None,
        units: Units | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Draws:
        """Sample from host data; see `Engine.run`.

        Parameters
        ----------
        key, mixture, X, sample_weight, units
            As for `Engine.run`. A prior of the family is in the units of `X`; without one the
            default of `ConjugateFamily.informed` is taken.
        start : Start, optional
            Where chains begin; default: k-means++ seeds of their own, which are overdispersed.
        progress : callable, optional
            Called as ``progress(sweeps_done, sweeps)``, for all chains together.

        Returns
        -------
        Draws
            Unaligned, components permuted at random; ``flags["interrupted"]`` where Ctrl-C cut
            the run short and the draws so far are returned.
        """
        X = np.asarray(X)
        with jax.enable_x64(X.dtype == np.float64):
            problem = pose(X, sample_weight, units, floats_per_row(mixture.k, X.shape[1]))
            model = fitted_out(mixture, problem)
            return self._run(key, model, problem, start or SeededStart(), progress)

    def _run(
        self,
        key: Key,
        mixture: Mixture,
        problem: Problem,
        start: Start,
        progress: Callable[[int, int], None] | None,
    ) -> Draws:
        rows = problem.rows
        work = rows.weight.size * mixture.k * 8 * (problem.d + 4)
        constants = jax.jit(lambda m, r: m.family.constants(r))(mixture, rows)
        begin = jax.jit(init, static_argnames="work") if work < rows_.PARALLEL_WORK else init
        states = [
            begin(k, mixture, rows, start, constants, work=work)
            for k in jax.random.split(key, self.num_chains)
        ]
        # One program runs several chains side by side where a block is small, else in turn.
        together = rows.x.shape[0] == 1
        groups = [
            jax.tree.map(lambda *v: jnp.stack(v), *states[i :: self._groups])
            for i in range(self._groups)
        ]
        records: list[Any] = []
        interrupted = False
        plan = self._plan()
        done, total = 0, self.num_warmup + self.num_draws * self.thinning
        mark, at = "", 0
        if self.checkpoint is not None:
            settings = (self.num_warmup, self.num_draws, self.num_chains, self.thinning, CHUNK)
            mark = checkpoint.fingerprint(settings, key, mixture, rows, problem.units.shift)
            found = checkpoint.load(self.checkpoint, mark)
            if found is not None:
                at, leaves = found
                size = len(jax.tree.leaves(groups))
                groups = checkpoint.restore(groups, leaves[:size])
                done = int(sum(gaps.sum() for gaps, _ in plan[:at]))
                if len(leaves) > size:
                    shapes = jax.eval_shape(
                        lambda s: step(mixture, constants, rows, s)[1], states[0]
                    )
                    records = [jax.tree.unflatten(jax.tree.structure(shapes), leaves[size:])]

        def advance(group: GibbsState, gaps: np.ndarray) -> tuple[GibbsState, Any]:
            moved, found = _advance(mixture, constants, rows, group, gaps, together=together)
            return moved, jax.device_get(found)

        try:
            for gaps, kept in plan[at:]:
                results = threads.run([functools.partial(advance, g, gaps) for g in groups])
                groups = [moved for moved, _ in results]
                if kept:
                    records.append(
                        _gather([jax.tree.map(lambda v: v[:, :kept], r) for _, r in results])  # noqa: B023
                    )
                done += int(gaps.sum())
                at += 1
                if self.checkpoint is not None:
                    records = [_joined(records)] if records else []
                    checkpoint.save(self.checkpoint, mark, at, (groups, records))
                if progress is not None:
                    progress(done, total)
        except KeyboardInterrupt:
            if not records:
                raise
            interrupted = True
        return self._lay_out(mixture, _joined(records), problem, interrupted)

    @property
    def _groups(self) -> int:
        """Programs that run at the same time, one per core."""
        on_cpu = jax.default_backend() == "cpu"
        return min(self.num_chains, cores() if on_cpu else 1)

    def _plan(self) -> list[tuple[np.ndarray, int]]:
        """Gaps of every program call, and how many of its draws are kept."""
        plan = []
        left = self.num_warmup
        while left > 0:
            size = min(left, CHUNK)
            plan.append((np.where(np.arange(CHUNK) < size, 1, 0).astype(np.int32), 0))
            left -= size
        for first in range(0, self.num_draws, CHUNK):
            kept = min(CHUNK, self.num_draws - first)
            gaps = np.where(np.arange(CHUNK) < kept, self.thinning, 0)
            plan.append((gaps.astype(np.int32), kept))
        return plan

    def _lay_out(
        self, mixture: Mixture, found: Record, problem: Problem, interrupted: bool
    ) -> Draws:
        fitted = Fitted(found.params, found.log_weights, found.stats, {})
        params, log_weights = outward(mixture, fitted, problem.units, 2)
        stats = {n: np.asarray(v, np.float64) for n, v in found.stats.items()}
        shift = problem.weight * problem.log_scale
        stats["log_likelihood"] = stats["log_likelihood"] - shift
        stats["log_posterior"] = stats["log_posterior"] - shift
        shape = np.shape(found.log_weights)[:2]
        return Draws(
            params=params,
            log_weights=log_weights,
            stats=stats,  # type: ignore[arg-type]
            trace=np.zeros((0, 0)),  # type: ignore[arg-type]
            flags={"interrupted": np.full(shape, interrupted)},  # type: ignore[dict-item]
        )


def fitted_out(mixture: Mixture, problem: Problem) -> Mixture:
    """The mixture with a proper prior, everything in the fit's units."""
    family = mixture.family
    assert isinstance(family, ConjugateFamily)
    shift, scale = problem.units.shift, problem.units.scale
    inner: Any = family.in_prior_units(-shift / scale, 1.0 / scale)
    inner = inner.scaled_to(jnp.asarray(problem.spread)).informed(mixture.k)
    inner = jax.tree.map(lambda v: jnp.asarray(v, problem.dtype), inner)
    return dataclasses.replace(mixture, family=inner)


def _joined(records: list[Any]) -> Any:
    """Draws of all program calls, one after the other."""
    return jax.tree.map(lambda *v: np.concatenate(v, axis=1), *records)


def _gather(groups: list[Any]) -> Any:
    """Chains of all groups, in their order."""
    count = sum(len(jax.tree.leaves(g)[0]) for g in groups)
    p = len(groups)

    def interleave(*values: np.ndarray) -> np.ndarray:
        return np.stack([values[c % p][c // p] for c in range(count)])

    return jax.tree.map(interleave, *groups)
