"""K-means as an engine: its answer is a mixture of equal-temperature spheres.

References
----------
T. Rigon, A. H. Herring and D. B. Dunson (2023), A generalized Bayes framework for probabilistic
    clustering, Biometrika 110, 559-578. With loss ``lambda |x - c_k|^2`` a row belongs to cluster k
    with probability proportional to ``exp(-lambda |x - c_k|^2)``, and given the partition
    ``lambda ~ Gamma(a + n d / 2, b + SSE)``. Integrated over centres that follow from the rows of
    a partition, the exponent is ``-lambda m_k / (m_k + 1) |x - mean_k|^2``: see `partition_gibbs`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, override

import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree, static, traced
from bayesclust._typing import Array, Key, Params
from bayesclust.core.loop import iterate
from bayesclust.core.rows import Rows
from bayesclust.core.units import Units, natural_units, read_rows, scale_by
from bayesclust.draws import Draws
from bayesclust.engines.base import Fitted, PointEngine, check
from bayesclust.engines.em import one
from bayesclust.families.base import Family
from bayesclust.families.spherical import SphericalGaussian
from bayesclust.kmeans.fit import KMeansFit, fit
from bayesclust.kmeans.lloyd import KMeansState, LloydStep, total_square
from bayesclust.kmeans.seeding import greedy
from bayesclust.mixture import Mixture, unscaled


@pytree
class Lloyd(PointEngine):
    """Lloyd's algorithm; the temperature of the memberships is learned from the data.

    Attributes
    ----------
    tol : float
        Relative to the mean column variance, as in `kmeans.fit`.
    max_iter, n_init : int
    shape, rate : float
        Gamma prior of the inverse temperature, the rate in units of squared distance.
    """

    needs: ClassVar[type[Family]] = SphericalGaussian

    tol: Any = 1e-4
    shape: Any = 0.0
    rate: Any = 0.0
    max_iter: int = static(default=300)
    n_init: int = static(default=1)

    def run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        *,
        sample_weight: Any = None,
        start: Any = None,
        units: Units | None = None,
    ) -> Draws:
        """Fit by k-means; see `Engine.run`. `start` is what `kmeans.fit` takes as `init`."""
        own = units
        if not traced(key, mixture, X, sample_weight, start):
            X, sample_weight = read_rows(X, sample_weight, units)
            own = natural_units(X, sample_weight) if units is None else units
        check(self, mixture, X, key)
        result = fit(
            key,
            X,
            mixture.k,
            sample_weight=sample_weight,
            init=greedy if start is None else start,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            units=own,
        )
        if own is None or traced(result):
            weight = jnp.asarray(X.shape[0] if sample_weight is None else jnp.sum(sample_weight))
            spread = jnp.var(X, axis=0)
            scale = jnp.ones(X.shape[1], X.dtype)
            return self.draws(result, weight, jnp.sum(spread), scale)
        draws = self.stand_for(result, X, sample_weight, own)
        return draws if units is not None else unscaled(mixture, draws, own)

    def stand_for(
        self, result: KMeansFit, X: np.ndarray, sample_weight: Any, units: Units
    ) -> Draws:
        """The mixture a k-means fit of these rows stands for, in scaled units."""
        variance = units.variance(X, sample_weight) * units.scale**2
        weight = len(X) if sample_weight is None else np.sum(sample_weight, dtype=float)
        common = bool(np.all(units.scale == units.scale[0]))
        scale = np.ones(len(units.scale)) if common else units.scale
        prior = dataclasses.replace(self, rate=in_scaled(self.rate, units))
        return prior.draws(result, weight, np.sum(variance / scale**2), scale)

    def draws(self, result: KMeansFit, weight: Any, variance: Any, scale: Any) -> Draws:
        """The mixture a k-means fit stands for, as one draw.

        Parameters
        ----------
        result : KMeansFit
        weight : scalar
            Total weight of the rows.
        variance : scalar
            Sum of the column variances, in the units of the inertia.
        scale : (d,) array
            Units the inertia is measured in, per column.
        """
        xp = jnp if traced(result) else np
        d = result.centers.shape[1]
        dtype = result.centers.dtype if xp is jnp else np.float64
        counts = xp.asarray(result.counts, dtype)
        inertia = xp.asarray(result.inertia, dtype)
        temperature = self._temperature(inertia, weight, d, variance, result.centers.dtype)
        var, log_weights = equal_spheres(xp, counts, temperature)
        var = var * (scale ** (2.0 / d)).prod()
        return one(
            Draws(
                params={"mean": xp.asarray(result.centers, dtype), "var": var},
                log_weights=log_weights,
                stats={
                    "inertia": inertia,
                    "temperature": temperature,
                    "n_steps": result.n_steps,
                },
                trace=result.trace[None],
                flags={
                    "converged": result.converged,
                    "short": result.short,
                    "imprecise": result.imprecise,
                    "objectives": result.objectives,
                },
            )
        )

    def _temperature(self, inertia: Any, weight: Any, d: int, variance: Any, dtype: Any) -> Any:
        """Posterior mean of lambda given the partition: ``(a + n d / 2) / (b + SSE)``.

        Rows that all sit on their centres leave it finite: no distance is known better than to
        the rounding of the data.
        """
        xp = jnp if traced(inertia, weight, variance) else np
        eps = jnp.finfo(dtype).eps
        least = xp.where(variance > 0, eps**2 * weight * variance, 1.0)
        rate = self.rate + inertia
        return (self.shape + 0.5 * weight * d) / xp.maximum(rate, least)

    @override
    def refit(self, mixture: Mixture, rows: Rows, params: Params, log_weights: Array) -> Fitted:
        d = rows.n_features
        square = total_square(rows)
        weight = jnp.sum(rows.weight)
        algorithm = LloydStep(jnp.asarray(self.tol * d / 4, rows.dtype) * 0, square, False)
        state = iterate(algorithm, KMeansState.start(params["mean"]), rows, self.max_iter)
        temperature = self._temperature(state.inertia, weight, d, square / weight, rows.dtype)
        var, log_weights = equal_spheres(jnp, state.counts, temperature)
        return Fitted(
            params={"mean": state.centers, "var": var},
            log_weights=log_weights,
            stats={
                "inertia": state.inertia,
                "temperature": temperature,
                "n_steps": state.n_steps,
            },
            flags={
                "converged": state.converged,
                "short": state.short,
                "imprecise": jnp.asarray(False),
            },
        )


def in_scaled(rate: Any, units: Units) -> Any:
    """A squared distance in scaled units from one in the user's, where distances have a unit."""
    if units.exponent is None or units.common is None:
        return rate
    return scale_by(float(rate), -2 * units.common[1])


