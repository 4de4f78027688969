"""Mini-batch k-means: centres as running means of the rows they have served.

References
----------
D. Sculley (2010), Web-scale k-means clustering, WWW, algorithm 1, in its batched form.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from bayesclust._pytree import pytree
from bayesclust._typing import Array
from bayesclust.core.rows import Rows
from bayesclust.kmeans.lloyd import KMeansState, LloydStep, total_square, worst_served


@pytree
class MiniBatchState:
    """Centres and all the weight they have served.

    Attributes
    ----------
    centers : (k, d) array
    counts : (k,) array
        Weight served so far by each centre.
    inertia : scalar
        Weighted sum of squared distances of the last batch, before its update.
    shift : scalar
        Sum of squared moves of the centres by the last batch.
    n_steps : int scalar
    """

    centers: Array
    counts: Array
    inertia: Array
    shift: Array
    n_steps: Array

    @classmethod
    def start(cls, centers: Array) -> MiniBatchState:
        """State before the first batch."""
        dtype = centers.dtype
        inf = jnp.asarray(jnp.inf, dtype)
        return cls(centers, jnp.zeros(centers.shape[0], dtype), inf, inf, jnp.int32(0))


@functools.partial(jax.jit, static_argnames="direct")
def step(
    state: MiniBatchState, rows: Rows, reassignment_ratio: float, *, direct: bool = False
) -> MiniBatchState:
    """Take one batch in.

    A centre that has served less than `reassignment_ratio` of the best-served one's weight moves
    to the batch's worst-served row and begins anew; one centre per batch at most.

    Parameters
    ----------
    state : MiniBatchState
    rows : Rows
        The batch.
    reassignment_ratio : float
    direct : bool
        Distances by differences.
    """
    algorithm = LloydStep(jnp.zeros((), rows.dtype), total_square(rows), direct)
    stats = algorithm.sweep(KMeansState.start(state.centers), rows)
    sums, counts = stats[0]
    total = state.counts + counts
    share = (counts / jnp.where(total > 0, total, 1))[:, None]
    mean = sums / jnp.where(counts > 0, counts, 1)[:, None]
    centers = state.centers + share * (mean - state.centers)

    starved = (total < reassignment_ratio * jnp.max(total)) | (total <= 0)
    nominee = worst_served(centers, ~starved, rows)
    move = jnp.any(starved) & (nominee.value > 0)
    chosen = (jnp.arange(total.shape[0]) == jnp.argmin(total)) & move
    centers = jnp.where(chosen[:, None], nominee.row, centers)
    # A moved centre inherits the least weight of the others, so that it is not moved at once.
    least = jnp.min(jnp.where(starved, jnp.inf, total))
    return MiniBatchState(
        centers=centers,
        counts=jnp.where(chosen, least, total),
        inertia=algorithm.inertia(state.centers, stats),
        shift=jnp.sum(jnp.square(centers - state.centers)),
        n_steps=state.n_steps + 1,
    )
