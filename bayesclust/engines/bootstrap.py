"""Weighted-likelihood bootstrap: refits under random row weights.

References
----------
M. A. Newton and A. E. Raftery (1994), Approximate Bayesian inference with the weighted likelihood
    bootstrap, J. R. Stat. Soc. B 56, 3-48.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree, static
from bayesclust._typing import Key
from bayesclust.core import threads
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.gamma import gamma
from bayesclust.core.loop import restarts
from bayesclust.core.random import uniform
from bayesclust.core.rows import Rows, cores
from bayesclust.core.units import Units, in_steps, natural_units, read_rows
from bayesclust.draws import Draws
from bayesclust.engines.base import Engine, Fitted, PointEngine, Problem, check, outward, pose
from bayesclust.engines.em import numbers_per_row
from bayesclust.mixture import Mixture, unscaled

CHAINS = 4
"""Replicates are independent; they are laid out as chains so that tools for draws can read them."""


@pytree
class Bootstrap(Engine):
    """Refit a point engine under Dirichlet row weights, from its point fit.

    Each replicate multiplies the rows by ``n Dirichlet(1, .., 1)`` weights, or by gamma weights
    whose shapes are the sample weights, and starts at the point fit. The draws are in the
    replicates' own labelling: align them before reading components.

    Attributes
    ----------
    base : PointEngine
        The engine to refit.
    num_draws : int
        Number of replicates.
    memory : int
        Bytes that the replicates of one program may take.
    """

    base: PointEngine
    num_draws: int = static(default=200)
    memory: int = static(default=1 << 28)

    def run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        *,
        sample_weight: Any = None,
        start: Draws | Any = None,
        units: Units | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Draws:
        """Run all replicates on host data; see `Engine.run`.

        Parameters
        ----------
        key, mixture, X, sample_weight, units
            As for `Engine.run`.
        start : Draws or start of the base engine, optional
            The point fit, if there is one already.
        progress : callable, optional
            Called as ``progress(done, num_draws)``.
        """
        X, sample_weight = read_rows(X, sample_weight, units)
        check(self, mixture, X, key)
        check(self.base, mixture, X)
        key_point, key_draws = jax.random.split(key)
        own = natural_units(X, sample_weight) if units is None else units
        if not isinstance(start, Draws):
            start = self.base.run(
                key_point, mixture, X, sample_weight=sample_weight, start=start, units=own
            )
        elif units is None and own.exponent is not None:
            inner = in_steps(mixture.family.in_units, start.params, -own.exponent)
            start = dataclasses.replace(start, params=inner)
        with arithmetic(X.dtype == np.float64):
            draws = self._run(key_draws, mixture, X, sample_weight, start, own, progress)
        return draws if units is not None else unscaled(mixture, draws, own)

    def _run(
        self,
        key: Key,
        mixture: Mixture,
        X: np.ndarray,
        sample_weight: Any,
        start: Draws,
        units: Units,
        progress: Callable[[int, int], None] | None,
    ) -> Draws:
        problem = pose(X, sample_weight, units, numbers_per_row(mixture.k, X.shape[1]))
        model = Mixture(mixture.family.scaled_to(problem.spread), mixture.k, mixture.weights)
        shift, scale = problem.units.shift, problem.units.scale
        point = {name: np.asarray(v[0, 0], np.float64) for name, v in start.params.items()}
        point = model.family.in_units(point, -shift / scale, 1.0 / scale)
        point = {name: np.asarray(v, problem.dtype) for name, v in point.items()}
        log_weights = np.asarray(start.log_weights[0, 0], problem.dtype)
        size = self._together(problem.rows, model.k)
        keys = jax.random.split(key, self.num_draws)
        cuts = range(0, self.num_draws, size)
        done = 0

        def batch(first: int) -> Fitted:
            # The last batch repeats keys rather than run a program of another shape.
            index = np.minimum(np.arange(first, first + size), self.num_draws - 1)
            fitted = _refit_many(
                self.base,
                model,
                problem.rows,
                point,
                log_weights,
                keys[index],
                whole=sample_weight is None,
            )
            kept = min(size, self.num_draws - first)
            return jax.tree.map(lambda v: np.asarray(v)[:kept], jax.device_get(fitted))

        results: list[Fitted] = []
        step = cores() if jax.default_backend() == "cpu" else 1
        for i in range(0, len(cuts), step):
            calls = [functools.partial(batch, first) for first in cuts[i : i + step]]
            results.extend(threads.run(calls))
            done = min((i + len(calls)) * size, self.num_draws)
            if progress is not None:
                progress(done, self.num_draws)
        return self._lay_out(model, results, problem)

    def _together(self, rows: Rows, k: int) -> int:
        """Replicates per program: within memory, and enough programs for all cores."""
        bytes_each = rows.weight.size * rows.dtype.itemsize * 3
        tile = rows.block * numbers_per_row(k, rows.n_features) * rows.dtype.itemsize
        most = max(1, self.memory // (bytes_each + tile))
        fair = -(-self.num_draws // (2 * cores()))
        return int(max(1, min(most, fair, BATCH)))

    def _lay_out(self, mixture: Mixture, results: list[Fitted], problem: Problem) -> Draws:
        units = problem.units
        fitted: Fitted = jax.tree.map(lambda *v: np.concatenate(v), *results)
        params, log_weights = outward(mixture, fitted, units)
        chains = CHAINS if self.num_draws % CHAINS == 0 else 1

        def lay(v: np.ndarray) -> np.ndarray:
            return v.reshape(chains, -1, *v.shape[1:])

        common = float(np.exp(2 * np.mean(np.log(units.scale))))
        stats = {name: lay(np.asarray(v, np.float64)) for name, v in fitted.stats.items()}
        if "log_likelihood" in stats:
            stats["log_likelihood"] -= problem.weight * problem.log_scale
        if "inertia" in stats and np.all(units.scale == units.scale[0]):
            stats["inertia"] = stats["inertia"] * common
            stats["temperature"] = stats["temperature"] / common
        return Draws(
            params={name: lay(v) for name, v in params.items()},
            log_weights=lay(log_weights),
            stats=stats,
            trace=np.zeros((0, 0)),
            flags={name: lay(v) for name, v in fitted.flags.items()},
        )


BATCH = 16
"""Most replicates per program: a program runs until its slowest replicate has converged."""


@functools.partial(jax.jit, static_argnames="whole")
def _refit_many(
    base: PointEngine,
    mixture: Mixture,
    rows: Rows,
    params: Any,
    log_weights: Any,
    keys: Any,
    *,
    whole: bool,
) -> Fitted:
    def refit(key: Key) -> Fitted:
        if whole:
            draw = -jnp.log1p(-uniform(key, rows.weight.shape, rows.dtype)) * rows.weight
        else:
            positive = rows.weight > 0
            shape = jnp.where(positive, rows.weight, 1)
            draw = jnp.where(positive, gamma(key, shape), 0)
        draw = draw * (jnp.sum(rows.weight) / jnp.sum(draw))
        return base.refit(mixture, dataclasses.replace(rows, weight=draw), params, log_weights)

    return restarts(refit, keys)
