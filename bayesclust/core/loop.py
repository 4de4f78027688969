"""Loops around the sweep: inside a program (`iterate`) or on the host over many parts (`drive`)."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from bayesclust._typing import Array
from bayesclust.core import threads
from bayesclust.core.rows import Rows, bucket, spread

TRACED = 1 << 20
"""Numbers that the traces of a fit may hold. A fit goes on beyond them; its trace does not."""


class Algorithm(abc.ABC):
    """One step of a fit, as a pytree: its fields are settings, hyperparameters and constants.

    A state is any pytree with the scalar fields `n_steps` and `converged`.
    """

    @abc.abstractmethod
    def sweep(self, state: Any, rows: Rows) -> Any:
        """Additive statistics of the rows at this state."""

    @abc.abstractmethod
    def update(self, state: Any, stats: Any) -> Any:
        """The next state, from the statistics of all rows."""

    def unsettled(self, state: Any) -> Array:
        """Whether the state must see single rows again before the next sweep."""
        return jnp.asarray(False)

    def nominate(self, state: Any, rows: Rows) -> Any:
        """What these rows offer to an unsettled state; a pytree with a scalar `value`."""
        raise TypeError(f"{type(self).__name__} never nominates rows")

    def settle(self, state: Any, nominee: Any) -> Any:
        """The state after taking the nominee of the highest value."""
        return state


def iterate(algorithm: Algorithm, state: Any, rows: Rows, max_steps: Any) -> Any:
    """Step until converged or `max_steps`, inside one program."""

    def going(s: Any) -> Array:
        return ~s.converged & (s.n_steps < max_steps)

    def step(s: Any) -> Any:
        s = algorithm.update(s, algorithm.sweep(s, rows))
        return settle_all(algorithm, s, rows)

    return lax.while_loop(going, step, state)


def restarts(once: Callable[[Array], Any], keys: Array) -> Any:
    """Stack ``once(key)`` over keys inside a program.

    One after the other on a CPU: each ends when it has converged, and one is compiled instead of
    a batch of them, in half the time. An accelerator runs all at once.
    """
    if jax.default_backend() == "cpu":
        return lax.map(once, keys)
    return jax.vmap(once)(keys)


def entry(stacked: Any, i: Array) -> Any:
    """Entry `i` of stacked pytrees."""
    i = i.astype(jnp.uint32)  # else every array would be asked what a negative one means
    return jax.tree.map(lambda v: lax.dynamic_index_in_dim(v, i, keepdims=False), stacked)


def record(trace: Array, step: Array, value: Array) -> Array:
    """Write a step's value into a trace; one of length zero records nothing."""
    return trace.at[step].set(value, mode="drop") if trace.shape[0] else trace


def trace_length(max_iter: int, n_init: int = 1) -> int:
    """Length of a trace, so that all starts' together stay within `TRACED` numbers."""
    return bucket(min(max_iter, max(TRACED // n_init, 1)))


def settle_all(algorithm: Algorithm, state: Any, rows: Rows) -> Any:
    """Settle until nothing is left to do (usually zero turns)."""
    if type(algorithm).settle is Algorithm.settle:
        return state

    def turn(s: Any) -> Any:
        return algorithm.settle(s, algorithm.nominate(s, rows))

    return lax.while_loop(algorithm.unsettled, turn, state)


@jax.jit
def _sweep(algorithm: Algorithm, state: Any, rows: Rows) -> Any:
    return algorithm.sweep(state, rows)


@jax.jit
def _update(algorithm: Algorithm, state: Any, stats: Sequence[Any]) -> tuple[Any, Array, Array]:
    state = algorithm.update(state, total(stats))
    return state, ~state.converged, algorithm.unsettled(state)


def total(stats: Sequence[Any]) -> Any:
    """Statistics of all rows, from those of the parts."""
    return jax.tree.map(lambda *s: sum(s[1:], s[0]), *stats)


@jax.jit
def _nominate(algorithm: Algorithm, state: Any, rows: Rows) -> Any:
    return algorithm.nominate(state, rows)


@jax.jit
def _settle(algorithm: Algorithm, state: Any, nominees: Sequence[Any]) -> tuple[Any, Array]:
    stacked = jax.tree.map(lambda *v: jnp.stack(v), *nominees)
    state = algorithm.settle(state, entry(stacked, jnp.argmax(stacked.value)))
    return state, algorithm.unsettled(state)


def over_parts(call: Callable[..., Any], state: Any, parts: Sequence[Rows]) -> list[Any]:
    """Apply a jitted ``call(state, rows)`` to every part at the same time.

    Parts on one device run in threads; parts on several devices are dispatched one after the
    other, run together, and their results return to the first.
    """
    homes = [next(iter(part.x.devices())) for part in parts]
    if len(set(homes)) == 1:
        if len(parts) == 1:
            return [call(state, parts[0])]
        return threads.run(
            [lambda part=part: jax.block_until_ready(call(state, part)) for part in parts]
        )
    out = [call(jax.device_put(state, home), part) for home, part in zip(homes, parts, strict=True)]
    return [jax.device_put(r, homes[0]) for r in out]


def drive(
    algorithm: Algorithm,
    state: Any,
    parts: Sequence[Rows],
    max_steps: int,
    *,
    watch: Callable[[Any], None] | None = None,
) -> Any:
    """Step until converged or `max_steps`, from the host: all cores or devices sweep together.

    Parameters
    ----------
    algorithm, state
        As for `iterate`.
    parts : sequence of Rows
        From `rows.spread`.
    max_steps : int
    watch : callable, optional
        Called with the state after every step (progress bars, history).
    """
    going = not bool(state.converged)
    step = int(state.n_steps)

    def call(stage: Any) -> Callable[..., Any]:
        return lambda state, part: stage(*state, part)

    while going and step < max_steps:
        stats = over_parts(call(_sweep), (algorithm, state), parts)
        state, more, unsettled = _update(algorithm, state, stats)
        while bool(unsettled):
            nominees = over_parts(call(_nominate), (algorithm, state), parts)
            state, unsettled = _settle(algorithm, state, nominees)
            more = True
        step += 1
        going = bool(more)
        if watch is not None:
            watch(state)
    return state


@jax.jit
def _iterate(algorithm: Algorithm, state: Any, rows: Rows, max_steps: Any) -> Any:
    return iterate(algorithm, state, rows, max_steps)


def run(
    algorithm: Algorithm,
    state: Any,
    rows: Rows,
    max_steps: Any,
    *,
    work: int,
    watch: Callable[[Any], None] | None = None,
) -> Any:
    """Step until converged, by the driver that suits the size: the one place that chooses.

    `work` is the number of multiply-adds of one sweep. Inside somebody's program, and for small
    data, the loop is part of the program; else every core or device sweeps its share.
    """
    if isinstance(rows.x, Tracer):
        return iterate(algorithm, state, rows, max_steps)
    parts = spread(rows, work)
    if len(parts) == 1 and watch is None:
        return _iterate(algorithm, state, rows, max_steps)
    return drive(algorithm, state, parts, int(max_steps), watch=watch)
