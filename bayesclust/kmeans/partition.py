"""Random partitions: one sweep of a sampler whose target is k-means' own loss.

The generalised posterior of a partition ``z`` of n rows into k non-empty clusters is
``p(z | X, lambda) ~ exp(-lambda SSE(z))``, SSE the sum of squared distances to the cluster means.
Two sweeps keep it. `visit` draws one label after the other and is the Gibbs sampler itself;
`propose` draws all of them at once, given centres, and corrects by Metropolis-Hastings.

References
----------
T. Rigon, A. H. Herring and D. B. Dunson (2023), A generalized Bayes framework for probabilistic
    clustering, Biometrika 110, 559-578.
L. Tierney (1994), Markov chains for exploring posterior distributions, Ann. Stat. 22, 1701-1728,
    section 2.3: proposals that do not depend on the current state.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesclust._pytree import pytree
from bayesclust._typing import Array, Key
from bayesclust.core import assign
from bayesclust.core.linalg import (
    half_squared_distance,
    matmul,
    no_tally,
    outer_sum,
    tallied,
    tally,
)
from bayesclust.core.random import normal, uniform
from bayesclust.core.rows import Rows
from bayesclust.core.sweep import add_onto, add_up, sweep


@pytree
class Partition:
    """What the sampler must know of a partition.

    Attributes
    ----------
    counts : (k,) array
        Rows per cluster; all positive.
    mean : (k, d) array
    sse : scalar
        Sum of squared distances of rows to the mean of their cluster.
    """

    counts: Array
    mean: Array
    sse: Array


def summarise(rows: Rows, labels: Array, k: int) -> Partition:
    """The partition that labels ``(m, b)`` make; the sum of squares is taken by differences.

    Parameters
    ----------
    rows : Rows
        Of weight one, or zero where there is no row.
    labels : (m, b) int array
    k : int
    """
    d = rows.n_features
    zero = no_tally(k, d, rows.dtype)
    total = add_onto(zero, rows, lambda t, x, weight, i: tally(t, x, weight, labels[i]))
    sums, counts = tallied(total, d)
    mean = sums / jnp.maximum(counts, 1)[:, None]

    def square(x: Array, weight: Array, i: Array) -> Array:
        return jnp.sum(weight * jnp.sum(jnp.square(x - mean[labels[i]].T), axis=0))

    return Partition(counts, mean, add_up(rows, square))


def visit(key: Key, temperature: Array, rows: Rows, labels: Array, partition: Partition) -> Array:
    """Draw every label in turn from its full conditional: O(n k d), one row after the other.

    A row joins cluster k with probability proportional to
    ``exp(-lambda n_k / (n_k + 1) |x - mean_k|^2)``, counts and means without the row: the increase
    of SSE (Rigon, Herring and Dunson 2023, section 3.2). The last row of a cluster stays.

    Parameters
    ----------
    key : PRNG key
    temperature : scalar
        The inverse temperature lambda, in units of the rows.
    rows : Rows
        Of weight one, or zero where there is no row.
    labels : (m, b) int array
    partition : Partition
        That of the labels.

    Returns
    -------
    (m, b) int array
    """
    k, d = partition.mean.shape
    index = jnp.arange(k, dtype=labels.dtype)
    x = jnp.moveaxis(rows.x, -1, 1).reshape(-1, d)
    u = uniform(key, (x.shape[0],), rows.dtype)

    def turn(carry: Any, row: Any) -> Any:
        x, weight, label, u = row
        own = jnp.where(index == label, weight, 0)
        counts = carry[0] - own
        sums = carry[1] - own[:, None] * x
        gap = x - sums / jnp.maximum(counts, 1)[:, None]
        score = -temperature * counts / (counts + 1) * jnp.sum(gap * gap, axis=1)
        mass = jnp.exp(score - jnp.max(score))
        reached = jnp.cumsum(mass)
        drawn = jnp.sum(u * reached[-1] >= reached[:-1], dtype=label.dtype)
        label = jnp.where(jnp.min(counts) > 0, drawn, label)
        own = jnp.where(index == label, weight, 0)
        return (counts + own, sums + own[:, None] * x), label

    start = partition.counts, partition.counts[:, None] * partition.mean
    _, drawn = lax.scan(turn, start, (x, rows.weight.reshape(-1), labels.reshape(-1), u))
    return drawn.reshape(labels.shape)


def propose(
    key: Key, temperature: Array, rows: Rows, pilot: Array, partition: Partition
) -> tuple[Partition, Array]:
    """Draw all labels at once, given centres, and accept or reject them together.

    With centres ``mu_k ~ N(mean_k, I / (2 lambda n_k))`` beside the partition, labels given centres
    have probability proportional to ``prod_i exp(-lambda |x_i - mu_{z_i}|^2) prod_k n_k^{d/2}``.
    The first product is drawn from, with scores raised by a tilt ``t_k = d / (2 (e_k + d))`` where
    ``e_k`` is the count to expect; what is left, ``prod_k n_k^{d/2} exp(-t_k n_k)``, is nearly flat
    around ``e_k``. It decides acceptance, and is zero where a cluster is empty. Any tilt that is a
    function of centres and temperature alone keeps the target; a good one is accepted often.

    Parameters
    ----------
    key, temperature, rows, partition
        As for `visit`.
    pilot : (d, p) array
        Some rows that stand for all: the tilt is found from them.

    Returns
    -------
    partition : Partition
        Labels are not needed to go on, and not kept.
    accepted : bool scalar
    """
    key_centers, key_labels, key_accept = jax.random.split(key, 3)
    k, d = partition.mean.shape
    n = jnp.sum(partition.counts)
    noise = normal(key_centers, (k, d), rows.dtype)
    centers = partition.mean + noise / jnp.sqrt(2 * temperature * partition.counts)[:, None]

    def score(x: Array) -> Array:
        return -2 * temperature * half_squared_distance(x, centers, direct=False)

    expected = n * jnp.mean(jax.nn.softmax(score(pilot), axis=0), axis=1)
    tilt = 0.5 * d / (expected + d)

    def stats(x: Array, resp: Array) -> tuple[Array, Array, Array]:
        gap = x - matmul(centers.T, resp)
        return jnp.sum(resp, axis=1), outer_sum(resp, gap), jnp.sum(gap * gap)

    (counts, first, square), _ = sweep(
        rows, lambda x: score(x) + tilt[:, None], assign.drawn(key_labels), stats
    )

    def remainder(counts: Array) -> Array:
        return jnp.sum(0.5 * d * jnp.log(counts) - tilt * counts)

    u = uniform(key_accept, (), rows.dtype)
    accepted = jnp.log(u) < remainder(counts) - remainder(partition.counts)
    move = first / jnp.maximum(counts, 1)[:, None]
    sse = jnp.maximum(square - jnp.sum(first * move), 0)
    found = Partition(counts, centers + move, sse)
    return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), found, partition), accepted
