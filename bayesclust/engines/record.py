"""Draws of an engine, from parameters in the fit's units to `Draws`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import traced
from bayesclust._typing import Array, Params
from bayesclust.core import assign
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.rows import Rows
from bayesclust.core.sweep import sweep
from bayesclust.core.units import Units, column_spread, in_steps
from bayesclust.draws import Draws
from bayesclust.engines.base import Fitted, Problem, outward, pose
from bayesclust.families.base import ConditionalFamily
from bayesclust.hyper import check_hyperparameters
from bayesclust.mixture import Mixture


class Record(NamedTuple):
    """One draw: parameters and what the engine found there.

    Attributes
    ----------
    params : dict
    log_weights : (k,) array
    stats : dict of scalars
    """

    params: Params
    log_weights: Array
    stats: dict[str, Array]


def label_free(
    mixture: Mixture,
    params: Params,
    log_weights: Array,
    log_likelihood: Array,
    weights: dict[str, Array],
    family: dict[str, Array],
) -> dict[str, Array]:
    """Scalars of a draw that no relabelling changes.

    Parameters
    ----------
    mixture : Mixture
    params, log_weights
    log_likelihood : scalar
        Of all rows, labels summed out.
    weights, family : dict
        Hyperparameters that are drawn.
    """
    log_prior = jnp.sum(mixture.family.log_prior(params, family))
    log_prior = log_prior + mixture.weights.log_prior(log_weights, weights)
    share = jnp.exp(log_weights)
    return {
        "log_likelihood": log_likelihood,
        "log_posterior": log_likelihood + log_prior,
        "weight_entropy": jnp.sum(jax.scipy.special.entr(share)),
        "weight_sum_of_squares": jnp.sum(share * share),
        **weights,
        **{f"log_{name}": _mean_log(v) for name, v in family.items()},
    }


@jax.jit
def score(
    mixture: Mixture,
    rows: Rows,
    params: Params,
    log_weights: Array,
    weights: dict[str, Array],
    family: dict[str, Array],
) -> Record:
    """Records of parameters ``(c, s, ..)`` that came without their log likelihood."""

    def one(draw: Any) -> Record:
        params, log_weights, weights, family = draw
        prepared = mixture.family.prepare(params)
        _, total = sweep(
            rows,
            lambda x: mixture.family.score(prepared, x) + log_weights[:, None],
            assign.soft,
            lambda x, resp: (),
        )
        stats = label_free(mixture, params, log_weights, total, weights, family)
        return Record(params, log_weights, stats)

    draws = (params, log_weights, weights, family)
    return lax.map(lambda chain: lax.map(one, chain), draws)


def _mean_log(hyper: Array) -> Array:
    """Mean log of a scale by column, of its diagonal if a matrix; in the fit's units."""
    return jnp.mean(jnp.log(jnp.diagonal(hyper) if hyper.ndim == 2 else hyper))


def informed(mixture: Mixture, problem: Problem) -> Mixture:
    """The mixture with a proper prior, everything in the fit's units.

    Raises
    ------
    ValueError
        If a hyperparameter has a wrong shape or sign.
    """
    family = mixture.family
    assert isinstance(family, ConditionalFamily)
    check_hyperparameters(getattr(family, "prior", None), problem.d)
    check_hyperparameters(mixture.weights, mixture.k)
    inner: Any = _inner(family, problem.units)
    inner = inner.scaled_to(jnp.asarray(problem.spread)).informed(mixture.k)
    inner, weights = jax.tree.map(lambda v: jnp.asarray(v, problem.dtype), (inner, mixture.weights))
    return dataclasses.replace(mixture, family=inner, weights=weights)


def prior_for(mixture: Mixture, X: Any, sample_weight: Any) -> Mixture:
    """Set what the prior leaves open for rows ``(n, d)``, in their units; works under jit.

    A prior that leaves nothing open is returned as it is.
    """
    family = mixture.family
    assert isinstance(family, ConditionalFamily)
    leaves = jax.tree.leaves(family.prior, is_leaf=lambda v: v is None)
    if leaves and all(leaf is not None for leaf in leaves):
        return mixture
    if not traced(X, sample_weight):
        X, sample_weight = jax.tree.map(np.asarray, (X, sample_weight))
    problem = pose(X, sample_weight, None, X.shape[1])
    shift, scale = (jnp.asarray(v, X.dtype) for v in (problem.units.shift, problem.units.scale))
    inner: Any = informed(mixture, problem).family
    outer = inner.in_prior_units(shift, scale).scaled_to(inner.spread * scale)
    outer = in_steps(type(outer).in_prior_units, outer, problem.units.exponent)
    return dataclasses.replace(mixture, family=outer)


def _inner(family: Any, units: Units) -> Any:
    """The family with its prior brought from the user's units to the fit's."""
    shift, scale, powers = units.shift, units.scale, units.exponent
    change = type(family).in_prior_units
    scaled = in_steps(change, family, None if powers is None else -powers)
    return scaled.in_prior_units(-shift / scale, 1.0 / scale)


def informed_prior(mixture: Mixture, X: np.ndarray, sample_weight: Any, units: Units) -> Mixture:
    """The mixture with a proper prior in scaled units of the data, in double precision."""
    family: Any = mixture.family
    shift, scale = units.shift, units.scale
    with arithmetic(True):
        inner = _inner(family, units)
        spread = column_spread(units.variance(X, sample_weight), units, np.float64)
        inner = inner.scaled_to(jnp.asarray(spread, jnp.float64)).informed(mixture.k)
        outer = inner.in_prior_units(shift, scale).scaled_to(spread * scale)
    outer = jax.tree.map(lambda v: np.asarray(v, np.float64), outer)
    return dataclasses.replace(mixture, family=outer)


def unscaled_prior(mixture: Mixture, units: Units) -> Mixture:
    """The same prior in the user's units; infinite or zero where that is not representable."""
    family: Any = mixture.family
    with arithmetic(True):
        outer = in_steps(type(family).in_prior_units, family, units.exponent)
    outer = jax.tree.map(lambda v: np.asarray(v, np.float64), outer)
    return dataclasses.replace(mixture, family=outer)


def described(mixture: Mixture) -> str:
    """The priors of a mixture with all their hyperparameters, as JSON."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"name": type(value).__name__, **fields}
        return np.asarray(value).tolist()

    family: Any = mixture.family
    return json.dumps({"components": plain(family.prior), "weights": plain(mixture.weights)})


def lay_out(
    mixture: Mixture, found: Record, problem: Problem, flags: dict[str, Any], trace: Any = None
) -> Draws:
    """Records ``(c, s, ..)`` as `Draws` in the units asked for; flags hold for every draw."""
    fitted = Fitted(found.params, found.log_weights, found.stats, {})
    params, log_weights = outward(mixture, fitted, problem.units)
    stats = {n: np.asarray(v, np.float64) for n, v in found.stats.items()}
    shift = problem.weight * problem.log_scale
    for name in ("log_likelihood", "log_posterior"):
        stats[name] = stats[name] - shift
    shape = np.shape(found.log_weights)[:2]
    draws = Draws(
        params=params,
        log_weights=log_weights,
        stats=stats,
        trace=np.zeros((0, 0)) if trace is None else trace,
        flags={n: np.full(shape, v) for n, v in flags.items()},
    )
    return problem.finished(mixture, draws)
