"""K-means with a posterior: Markov chains over partitions, the temperature learned.

The target is the generalised posterior of a partition ``z`` into k non-empty clusters and of its
inverse temperature, ``p(z, lambda | X) ~ lambda^{a + n d / 2 - 1} exp(-lambda (b + SSE(z)))``.
Given a partition, ``lambda ~ Gamma(a + n d / 2, b + SSE)``.

References
----------
T. Rigon, A. H. Herring and D. B. Dunson (2023), A generalized Bayes framework for probabilistic
    clustering, Biometrika 110, 559-578.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.gamma import gamma
from bayesclust.core.random import normal
from bayesclust.core.rows import Rows
from bayesclust.core.units import Units, read_rows
from bayesclust.draws import Draws
from bayesclust.engines import chains
from bayesclust.engines.base import Engine, Fitted, Problem, check, outward, pose
from bayesclust.engines.hard import in_scaled, spheres
from bayesclust.engines.progress import Progress, shown
from bayesclust.families.base import Family
from bayesclust.families.spherical import SphericalGaussian
from bayesclust.kmeans import partition as partition_
from bayesclust.kmeans.fit import fit
from bayesclust.kmeans.partition import Partition
from bayesclust.mixture import Mixture

VISITED_ROWS = 1000
"""Up to so many rows labels are drawn one after the other; beyond, all at once. Measured."""

PILOT_ROWS = 256
"""Rows that find the tilt of the proposals."""

STARTS = 10
"""K-means fits of which the best begins a chain; next to the sweeps they cost little."""


@pytree
class Target:
    """The gamma distribution that the inverse temperature has given a partition, short of its SSE.

    Attributes
    ----------
    shape : scalar
        ``a + n d / 2``.
    rate : scalar
        ``b``, and what keeps the temperature finite where every row sits on its centre: no
        distance is known better than to the rounding of the data.
    """

    shape: Array
    rate: Array

    def draw(self, key: Key, sse: Array) -> Array:
        """Inverse temperature given a partition."""
        draw = gamma(key, jnp.asarray(self.shape, sse.dtype))
        return draw / (self.rate + sse)


@pytree
class PartitionState:
    """Where a chain stands.

    Attributes
    ----------
    key, key_centers : PRNG keys
        Of the chain's sweeps, and of the centres that `stand_for` draws; each sweep folds its
        number in.
    step : int scalar
        Sweeps made.
    temperature : scalar
        The inverse temperature lambda.
    partition : Partition
    labels : (m, b) int32 array or None
        Kept where labels are drawn one after the other.
    """

    key: Any
    key_centers: Any
    step: Array
    temperature: Array
    partition: Partition
    labels: Array | None


def init(key: Key, target: Target, rows: Rows, labels: Array, k: int) -> PartitionState:
    """A chain at a partition; labels ``(m, b)`` are in block layout, every cluster has rows."""
    partition = partition_.summarise(rows, labels, k)
    temperature = target.shape / (target.rate + partition.sse)
    key_sweeps, key_centers = jax.random.split(key)
    return PartitionState(key_sweeps, key_centers, jnp.int32(0), temperature, partition, labels)


def step(target: Target, rows: Rows, pilot: Array, state: PartitionState) -> PartitionState:
    """One sweep: labels given the temperature, then the temperature given labels.

    Pure; works under jit and vmap. A state that keeps labels draws them one after the other, any
    other draws them all at once, see `kmeans.partition`; the target is the same.

    Parameters
    ----------
    target : Target
    rows : Rows
        Of weight one, or zero where there is no row.
    pilot : (d, p) array
        Some of the rows, evenly spaced.
    state : PartitionState

    Returns
    -------
    PartitionState
    """
    key_labels, key_temperature = jax.random.split(jax.random.fold_in(state.key, state.step))
    temperature, partition, labels = state.temperature, state.partition, state.labels
    if labels is None:
        partition, _ = partition_.propose(key_labels, temperature, rows, pilot, partition)
    else:
        labels = partition_.visit(key_labels, temperature, rows, labels, partition)
        # Counted anew, so that rounding does not pile up over sweeps.
        partition = partition_.summarise(rows, labels, partition.counts.shape[0])
    temperature = target.draw(key_temperature, partition.sse)
    return dataclasses.replace(
        state, step=state.step + 1, temperature=temperature, partition=partition, labels=labels
    )


def stand_for(state: PartitionState, draw_centers: bool) -> Fitted:
    """The mixture that a state stands for.

    Parameters
    ----------
    state : PartitionState
    draw_centers : bool
        False: spheres of variance ``(m + 1) / (2 lambda m)`` around the means of clusters of `m`
        rows, see `engines.hard.spheres`. True: spheres of variance
        ``1 / (2 lambda)`` around centres drawn from ``N(mean, I / (2 lambda m))``; averaged over
        the centres they have the spread of the former.
    """
    counts, mean = state.partition.counts, state.partition.mean
    var, log_weights = spheres(jnp, counts, state.temperature, mean.shape[1])
    share = counts / jnp.sum(counts)
    if draw_centers:
        key = jax.random.fold_in(state.key_centers, state.step)
        noise = normal(key, mean.shape, mean.dtype)
        mean = mean + noise / jnp.sqrt(2 * state.temperature * counts)[:, None]
        var = jnp.full_like(counts, 0.5) / state.temperature
        log_weights = jnp.full_like(counts, -np.log(counts.shape[0]))
    stats = {
        "inertia": state.partition.sse,
        "temperature": state.temperature,
        "size_entropy": jnp.sum(jax.scipy.special.entr(share)),
    }
    return Fitted({"mean": mean, "var": var}, log_weights, stats, {})


_begin = jax.jit(init, static_argnames="k")


@functools.partial(jax.jit, static_argnames=("draw_centers", "together"))
def _advance(
    target: Target,
    rows: Rows,
    pilot: Array,
    states: PartitionState,
    gaps: Array,
    *,
    draw_centers: bool,
    together: bool,
) -> tuple[PartitionState, Fitted]:
    def chain(state: PartitionState) -> tuple[PartitionState, Fitted]:
        def sweep(state: PartitionState) -> tuple[PartitionState, Fitted]:
            state = step(target, rows, pilot, state)
            return state, stand_for(state, draw_centers)

        return chains.advance(sweep, state, gaps)

    return jax.vmap(chain)(states) if together else lax.map(chain, states)


@pytree
class PartitionGibbs(Engine):
    """Markov chains over the partitions of k-means' generalised posterior.

    Up to `VISITED_ROWS` rows this is the Gibbs sampler itself, one label after the other; beyond,
    all labels are proposed at once.

    Attributes
    ----------
    num_warmup : int
        Sweeps of each chain before its first draw.
    num_draws : int
        Draws kept of each chain.
    num_chains : int
    thinning : int
        Sweeps per draw: where clusters overlap one sweep moves little, and costs little.
    shape, rate : float
        Gamma prior of the inverse temperature, the rate in units of squared distance.
    draw_centers : bool
        Draw centres around the clusters' means too. The posterior of partitions takes the rows as
        they are, so that without it intervals say only which rows are together, not how far the
        means of other rows would lie; see `stand_for`. Probabilities are nearly the same.
    checkpoint : str, optional
        As for `Gibbs`.
    """

    needs: ClassVar[type[Family]] = SphericalGaussian

    shape: Any = 0.0
    rate: Any = 0.0
    num_warmup: int = static(default=500)
    num_draws: int = static(default=200)
    num_chains: int = static(default=4)
    thinning: int = static(default=10)
    draw_centers: bool = static(default=True)
    checkpoint: str | None = static(default=None)

    def run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        *,
        sample_weight: Any = None,
        start: Any = None,
        units: Units | None = None,
        progress: Progress | None = None,
    ) -> Draws:
        """Sample from host data; see `Engine.run`.

        Parameters
        ----------
        key, mixture, X, units
            As for `Engine.run`.
        sample_weight : (n,) array, optional
            Whole numbers. Weight 2 is the row twice, and its copies may join different clusters.
        start : (n,) int array, optional
            Labels that all chains begin at; default: k-means fits of their own.
        progress : callable, optional
            Called as ``progress(sweeps_done, sweeps)``, for all chains together.

        Returns
        -------
        Draws
            Unaligned; ``flags["interrupted"]`` where Ctrl-C cut the run short and the draws so
            far are returned. `stats` are `inertia` (SSE), `temperature` (lambda), `size_entropy`
            and `log_posterior`, the log of ``p(z, lambda | X)`` up to a constant.

        Raises
        ------
        ValueError
            If weights are not whole numbers, or there are fewer rows than clusters.
        """
        X, sample_weight = read_rows(X, sample_weight, units)
        check(self, mixture, X, key)
        if sample_weight is not None:
            times = repetitions(sample_weight)
            X = np.repeat(X, times, axis=0)
            start = None if start is None else np.repeat(np.asarray(start), times)
        if len(X) < mixture.k:
            raise ValueError(f"{len(X)} rows make no {mixture.k} clusters: give more rows")
        with arithmetic(X.dtype == np.float64):
            problem = pose(X, None, units, numbers_per_row(mixture.k, X.shape[1]))
            return self._run(key, mixture, X, problem, start, progress)

    def _run(
        self,
        key: Key,
        mixture: Mixture,
        X: np.ndarray,
        problem: Problem,
        start: Any,
        progress: Progress | None,
    ) -> Draws:
        rows, k, n = problem.rows, mixture.k, problem.n
        target = self._target(X, problem)
        # Evenly spaced, and always as many: few rows are taken several times.
        places = np.linspace(0, n - 1, PILOT_ROWS).round().astype(int)
        pilot = jnp.asarray(problem.units.inward(X[places]).T)
        visited = n <= VISITED_ROWS
        states = []
        for key_chain in jax.random.split(key, self.num_chains):
            key_start, key_state = jax.random.split(key_chain)
            labels = start
            if labels is None:
                labels = fit(key_start, X, k, n_init=STARTS, units=problem.units).labels
            blocks = np.zeros(rows.weight.size, np.int32)
            blocks[:n] = all_occupied(labels, k)
            state = _begin(key_state, target, rows, blocks.reshape(rows.weight.shape), k=k)
            states.append(state if visited else dataclasses.replace(state, labels=None))
        together = jax.default_backend() != "cpu"

        def call(group: PartitionState, gaps: np.ndarray) -> tuple[PartitionState, Fitted]:
            return _advance(
                target,
                rows,
                pilot,
                group,
                gaps,
                draw_centers=self.draw_centers,
                together=together,
            )

        length = chains.Length(self.num_warmup, self.num_draws, self.num_chains, self.thinning)
        kind = (self.draw_centers, visited, mixture)
        units = (problem.units.shift, problem.units.scale)
        saved = chains.saved_at(self.checkpoint, length, kind, key, target, rows, units, start)
        with shown(progress, "sweeps of partitions") as watch:
            found, interrupted = chains.run(call, states, length, saved=saved, progress=watch)
        return self._lay_out(mixture, found, problem, interrupted)

    def _target(self, X: np.ndarray, problem: Problem) -> Target:
        n, d, dtype = problem.n, problem.d, problem.dtype
        variance = float(np.sum(problem.units.variance(X, None)))
        least = float(np.finfo(dtype).eps) ** 2 * n * variance if variance > 0 else 1.0
        rate = in_scaled(self.rate, problem.units) / _square_unit(problem.units) + least
        return Target(jnp.asarray(self.shape + n * d / 2, dtype), jnp.asarray(rate, dtype))

    def _lay_out(
        self, mixture: Mixture, found: Fitted, problem: Problem, interrupted: bool
    ) -> Draws:
        params, log_weights = outward(mixture, found, problem.units)
        stats = {name: np.asarray(v, np.float64) for name, v in found.stats.items()}
        square = _square_unit(problem.units)
        stats["inertia"] = stats["inertia"] * square
        stats["temperature"] = stats["temperature"] / square
        shape = self.shape + problem.n * problem.d / 2
        loss = stats["temperature"] * (in_scaled(self.rate, problem.units) + stats["inertia"])
        stats["log_posterior"] = (shape - 1) * np.log(stats["temperature"]) - loss
        draws = Draws(
            params=params,
            log_weights=log_weights,
            stats=stats,
            trace=np.zeros((0, 0)),
            flags={"interrupted": np.full(log_weights.shape[:2], interrupted)},
        )
        return problem.finished(mixture, draws)


def numbers_per_row(k: int, d: int) -> int:
    """Numbers a sweep holds per row; measured."""
    return 2 * (k + d)


def repetitions(sample_weight: Any) -> np.ndarray:
    """How often each row counts, ``(n,)`` int.

    Half a row has no label of its own, so only whole numbers have a posterior of partitions.
    """
    weight = np.asarray(sample_weight, np.float64)
    if (weight != np.round(weight)).any():
        raise ValueError(
            "sample_weight must hold whole numbers for uncertainty='gibbs', where a weight of 2 is "
            "the row twice: round the weights, or use uncertainty='bootstrap'"
        )
    return weight.astype(np.int64)


def all_occupied(labels: Any, k: int) -> np.ndarray:
    """Labels ``(n,)`` with a row for every cluster: the largest one gives to those without."""
    labels = np.array(labels, np.int32)
    counts = np.bincount(labels, minlength=k)
    for empty in np.flatnonzero(counts == 0):
        largest = np.argmax(counts)
        labels[np.flatnonzero(labels == largest)[-1]] = empty
        counts[largest] -= 1
        counts[empty] = 1
    return labels


def _square_unit(units: Units) -> float:
    """The fit's unit of squared distance in the user's; one where columns have units of their own.

    Inertia and temperature are then measured in those, as a point fit's are.
    """
    common = bool(np.all(units.scale == units.scale[0]))
    return float(units.scale[0] ** 2) if common else 1.0
