"""Markov chains run in chunks: between chunks live progress, interruption and checkpoints."""

from __future__ import annotations

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
    """Where a run is kept that depends on its length and on the rest; None if it is not."""
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
    """States of chains stacked in groups, one per core that drives its own program."""
    count = min(len(states), cores() if jax.default_backend() == "cpu" else 1)
    return [jax.tree.map(lambda *v: jnp.stack(v), *states[i::count]) for i in range(count)]


def run(
    program: Callable[[Any, np.ndarray], tuple[Any, Any]],
    groups: list[Any],
    length: Length,
    *,
    saved: Saved | None = None,
    progress: Progress | None = None,
) -> tuple[Any, bool]:
    """Run all chains.

    Parameters
    ----------
    program : callable
        ``(group of states, gaps) -> (group of states, records (chains, draws, ..))``, jitted.
    groups : list of pytrees
        From `groups_of`.
    length : Length
    saved : Saved, optional
        A run that was killed goes on from there to bitwise the same draws.
    progress : callable, optional
        Called for all chains together.

    Returns
    -------
    records : pytree of (c, s, ..) ndarrays
    interrupted : bool
        Ctrl-C ended the run early; the draws up to then are kept. Before the first draw it goes on
        as a KeyboardInterrupt.
    """
    plan = length.plan()
    records: list[Any] = []
    done = at = 0
    found = checkpoint.load(*saved) if saved is not None else None
    if found is not None:
        at, leaves = found
        size = len(jax.tree.leaves(groups))
        groups = checkpoint.restore(groups, leaves[:size])
        done = int(sum(gaps.sum() for gaps, _ in plan[:at]))
        if len(leaves) > size:
            shapes = jax.eval_shape(program, groups[0], plan[0][0])[1]
            records = [jax.tree.unflatten(jax.tree.structure(shapes), leaves[size:])]

    def one(group: Any, gaps: np.ndarray, kept: int) -> tuple[Any, Any]:
        group, part = program(group, gaps)
        return group, jax.tree.map(lambda v: v[:, :kept], jax.device_get(part))

    try:
        for i, (gaps, kept) in enumerate(plan[at:]):
            calls = [functools.partial(one, g, gaps, kept) for g in groups]
            # The first calls compile, which threads would do once each.
            results = [call() for call in calls] if i == 0 else threads.run(calls)
            groups = [group for group, _ in results]
            if kept:
                records.append(_gather([part for _, part in results]))
            done += int(gaps.sum())
            at += 1
            if saved is not None:
                records = [_joined(records)] if records else []
                checkpoint.save(*saved, at, (groups, records))
            if progress is not None:
                progress(done, length.total)
    except KeyboardInterrupt:
        if not records:
            raise
        return _joined(records), True
    return _joined(records), False


def _joined(records: list[Any]) -> Any:
    """Draws of all program calls, one after the other."""
    return jax.tree.map(lambda *v: np.concatenate(v, axis=1), *records)


def _gather(groups: list[Any]) -> Any:
    """Chains of all groups, in their order."""
    count = sum(len(jax.tree.leaves(g)[0]) for g in groups)
    p = len(groups)
    return jax.tree.map(lambda *v: np.stack([v[c % p][c // p] for c in range(count)]), *groups)
