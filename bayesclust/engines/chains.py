"""Markov chains run in chunks: between chunks live progress, interruption and checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust.core import threads
from bayesclust.core.rows import cores
from bayesclust.engines import checkpoint
from bayesclust.engines.progress import Progress

CHUNK = 50
"""Draws per program call."""


@dataclasses.dataclass(frozen=True)
class Length:
    """How long chains run.

    Attributes
    ----------
    num_warmup, num_draws, num_chains, thinning : int
        As for `Gibbs`.
    """

    num_warmup: int
    num_draws: int
    num_chains: int
    thinning: int

    @property
    def total(self) -> int:
        """Steps of a chain."""
        return self.num_warmup + self.num_draws * self.thinning

    def plan(self) -> list[tuple[np.ndarray, int]]:
        """Steps before each draw of every program call, and how many of its draws are kept."""

        def call(size: int, gap: int, kept: bool) -> tuple[np.ndarray, int]:
            gaps = np.where(np.arange(CHUNK) < size, gap, 0)
            return gaps.astype(np.int32), size if kept else 0

        calls = []
        parts = (self.num_warmup, 1, False), (self.num_draws, self.thinning, True)
        for count, gap, kept in parts:
            whole, rest = divmod(count, CHUNK)
            calls += [call(CHUNK, gap, kept)] * whole  # one pair of arrays, however many
            calls += [call(rest, gap, kept)] * (rest > 0)
        return calls


class Saved(NamedTuple):
    """Where a run is kept.

    Attributes
    ----------
    path : str
    mark : str
        Of all that it depends on, see `checkpoint.fingerprint`.
    """

    path: str
    mark: str


def saved_at(path: str | None, length: Length, *rest: Any) -> Saved | None:
    """Where a run is kept that depends on its length and on the rest; None if it is not.

    The rest must be what the caller gave, and nothing that sums over cores have rounded.
    """
    if path is None:
        return None
    mark = checkpoint.fingerprint((dataclasses.astuple(length), CHUNK), *rest)
    return Saved(path, mark)


def advance(step: Callable[[Any], tuple[Any, Any]], state: Any, gaps: Any) -> tuple[Any, Any]:
    """Draws of one chain; draw `i` after ``gaps[i]`` more steps. Pure.

    Parameters
    ----------
    step : callable
        ``state -> (state, record)``.
    state : pytree
    gaps : (s,) int array

    Returns
    -------
    state, records
        Records behind an axis of draws; those of a gap of zero repeat the one before.
    """
    shapes = jax.eval_shape(lambda s: step(s)[1], state)
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def draw(carry: Any, gap: Any) -> Any:
        carry = lax.fori_loop(0, gap, lambda _, c: step(c[0]), carry)
        return carry, carry[1]

    (state, _), records = lax.scan(draw, (state, blank), gaps)
    return state, records


def groups_of(states: list[Any]) -> list[Any]:
    """Stack states of chains by the program calls that drive them.

    On a CPU every chain has calls of its own: a program of several rounds otherwise than that of
    one, and draws must not depend on the number of cores. An accelerator runs all in one call.
    """
    alone = jax.default_backend() == "cpu"
    groups = [[state] for state in states] if alone else [states]
    return [jax.tree.map(lambda *v: jnp.stack(v), *group) for group in groups]


def run(
    program: Callable[[Any, np.ndarray], tuple[Any, Any]],
    states: list[Any],
    length: Length,
    *,
    saved: Saved | None = None,
    progress: Progress | None = None,
) -> tuple[Any, bool]:
    """Run all chains.

    Parameters
    ----------
    program : callable
        ``(states behind an axis of chains, gaps) -> (states, records (chains, draws, ..))``,
        jitted.
    states : list of pytrees
        Of single chains.
    length : Length
    saved : Saved, optional
        A run that was killed goes on from there to bitwise the same draws, on any number of cores.
    progress : callable, optional
        Called for all chains together.

    Returns
    -------
    records : pytree of (c, s, ..) ndarrays
    interrupted : bool
        Ctrl-C ended the run early; the draws up to then are kept. Before the first draw it goes on
        as a KeyboardInterrupt.

    Raises
    ------
    ValueError
        If the checkpoint is of another run or damaged, or another run is using it.
    OSError
        If it cannot be written.
    """
    with checkpoint.held(saved.path) if saved is not None else contextlib.nullcontext():
        return _run(program, groups_of(states), length, saved, progress)


def _run(
    program: Callable[[Any, np.ndarray], tuple[Any, Any]],
    groups: list[Any],
    length: Length,
    saved: Saved | None,
    progress: Progress | None,
) -> tuple[Any, bool]:
    plan = length.plan()
    records: list[Any] = []
    done = at = 0
    found = _resume(program, groups, plan, saved) if saved is not None else None
    if found is not None:
        at, groups, records = found
        done = int(sum(gaps.sum() for gaps, _ in plan[:at]))

    def one(group: Any, gaps: np.ndarray, kept: int) -> tuple[Any, Any]:
        group, part = program(group, gaps)
        return group, jax.tree.map(lambda v: v[:, :kept], jax.device_get(part))

    try:
        for i, (gaps, kept) in enumerate(plan[at:]):
            calls = [functools.partial(one, g, gaps, kept) for g in groups]
            # The first calls compile, which threads would do once each.
            results = [call() for call in calls] if i == 0 else _shared(calls)
            groups = [group for group, _ in results]
            if kept:
                records.append(_side_by_side([part for _, part in results]))
            done += int(gaps.sum())
            at += 1
            if saved is not None:
                records = [_joined(records)] if records else []
                states = _side_by_side([checkpoint.plain(group) for group in groups])
                checkpoint.save(*saved, at, (states, records))
            if progress is not None:
                progress(done, length.total)
    except KeyboardInterrupt:
        if not records:
            raise
        return _joined(records), True
    return _joined(records), False


def _resume(
    program: Callable[[Any, np.ndarray], tuple[Any, Any]],
    groups: list[Any],
    plan: list[tuple[np.ndarray, int]],
    saved: Saved,
) -> tuple[int, list[Any], list[Any]] | None:
    """Calls made, groups and records of an earlier run; None if there was none."""
    states = _side_by_side([checkpoint.plain(group) for group in groups])
    chains = len(jax.tree.leaves(states)[0])

    def shapes(position: int) -> Any:
        """Shapes and types of states and records after so many calls."""
        kept = sum(n for _, n in plan[:position])
        if not kept:
            return states, []
        record = jax.eval_shape(program, groups[0], plan[0][0])[1]
        return states, [
            jax.tree.map(lambda v: np.empty((chains, kept, *v.shape[2:]), v.dtype), record)
        ]

    found = checkpoint.load(*saved, len(plan), shapes)
    if found is None:
        return None
    position, (states, records) = found
    first, back = 0, []
    for group in groups:
        size = len(jax.tree.leaves(group)[0])
        part = jax.tree.map(lambda v, a=first, b=first + size: v[a:b], states)
        back.append(checkpoint.restore(group, part))
        first += size
    return position, back, records


def _shared(calls: list[Callable[[], Any]]) -> list[Any]:
    """Results of the calls, which the cores share; in order."""
    count = min(len(calls), cores())

    def some(i: int) -> list[Any]:
        return [call() for call in calls[i::count]]

    found = threads.run([functools.partial(some, i) for i in range(count)])
    return [found[c % count][c // count] for c in range(len(calls))]


def _joined(records: list[Any]) -> Any:
    """Draws of all program calls, one after the other."""
    return jax.tree.map(lambda *v: np.concatenate(v, axis=1), *records)


def _side_by_side(groups: list[Any]) -> Any:
    """Chains of all groups, in their order."""
    return jax.tree.map(lambda *v: np.concatenate(v), *groups)
