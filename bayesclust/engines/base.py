"""The contract of an engine, and how data come to it."""

from __future__ import annotations

import abc
import dataclasses
import inspect
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import traced
from bayesclust._typing import Array, Key, Params
from bayesclust.core.checks import (
    MOST,
    check_integer,
    check_key,
    check_memory,
    check_number,
    short,
)
from bayesclust.core.fork import refuse_forked
from bayesclust.core.loop import trace_length
from bayesclust.core.rows import MIN_BLOCK, Rows, block_size, pack, pack_host
from bayesclust.core.sweep import add_up
from bayesclust.core.units import (
    Units,
    column_spread,
    natural_units,
    natural_units_traced,
)
from bayesclust.draws import Draws
from bayesclust.families.base import Family
from bayesclust.mixture import Mixture, unscaled


class Engine(abc.ABC):
    """A way to fit a mixture, with its settings.

    Attributes
    ----------
    needs : type
        The kind of family the engine can fit.
    needs_prior : type
        The kind of prior the family must have, if it has one.
    """

    needs: ClassVar[type[Family]] = Family
    needs_prior: ClassVar[type] = object

    @abc.abstractmethod
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
        """Fit the mixture to rows.

        Parameters
        ----------
        key : PRNG key
        mixture : Mixture
        X : (n, d) array
            Finite float32 or float64 rows.
        sample_weight : (n,) array, optional
        start : optional
            Where to begin; what is understood depends on the engine.
        units : Units, optional
            Shift and scales to work in; default: the data's mean and one common scale.

        Returns
        -------
        Draws
            In the units of `X`; where `units` were given, in their scaled units, which differ
            from those of `X` only for data of extraordinary magnitude.
        """


INTEGERS = {
    "num_warmup": (0, MOST),
    "max_iter": (0, MOST),  # none: the start itself
    "max_tree_depth": (1, 30),
    "memory": (1, 2**63 - 1),
    **dict.fromkeys(
        (
            "batch_size",
            "n_init",
            "num_chains",
            "num_draws",
            "num_particles",
            "num_steps",
            "thinning",
        ),
        (1, MOST),
    ),
}
"""Settings of engines that are counts, with the least and the most that they may be."""

NUMBERS: dict[str, dict[str, Any]] = {
    "tol": {},
    "shape": {},
    "rate": {},
    "delay": {},
    "forgetting": {"least": 0.5, "most": 1.0, "above": True},
    "step_size": {"above": True},
    "target_accept_prob": {"most": 1.0, "above": True},
}
"""Settings of engines that are numbers, with their limits as `check_number` takes them."""


def check_settings(engine: Engine) -> None:
    """Refuse settings of a wrong kind or out of range; None stands where it is the default.

    Raises
    ------
    TypeError, ValueError
        It names the setting and its range.
    """
    for field in _fields(engine):
        name, value = field.name, getattr(engine, field.name)
        if value is None and field.default is None:
            continue
        if name in INTEGERS:
            check_integer(name, value, *INTEGERS[name])
        elif name in NUMBERS:
            check_number(name, value, **NUMBERS[name])
        elif isinstance(field.default, bool) and not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name}={short(value)} must be True or False")


def _fields(engine: Engine) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(engine) if dataclasses.is_dataclass(engine) else ()


def check_size(engine: Engine, mixture: Mixture, n: int, d: int) -> None:
    """Refuse counts whose starts, chains or draws do not fit into memory.

    Raises
    ------
    ValueError
        It names the settings, and how much memory they would take.
    """
    settings = {f.name: getattr(engine, f.name) for f in _fields(engine) if f.name in INTEGERS}
    k = mixture.k
    dims = mixture.family.dims.values()
    numbers = k + sum(math.prod(k if dim == "cluster" else d for dim in own) for own in dims)
    itemsize = 8.0
    if "n_init" in settings:
        n_init = settings["n_init"]
        each = 4 * numbers + trace_length(settings["max_iter"], n_init)
        check_memory("starts", itemsize * n_init * each, n_init=n_init, k=k)
    drawn = {name: settings[name] for name in ("num_draws", "num_chains") if name in settings}
    if drawn:  # as they come from the device, joined, and in the user's units
        each = 3 * (numbers + 8)
        check_memory("draws", itemsize * math.prod(drawn.values()) * each, **drawn, k=k)
    if "num_particles" in settings:
        particles = settings["num_particles"]
        check_memory("scores", itemsize * particles * n * k, num_particles=particles, k=k)
    if "thinning" in settings:
        steps = settings["num_warmup"] + settings["num_draws"] * settings["thinning"]
        check_integer("num_warmup + num_draws * thinning", steps)


def check(engine: Engine, mixture: Mixture, X: Any = None, key: Any = None) -> None:
    """Refuse settings out of range, and a mixture or more draws than an engine can fit.

    Parameters
    ----------
    engine : Engine
    mixture : Mixture
    X : (n, d) array, optional
        Rows, for how much memory the fit would take.
    key : PRNG key, optional

    Raises
    ------
    TypeError, ValueError
        It names the setting and its range, or the engines that can fit the mixture.
    """
    refuse_forked()
    check_settings(engine)
    check_integer("k", mixture.k)
    if key is not None:
        check_key(key)
    if X is not None:
        check_size(engine, mixture, *np.shape(X))
    if _fits(engine, mixture):
        return
    from bayesclust import engines

    known = [getattr(engines, name) for name in engines.__all__]
    able = [
        e.__name__
        for e in known
        if isinstance(e, type)
        and issubclass(e, Engine)
        and not inspect.isabstract(e)
        and _fits(e, mixture)
    ]
    family = mixture.family
    prior = getattr(family, "prior", None)
    with_prior = "" if prior is None else f" with prior {type(prior).__name__}"
    raise ValueError(
        f"engine {type(engine).__name__} cannot fit a {type(family).__name__}{with_prior}: "
        f"use one of {', '.join(able)}"
    )


