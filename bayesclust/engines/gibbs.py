"""Blocked Gibbs sampling of a mixture: all labels, then all parameters.

References
----------
J. Diebolt and C. P. Robert (1994), Estimation of finite mixture distributions through Bayesian
    sampling, J. R. Stat. Soc. B 56, 363-375.
S. Fruehwirth-Schnatter (2001), Markov chain Monte Carlo estimation of classical and dynamic
    switching and mixture models, J. Am. Stat. Assoc. 96, 194-209: the random permutation step.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key, Params
from bayesclust.core import assign
from bayesclust.core import rows as rows_
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.random import random_order, uniform
from bayesclust.core.rows import Rows
from bayesclust.core.sweep import sweep
from bayesclust.core.units import Units, read_rows
from bayesclust.draws import Draws
from bayesclust.engines import chains
from bayesclust.engines.base import Engine, Problem, check, check_whole_weights, constants_of, pose
from bayesclust.engines.em import numbers_per_row
from bayesclust.engines.progress import Progress, shown
from bayesclust.engines.record import Record, informed, label_free, lay_out
from bayesclust.engines.starts import SeededStart, Start, chosen
from bayesclust.families.base import ConditionalFamily
from bayesclust.mixture import Mixture


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
    weights, family : dict
        Hyperparameters that are drawn, of the weights and of the family.
    """

    key: Any
    step: Array
    params: Params
    log_weights: Array
    weights: dict[str, Array]
    family: dict[str, Array]


def init(
    key: Key, mixture: Mixture, rows: Rows, start: Start, constants: Any, work: int
) -> GibbsState:
    """A chain at parameters that `start` chooses, see `engines.starts`."""
    key_start, key_chain = jax.random.split(key)
    params, log_weights = start.begin(key_start, mixture, rows, constants, work)
    state = mixture.weights.begin(mixture.k, log_weights.dtype)
    # A start may leave a component empty; a chain must be able to fill it.
    log_weights = jax.nn.log_softmax(jnp.maximum(log_weights, -10.0))
    return GibbsState(key_chain, jnp.int32(0), params, log_weights, state, mixture.family.begin())


