"""A mixture as a NumPyro program, labels summed out.

References
----------
D. Phan, N. Pradhan and M. Jankowiak (2019), Composable effects for flexible and accelerated
    probabilistic programming in NumPyro, arXiv:1912.11554.
"""

from __future__ import annotations

import sys

import jax.numpy as jnp
import numpyro

# Not `from numpyro.distributions import ..`: where ArviZ has left a lazy numpyro in sys.modules,
# that would import the subpackage twice, and the second one misses names of submodules.
from numpyro import distributions as dist

from bayesclust._typing import Array, Key, Params
from bayesclust.mixture import Mixture

# The one thing that is changed in another package: `import arviz`, then `import
# numpyro.distributions` by the caller, has made it twice already. Without its missing names every
# potential energy fails: "module 'numpyro.distributions' has no attribute 'distribution'".
for _name, _module in list(sys.modules.items()):
    _package, _, _last = _name.rpartition(".")
    if _package == "numpyro.distributions" and not hasattr(dist, _last):
        setattr(dist, _last, _module)


class MixtureDensity(dist.Distribution):
    """The density of a row of a mixture, as a NumPyro distribution.

    Parameters
    ----------
    mixture : Mixture
    params : dict
        Of the family, in the units of the rows.
    log_weights : (k,) array
    d : int
        Columns.
    """

    support = dist.constraints.real_vector
    pytree_data_fields = ("mixture", "params", "log_weights")

    def __init__(self, mixture: Mixture, params: Params, log_weights: Array, d: int) -> None:
        self.mixture, self.params, self.log_weights = mixture, params, log_weights
        super().__init__(batch_shape=(), event_shape=(d,), validate_args=False)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Rows ``(*sample_shape, d)``."""
        n = 1
        for size in sample_shape:
            n *= size
        X, _ = self.mixture.sample(key, self.params, self.log_weights, n)
        return X.reshape(*sample_shape, *self.event_shape)

    def log_prob(self, value: Array) -> Array:
        """Log density of rows ``(.., d)``."""
        rows = value.reshape(-1, value.shape[-1])
        density = self.mixture.log_density(self.params, self.log_weights, rows)
        return density.reshape(value.shape[:-1])

    def component_log_probs(self, value: Array) -> Array:
        """Log joint density of rows and components ``(.., k)``; their softmax is membership."""
        rows = value.reshape(-1, value.shape[-1])
        joint = self.mixture.log_joint(self.params, self.log_weights, rows)
        return joint.reshape(*value.shape[:-1], -1)


def parameter_sites(mixture: Mixture) -> tuple[Params, Array]:
    """Parameters and log weights from the mixture's priors, as NumPyro sample statements.

    Sites are ``weights``, the family's parameters in a plate ``cluster``, and hyperparameters
    that have a prior. Call it inside a program of your own and go on from there.

    Parameters
    ----------
    mixture : Mixture
        Of a family with a proper prior; `Family.scaled_to` and `informed` set one.
    """
    log_weights = mixture.weights.sample_sites(mixture.k)
    return mixture.family.sample_sites(mixture.k), log_weights


def row_sites(
    mixture: Mixture,
    params: Params,
    log_weights: Array,
    X: Array | None,
    sample_weight: Array | None = None,
    shape: tuple[int, int] | None = None,
) -> Array:
    """The rows of a mixture in a plate ``obs``, as the NumPyro site ``x``.

    Parameters
    ----------
    mixture : Mixture
    params, log_weights
        See `parameter_sites`.
    X : (n, d) array or None
        None draws the rows: give `shape` then.
    sample_weight : (n,) array, optional
        Powers of the rows' densities; zero leaves a row out.
    shape : (int, int), optional
        Rows and columns, where `X` is None.
    """
    if X is None and shape is None:
        raise ValueError("without X the rows are drawn: give shape=(rows, columns)")
    n, d = X.shape if X is not None else shape
    density = MixtureDensity(mixture, params, log_weights, d)
    with numpyro.plate("obs", n):
        if sample_weight is None:
            return numpyro.sample("x", density, obs=X, infer={"event_dims": ["feature"]})
        kept = sample_weight > 0
        scale = jnp.where(kept, sample_weight, 1.0)  # NumPyro refuses a scale of zero
        with numpyro.handlers.mask(mask=kept), numpyro.handlers.scale(scale=scale):
            return numpyro.sample("x", density, obs=X, infer={"event_dims": ["feature"]})


def program(
    mixture: Mixture,
    X: Array | None = None,
    sample_weight: Array | None = None,
    shape: tuple[int, int] | None = None,
) -> Array:
    """The Bayesian mixture as a NumPyro program.

    Parameters
    ----------
    mixture : Mixture
        Of a family with a proper prior.
    X : (n, d) array, optional
        None draws the rows, too: the prior predictive distribution.
    sample_weight : (n,) array, optional
    shape : (int, int), optional
        Rows and columns, where `X` is None.

    Returns
    -------
    (n, d) array
        The rows.

    Examples
    --------
    >>> import jax, numpyro
    >>> from bayesclust import DiagonalGaussian, Mixture
    >>> from bayesclust.engines.program import program
    >>> mixture = Mixture(DiagonalGaussian(spread=jax.numpy.ones(2)).informed(3), 3)
    >>> with numpyro.handlers.seed(rng_seed=0):
    ...     program(mixture, shape=(5, 2)).shape
    (5, 2)
    """
    params, log_weights = parameter_sites(mixture)
    return row_sites(mixture, params, log_weights, X, sample_weight, shape)
