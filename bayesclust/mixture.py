"""A mixture model: a family, a weight prior, a number of components; nothing else."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key, Params
from bayesclust.core.checks import check_integer
from bayesclust.core.simplex import log_sum_exp, softmax
from bayesclust.core.units import Units, in_steps, scale_by
from bayesclust.draws import Draws
from bayesclust.families.base import Family
from bayesclust.weights.base import WeightPrior
from bayesclust.weights.dirichlet import Dirichlet


@pytree
class Mixture:
    """Mixture of `k` components of one family.

    Parameters of a mixture are those of its family, a dictionary of arrays with the components
    first, and log weights ``(k,)``. All methods are pure and work under jit, vmap and grad.

    Attributes
    ----------
    family : Family
    k : int
        Number of components, at most: one with log weight -inf is inactive.
    weights : WeightPrior

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from bayesclust import Mixture, SphericalGaussian
    >>> mixture = Mixture(SphericalGaussian(), 2)
    >>> params = {"mean": jnp.array([[0.0], [2.0]]), "var": jnp.ones(2)}
    >>> log_weights = jnp.log(jnp.array([0.5, 0.5]))
    >>> mixture.responsibilities(params, log_weights, jnp.array([[1.0]])).tolist()
    [[0.5, 0.5]]
    """

    family: Family
    k: int = static()
    weights: WeightPrior = Dirichlet()

    def log_joint(self, params: Params, log_weights: Array, X: Array) -> Array:
        """Log density of each row and each component together, ``(n, k)``."""
        return self.family.log_prob(params, X) + log_weights

    def log_density(self, params: Params, log_weights: Array, X: Array) -> Array:
        """Log density of each row, components summed out, ``(n,)``."""
        return log_sum_exp(self.log_joint(params, log_weights, X))

    def responsibilities(self, params: Params, log_weights: Array, X: Array) -> Array:
        """Probability of each component given the row, ``(n, k)``."""
        return softmax(self.log_joint(params, log_weights, X))

    def log_prior(self, params: Params, log_weights: Array) -> Array:
        """Log prior density of all parameters, scalar, up to a constant."""
        return jnp.sum(self.family.log_prior(params)) + self.weights.log_prior(log_weights)

    def sample(self, key: Key, params: Params, log_weights: Array, n: int) -> tuple[Array, Array]:
        """Draw `n` rows ``(n, d)`` and their components ``(n,)``."""
        check_integer("n", n)
        key_label, key_row = jax.random.split(key)
        z = jax.random.categorical(key_label, log_weights, shape=(n,))
        return self.family.sample(key_row, params, z), z


def unscaled(mixture: Mixture, draws: Draws, units: Units) -> Draws:
    """Bring draws from scaled units to the user's.

    Parameters
    ----------
    mixture : Mixture
    draws : Draws
        On the host. Its log densities are in the user's units already.
    units : Units

    Returns
    -------
    Draws
        Infinite, or zero, where a parameter is not representable.
    """
    if units.exponent is None:
        return draws
    params = in_steps(mixture.family.in_units, draws.params, units.exponent)
    stats, flags, trace = dict(draws.stats), dict(draws.flags), draws.trace
    if "inertia" in stats and units.common is not None:
        square = 2 * units.common[1]
        stats["inertia"] = scale_by(stats["inertia"], square)
        stats["temperature"] = scale_by(stats["temperature"], -square)
        trace = scale_by(np.asarray(trace, np.float64), square)
        if "objectives" in flags:
            flags["objectives"] = scale_by(np.asarray(flags["objectives"], np.float64), square)
    return dataclasses.replace(draws, params=params, stats=stats, trace=trace, flags=flags)