def check_whole_weights(sample_weight: Any, who: str, instead: str) -> None:
    """Refuse parts of rows to those who draw a label for every row.

    Weights that are traced by JAX pass.

    Raises
    ------
    ValueError
        It names the engines that can take them.
    """
    if sample_weight is None or traced(sample_weight):
        return
    weight = np.asarray(sample_weight)
    if not (weight == np.round(weight)).all():
        raise ValueError(
            f"sample_weight must hold whole numbers for {who}, where weight 2 is the row twice, "
            f"each time with a label of its own: {instead}, or round the weights"
        )


def _fits(engine: Engine | type[Engine], mixture: Mixture) -> bool:
    prior = getattr(mixture.family, "prior", None)
    return isinstance(mixture.family, engine.needs) and (
        prior is None or isinstance(prior, engine.needs_prior)
    )


class Fitted(NamedTuple):
    """One fit of packed rows, in their units.

    Attributes
    ----------
    params : dict
    log_weights : (k,) array
    stats : dict of scalars
    flags : dict of scalars
    """

    params: Params
    log_weights: Array
    stats: dict[str, Array]
    flags: dict[str, Array]


class PointEngine(Engine):
    """An engine whose answer is one point, which can be refitted under other row weights."""

    @abc.abstractmethod
    def refit(self, mixture: Mixture, rows: Rows, params: Params, log_weights: Array) -> Fitted:
        """Fit packed rows from these parameters; pure, works under vmap over row weights."""


class Problem(NamedTuple):
    """Packed rows with what a fit must know of them.

    Attributes
    ----------
    rows : Rows
    units : Units
    spread : (d,) array
        Column standard deviations in the fit's units; 1 where a column is constant.
    weight : scalar
    n, d : int
    dtype : dtype
    answer : Units or None
        Draws come in scaled units and are to be brought from these to the user's: where nobody
        gave units.
    """

    rows: Rows
    units: Units
    spread: Any
    weight: Any
    n: int
    d: int
    dtype: Any
    answer: Units | None = None

    @property
    def log_scale(self) -> Any:
        """Log volume of a unit cell: by how much log densities in user's units are lower."""
        scale = self.units.scale
        return jnp.sum(jnp.log(scale)) if traced(scale) else np.float64(self.units.log_scale)

    def finished(self, mixture: Mixture, draws: Draws) -> Draws:
        """Draws in the units that were asked for."""
        return draws if self.answer is None else unscaled(mixture, draws, self.answer)


@jax.jit
def constants_of(mixture: Mixture, rows: Rows) -> tuple[Any, Array]:
    """What the family sums once over the rows, see `Family.constants`, and their weight."""
    weight = add_up(rows, lambda x, weight, i: jnp.sum(weight))
    return mixture.family.constants(rows), weight


def pose(X: Any, sample_weight: Any, units: Units | None, numbers_per_row: int) -> Problem:
    """Bring rows into the fit's units and into blocks, on the host or inside a program."""
    n, d = X.shape
    # Long rows want long blocks: their matrix products are what takes the time.
    block = block_size(n, numbers_per_row, X.dtype, least=256 if d >= 32 else MIN_BLOCK)
    if traced(X, sample_weight):
        weight = jnp.ones(n, X.dtype) if sample_weight is None else sample_weight.astype(X.dtype)
        shift, scale, variance = natural_units_traced(X, weight / jnp.sum(weight))
        rows = pack((X - shift) / scale, weight, block=block)
        sd = jnp.sqrt(variance)
        spread = jnp.where(sd > 0, sd, 1.0)
        units = Units(shift, jnp.broadcast_to(scale, (d,)))
        return Problem(rows, units, spread, jnp.sum(weight), n, d, X.dtype)
    X = np.asarray(X)
    own = natural_units(X, sample_weight) if units is None else None
    units = units or own
    assert units is not None
    variance = units.variance(X, sample_weight)
    rows = pack_host(
        X,
        sample_weight,
        shift=units.shift,
        scale=units.scale,
        exponent=units.exponent,
        block=block,
    )
    total = float(n) if sample_weight is None else float(np.sum(sample_weight, dtype=np.float64))
    spread = column_spread(variance, units, X.dtype)
    return Problem(rows, units, spread, total, n, d, X.dtype, own)


def outward(mixture: Mixture, fitted: Fitted, units: Units) -> tuple[Params, Any]:
    """Parameters, maybe behind axes of draws, from the fit's units to scaled ones.

    On the host they come back in double precision, which an offset as large as the data needs.
    """
    params, log_weights = fitted.params, fitted.log_weights
    if not traced(params):
        params, log_weights = jax.tree.map(
            lambda v: np.asarray(v, np.float64), jax.device_get((params, log_weights))
        )
    return mixture.family.in_units(params, units.shift, units.scale), log_weights