def step(
    mixture: Mixture, constants: Any, rows: Rows, state: GibbsState, *, weighted: bool = True
) -> tuple[GibbsState, Record]:
    """One sweep: labels given parameters, then parameters and weights given statistics.

    Pure; works under jit and vmap. Labels are never stored.

    Parameters
    ----------
    mixture : Mixture
        Of a `ConditionalFamily` with a prior.
    constants : pytree
        ``mixture.family.constants(rows)``.
    rows : Rows
        A weight is a number of rows alike, each with a label of its own: whole numbers.
    state : GibbsState
    weighted : bool
        False promises that all weights are zero or one, for which less is to be drawn.

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
        assign.counted(keys[0], rows.weight) if weighted else assign.drawn(keys[0]),
        lambda x, resp: (family.stats(prepared, x, resp), jnp.sum(resp, axis=1)),
    )
    record = Record(
        state.params,
        state.log_weights,
        {
            **label_free(
                mixture,
                state.params,
                state.log_weights,
                log_likelihood,
                state.weights,
                state.family,
            ),
            "occupied": jnp.sum(counts > 0),
        },
    )
    params, hyper = family.redraw(keys[1], state.params, moments, constants, state.family)
    log_weights, weight_state = mixture.weights.draw(keys[2], counts, state.weights)
    order = _relabelling(keys[3], mixture, log_weights, weight_state)
    params = {
        name: jnp.take(v, order, axis=family.dims[name].index("cluster"))
        if "cluster" in family.dims[name]
        else v
        for name, v in params.items()
    }
    log_weights = jnp.take(log_weights, order)
    state = GibbsState(state.key, state.step + 1, params, log_weights, weight_state, hyper)
    return state, record


def _relabelling(key: Key, mixture: Mixture, log_weights: Array, state: dict[str, Array]) -> Array:
    """A random order ``(k,)`` of the components, which leaves the posterior as it is.

    Only the weights' prior can tell components apart, so its ratio is that of Metropolis and
    Hastings; under a symmetric one every order is taken.
    """
    key_order, key_take = jax.random.split(key)
    order = random_order(key_order, mixture.k)
    prior = mixture.weights.log_prior
    gain = prior(jnp.take(log_weights, order), state) - prior(log_weights, state)
    kept = jnp.log(uniform(key_take, (), gain.dtype)) < gain
    return jnp.where(kept, order, jnp.arange(mixture.k))


@functools.partial(jax.jit, static_argnames=("weighted", "together"))
def _advance(
    mixture: Mixture,
    constants: Any,
    rows: Rows,
    states: GibbsState,
    gaps: Array,
    *,
    weighted: bool,
    together: bool,
) -> tuple[GibbsState, Record]:
    def sweep_once(state: GibbsState) -> tuple[GibbsState, Record]:
        return step(mixture, constants, rows, state, weighted=weighted)

    def chain(state: GibbsState) -> tuple[GibbsState, Record]:
        return chains.advance(sweep_once, state, gaps)

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
        again with the same data, model, settings and key, and gives bitwise the same draws, on any
        number of cores. One run at a time may use it.
    """

    needs: ClassVar[type[ConditionalFamily]] = ConditionalFamily

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
        progress: Progress | None = None,
    ) -> Draws:
        """Sample from host data; see `Engine.run`.

        Parameters
        ----------
        key, mixture, X, units
            As for `Engine.run`. A prior of the family is in the units of `X`; without one the
            default of `ConditionalFamily.informed` is taken.
        sample_weight : (n,) array, optional
            Whole numbers. Weight 2 is the row twice, and its copies may have different labels.
        start : Start, optional
            Where chains begin; default: k-means++ seeds of their own, which are overdispersed.
        progress : callable, optional
            Called as ``progress(sweeps_done, sweeps)``, for all chains together.

        Returns
        -------
        Draws
            Unaligned, components permuted at random; ``flags["interrupted"]`` where Ctrl-C cut
            the run short and the draws so far are returned.

        Raises
        ------
        ValueError
            If weights are not whole numbers.
        """
        X, sample_weight = read_rows(X, sample_weight, units)
        check(self, mixture, X, key)
        check_whole_weights(sample_weight, "Gibbs", "take NUTS, SVI or CAVI")
        with arithmetic(X.dtype == np.float64):
            problem = pose(X, sample_weight, units, numbers_per_row(mixture.k, X.shape[1]))
            model = informed(mixture, problem)
            # A weight of nought takes nothing more to draw than one.
            weighted = sample_weight is not None and bool(np.any(np.asarray(sample_weight) > 1))
            return self._run(key, model, problem, chosen(start, SeededStart()), weighted, progress)

    def _run(
        self,
        key: Key,
        mixture: Mixture,
        problem: Problem,
        start: Start,
        weighted: bool,
        progress: Progress | None,
    ) -> Draws:
        rows = problem.rows
        work = rows.weight.size * mixture.k * 8 * (problem.d + 4)
        constants, _ = constants_of(mixture, rows)
        begin = jax.jit(init, static_argnames="work") if work < rows_.PARALLEL_WORK else init
        states = [
            begin(k, mixture, rows, start, constants, work=work)
            for k in jax.random.split(key, self.num_chains)
        ]
        # On a CPU chains in turn are faster for few rows, and about even for many.
        together = jax.default_backend() != "cpu"
        units = (problem.units.shift, problem.units.scale)
        saved = chains.saved_at(self.checkpoint, self._length, key, mixture, rows, units, start)

        def call(group: GibbsState, gaps: np.ndarray) -> tuple[GibbsState, Record]:
            return _advance(
                mixture, constants, rows, group, gaps, weighted=weighted, together=together
            )

        with shown(progress, "Gibbs sweeps") as watch:
            found, interrupted = chains.run(call, states, self._length, saved=saved, progress=watch)
        return lay_out(mixture, found, problem, {"interrupted": interrupted})

    @property
    def _length(self) -> chains.Length:
        return chains.Length(self.num_warmup, self.num_draws, self.num_chains, self.thinning)