def equal_spheres(xp: Any, counts: Any, temperature: Any) -> tuple[Any, Any]:
    """Variances and log weights whose responsibilities are ``softmax(-lambda |x - c_k|^2)``.

    Spheres of one size and one weight, so that the nearest centre is the most probable one;
    clusters without rows have no weight.
    """
    occupied = counts > 0
    var = xp.full(counts.shape, 0.5, counts.dtype) / temperature
    return var, xp.where(occupied, -xp.log(xp.sum(occupied).astype(counts.dtype)), -xp.inf)


def spheres(xp: Any, counts: Any, temperature: Any, d: int) -> tuple[Any, Any]:
    """Variances and log weights whose responsibilities are those of a partition's posterior.

    A row joins cluster k, its centre integrated out, with probability proportional to
    ``exp(-lambda m_k / (m_k + 1) |x - mean_k|^2)``. ``var_k = (m_k + 1) / (2 lambda m_k)`` gives
    the exponent; weights proportional to ``var_k^{d/2}`` cancel the normalising constants.
    """
    occupied = counts > 0
    ratio = (counts + 1) / xp.where(occupied, counts, 1)
    log_mass = xp.where(occupied, 0.5 * d * xp.log(ratio), -xp.inf)
    top = log_mass.max()
    log_weights = log_mass - (top + xp.log(xp.exp(log_mass - top).sum()))
    return ratio / (2 * temperature), log_weights
