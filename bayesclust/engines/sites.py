"""Between a NumPyro program's sites and a mixture's parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro

from bayesclust._typing import Array, Key
from bayesclust.core.rows import bucket
from bayesclust.core.units import Units
from bayesclust.engines.base import Problem, constants_of, pose
from bayesclust.engines.em import numbers_per_row
from bayesclust.engines.program import program
from bayesclust.engines.record import Record, informed, score
from bayesclust.engines.starts import Start
from bayesclust.mixture import Mixture


@dataclasses.dataclass(frozen=True)
class Posed:
    """A program with the rows it is to explain.

    Attributes
    ----------
    program : callable
    args : tuple
        Its arguments.
    mixture : Mixture
        In the units of the rows of the program.
    problem : Problem
        Of these units.
    own : bool
        Whether the program is the user's.
    """

    program: Callable[..., Any]
    args: tuple[Any, ...]
    mixture: Mixture
    problem: Problem
    own: bool

    @property
    def _hyper(self) -> tuple[list[str], list[str]]:
        """Names of the hyperparameters that are drawn, of the weights and of the family."""
        if self.own:
            return [], []
        weights = self.mixture.weights.begin(self.mixture.k, self.problem.dtype)
        family: Any = self.mixture.family  # conditional: `engines.base.check` saw to it
        return list(weights), list(family.begin())

    @property
    def sites(self) -> list[str]:
        """Sites that a draw is read off."""
        weights, family = self._hyper
        return ["weights", *self.mixture.family.dims, *weights, *family]

    def begin(self, key: Key, start: Start) -> dict[str, Array]:
        """Values of sample sites that `start` chooses."""
        rows = self.problem.rows
        work = rows.weight.size * self.mixture.k * 8 * (self.problem.d + 4)
        constants, _ = constants_of(self.mixture, rows)
        params, log_weights = start.begin(key, self.mixture, rows, constants, work)
        weights = jax.nn.softmax(jnp.maximum(log_weights, -10.0))
        return {**self.mixture.family.as_sites(params), "weights": weights}

    def log_density(self) -> Array:
        """Log density of the program at draws of its own by a fixed key: tells programs apart."""
        from numpyro import handlers, infer

        return infer.util.log_density(handlers.seed(self.program, 0), self.args, {}, {})[0]

    def record(self, sites: dict[str, Any]) -> Record:
        """Draws of sites ``(c, s, ..)`` as parameters with their label-free scalars."""
        names, hyper = self._hyper
        found = score(
            self.mixture,
            self.problem.rows,
            {n: sites[n] for n in self.mixture.family.dims},
            jnp.log(sites["weights"]),
            {n: sites[n] for n in names},
            {n: sites[n] for n in hyper},
        )
        stats = dict(found.stats)
        if self.own:  # the user's prior, up to the constant of the unconstrained scale
            stats["log_posterior"] = -sites["potential_energy"]
        extra = {n: v for n, v in sites.items() if n not in self.sites and n != "potential_energy"}
        return Record(found.params, found.log_weights, {**stats, **extra})


def pose_program(
    model: Callable[..., Any] | None,
    mixture: Mixture,
    problem: Problem,
    X: np.ndarray,
    sample_weight: np.ndarray | None,
) -> Posed:
    """The mixture's own program in the fit's units, or a user's in the units of `X`.

    Raises
    ------
    ValueError
        If the user's program lacks a site, or is given together with `sample_weight`.
    """
    if model is None:
        inner = informed(mixture, problem)
        units = problem.units
        n, size = len(X), bucket(len(X))
        rows = np.zeros((size, X.shape[1]), X.dtype)
        weight = np.zeros(size, X.dtype)  # zero for padding: other data run the same program
        rows[:n] = units.inward(X)
        weight[:n] = 1 if sample_weight is None else sample_weight
        args = (inner, jnp.asarray(rows), jnp.asarray(weight))
        return Posed(program, args, inner, problem, False)
    if sample_weight is not None:
        raise ValueError("sample_weight cannot be used with a model: weight its rows inside it")
    d = X.shape[1]
    plain = Units(np.zeros(d), np.ones(d))
    given = problem.units.exponent if problem.answer is None else None
    problem = pose(X, None, plain, numbers_per_row(mixture.k, d))
    if given is not None:  # the program is in the user's units, its draws must be in scaled ones
        problem = problem._replace(answer=plain._replace(exponent=-given))
    rows = jnp.asarray(X)
    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace(rows)
    shapes = {n: jnp.shape(s["value"]) for n, s in trace.items() if s["type"] in SITES}
    wanted = ["weights", *mixture.family.dims]
    missing = [n for n in wanted if n not in shapes]
    if missing:
        raise ValueError(
            f"model has no site {', '.join(missing)}: a {type(mixture.family).__name__} is scored "
            f"by {', '.join(wanted)}; add what is missing with numpyro.deterministic"
        )
    if shapes["weights"] != (mixture.k,):
        raise ValueError(
            f"site weights of the model has shape {shapes['weights']} for {mixture.k} components"
        )
    family: Any = mixture.family
    inner = dataclasses.replace(mixture, family=family.scaled_to(jnp.asarray(problem.spread)))
    return Posed(model, (rows,), inner, problem, True)


SITES = ("sample", "deterministic")


def values_at(
    model: Callable[..., Any], args: tuple[Any, ...], values: dict[str, Array], key: Key
) -> dict[str, Array]:
    """Unconstrained values of all latent sites: those given, and draws of the others."""
    from numpyro import infer

    # Not `infer.util`, which is missing where ArviZ was imported before `numpyro.infer`.
    from numpyro.infer.util import initialize_model

    found = initialize_model(
        key, model, init_strategy=infer.init_to_value(values=values), model_args=args
    )
    return found.param_info.z
