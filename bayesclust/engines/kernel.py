"""Blocked Gibbs sampling as a NumPyro kernel, for `numpyro.infer.MCMC` and its composable Gibbs.

References
----------
D. Phan, N. Pradhan and M. Jankowiak (2019), Composable effects for flexible and accelerated
    probabilistic programming in NumPyro, arXiv:1912.11554.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# This first: it loads a numpyro that ArviZ left lazy as a whole, see `engines.program`.
from numpyro import util
from numpyro.infer.mcmc import MCMCKernel

from bayesclust._pytree import traced
from bayesclust._typing import Array
from bayesclust.core.rows import Rows, block_size, pack
from bayesclust.engines import gibbs
from bayesclust.engines.base import check_whole_weights
from bayesclust.engines.em import numbers_per_row
from bayesclust.engines.record import prior_for
from bayesclust.engines.starts import SeededStart, Start
from bayesclust.families.base import ConditionalFamily
from bayesclust.mixture import Mixture
from bayesclust.table import read


class KernelState(NamedTuple):
    """State of a chain, as NumPyro keeps it.

    Attributes
    ----------
    z : dict
        ``weights`` and the family's parameters, and hyperparameters that are drawn.
    log_likelihood, log_posterior : scalars
        Of the state before the last sweep, labels summed out.
    i : int scalar
    rng_key : PRNG key
    """

    z: dict[str, Array]
    log_likelihood: Array
    log_posterior: Array
    i: Array
    rng_key: Any


class GibbsKernel(MCMCKernel):
    """The sweep of `Gibbs` in NumPyro's terms.

    Run it by ``MCMC(GibbsKernel(mixture), ...).run(key, X)``, or with ``sample_weight=`` whole
    numbers, as for `Gibbs`.

    Parameters
    ----------
    mixture : Mixture
        A prior of the family is in the units of `X`; what is left open is set for the rows, as by
        `Gibbs`.
    start : Start, optional
        Where chains begin; default: k-means++ seeds.
    """

    sample_field = "z"
    model = None

    def __init__(self, mixture: Mixture, start: Start | None = None) -> None:
        if not isinstance(mixture.family, ConditionalFamily):
            raise ValueError(
                f"a {type(mixture.family).__name__} has no conditional draws: GibbsKernel needs a "
                "ConditionalFamily"
            )
        self.mixture = mixture
        self.start = start or SeededStart()

    @property
    def default_fields(self) -> tuple[str, ...]:
        """What `MCMC` collects."""
        return ("z", "log_likelihood", "log_posterior")

    def get_diagnostics_str(self, state: KernelState) -> str:
        """Text beside the progress bar."""
        return f"log posterior {float(state.log_posterior):.1f}"

    def init(
        self,
        rng_key: Any,
        num_warmup: int,
        init_params: Any,
        model_args: tuple[Any, ...],
        model_kwargs: dict[str, Any],
    ) -> KernelState:
        """First state of one chain, or of several for a batch of keys."""
        mixture, rows, _ = self._given(*model_args, **model_kwargs)

        def one(key: Any, given: Any) -> KernelState:
            constants = mixture.family.constants(rows)
            state = gibbs.init(key, mixture, rows, self.start, constants, 0)
            z = {**self._sites(state), **({} if given is None else given)}
            nowhere = jnp.asarray(-jnp.inf, rows.dtype)
            return KernelState(z, nowhere, nowhere, state.step, state.key)

        if util.is_prng_key(rng_key):
            return jax.jit(one)(rng_key, init_params)
        axes = (0, None if init_params is None else 0)
        return jax.jit(jax.vmap(one, in_axes=axes))(rng_key, init_params)

    def sample(
        self, state: KernelState, model_args: tuple[Any, ...], model_kwargs: dict[str, Any]
    ) -> KernelState:
        """One sweep."""
        mixture, rows, weighted = self._given(*model_args, **model_kwargs)
        constants = mixture.family.constants(rows)

        def one(state: KernelState) -> KernelState:
            before = _state(mixture, state)
            after, record = gibbs.step(mixture, constants, rows, before, weighted=weighted)
            stats = record.stats
            return KernelState(
                self._sites(after),
                stats["log_likelihood"],
                stats["log_posterior"],
                after.step,
                after.key,
            )

        return one(state) if util.is_prng_key(state.rng_key) else jax.vmap(one)(state)

    def _given(self, X: Any, sample_weight: Any = None) -> tuple[Mixture, Rows, bool]:
        """The model with all hyperparameters set, the rows, and whether some count repeatedly."""
        check_whole_weights(sample_weight, "GibbsKernel", "take the engines NUTS, SVI or CAVI")
        X = jnp.asarray(X if traced(X) else read(X).values)
        if X.ndim != 2 or not jnp.issubdtype(X.dtype, jnp.floating):
            raise ValueError(f"X must be (n, d) floats, not {X.dtype} {X.shape}")
        n, d = X.shape
        weight, weighted = None, False
        if sample_weight is not None:
            weight = jnp.asarray(sample_weight, X.dtype)
            weighted = traced(weight) or bool(jnp.any(weight > 1))
            if traced(
                weight
            ):  # nothing can be refused inside a program: NaN tells of parts of rows
                weight = jnp.where(weight == jnp.round(weight), weight, jnp.nan)
        block = block_size(n, numbers_per_row(self.mixture.k, d), X.dtype)
        return prior_for(self.mixture, X, weight), pack(X, weight, block=block), weighted

    def _sites(self, state: gibbs.GibbsState) -> dict[str, Array]:
        weights = {"weights": jnp.exp(state.log_weights)}
        return {**weights, **state.params, **state.weights, **state.family}


def _state(mixture: Mixture, state: KernelState) -> gibbs.GibbsState:
    z, family = state.z, mixture.family
    assert isinstance(family, ConditionalFamily)
    log_weights = jnp.log(z["weights"])
    return gibbs.GibbsState(
        state.rng_key,
        state.i,
        {name: z[name] for name in family.dims},
        log_weights,
        {name: z[name] for name in mixture.weights.begin(mixture.k, log_weights.dtype)},
        {name: z[name] for name in family.begin()},
    )


def update_sites(
    mixture: Mixture, X: Array, rng_key: Any, sites: dict[str, Array]
) -> dict[str, Array]:
    """One sweep over the sample sites of `program`, for `numpyro.infer.CustomGibbs`.

    It leaves invariant their distribution given `X`, so that a larger program can move everything
    else by NUTS: rows may depend on other sites, as in ``X - offset``.

    Parameters
    ----------
    mixture : Mixture
        Of a family with a proper prior, all hyperparameters fixed.
    X : (n, d) array
    rng_key : PRNG key
    sites : dict
        ``weights`` and the family's sample sites, see `Family.as_sites`.

    Returns
    -------
    dict
        New values of the same sites.
    """
    family: Any = mixture.family
    n, d = X.shape
    rows = pack(X, block=block_size(n, numbers_per_row(mixture.k, d), X.dtype))
    params = family.from_sites(sites)
    state = gibbs.GibbsState(rng_key, jnp.int32(0), params, jnp.log(sites["weights"]), {}, {})
    state, _ = gibbs.step(mixture, family.constants(rows), rows, state, weighted=False)
    return {"weights": jnp.exp(state.log_weights), **family.as_sites(state.params)}
