"""The no-U-turn sampler on a mixture's NumPyro program, labels summed out.

References
----------
M. D. Hoffman and A. Gelman (2014), The No-U-Turn sampler, J. Mach. Learn. Res. 15, 1593-1623.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.random import as_threefry
from bayesclust.core.units import Units, read_rows
from bayesclust.draws import Draws
from bayesclust.engines import chains
from bayesclust.engines.base import Engine, check, pose
from bayesclust.engines.em import numbers_per_row
from bayesclust.engines.progress import Progress, shown
from bayesclust.engines.record import lay_out
from bayesclust.engines.starts import SeededStart, Start, chosen
from bayesclust.families.base import ConditionalFamily
from bayesclust.mixture import Mixture

if TYPE_CHECKING:
    from bayesclust.engines.sites import Posed


@pytree
class NUTS(Engine):
    """No-U-turn sampling of all parameters at once, by NumPyro.

    Slower than `Gibbs` where that applies; for models of your own, and to check it.

    Attributes
    ----------
    num_warmup : int
        Steps of each chain that adapt the step size and the mass matrix.
    num_draws : int
        Draws kept of each chain.
    num_chains : int
    thinning : int
        Steps per draw.
    target_accept_prob : float
        Nearer to one for smaller steps.
    dense_mass : bool
        Adapt a full mass matrix.
    max_tree_depth : int
    checkpoint : str, optional
        As for `Gibbs`.
    model : callable, optional
        A NumPyro program ``model(X)`` of your own, for rows in their own units, in the place of
        `program`. Its sites, sampled or deterministic, must include ``weights (k,)`` and the
        family's parameters; the family is then only used to score rows.
    """

    needs: ClassVar[type[ConditionalFamily]] = ConditionalFamily

    num_warmup: int = static(default=500)
    num_draws: int = static(default=1000)
    num_chains: int = static(default=4)
    thinning: int = static(default=1)
    target_accept_prob: float = static(default=0.8)
    dense_mass: bool = static(default=False)
    max_tree_depth: int = static(default=10)
    checkpoint: str | None = static(default=None)
    model: Any = static(default=None)

    def run(
        self,
        key: Key,
        mixture: Mixture,
        X: Any,
        *,
        sample_weight: Any = None,
        start: Start | None = None,
        units: Units | None = None,
        progress: Progress | None = None,
    ) -> Draws:
        """Sample from host data; see `Gibbs.run`.

        Raises
        ------
        ValueError
            If `model` lacks a site, or is given together with `sample_weight`.
        """
        from bayesclust.engines.sites import pose_program

        X, sample_weight = read_rows(X, sample_weight, units)
        check(self, mixture, X, key)
        with arithmetic(X.dtype == np.float64):
            key_start, key_run = jax.random.split(as_threefry(key))
            problem = pose(X, sample_weight, units, numbers_per_row(mixture.k, X.shape[1]))
            posed = pose_program(self.model, mixture, problem, X, sample_weight)
            keys = jax.random.split(key_start, self.num_chains)
            start = chosen(start, SeededStart())
            begins = [posed.begin(k, start) for k in keys]
            found, interrupted = self._sample(key_run, posed, begins, start, progress)
            flags = {"interrupted": interrupted, "diverging": found.pop("diverging")}
            return lay_out(posed.mixture, posed.record(found), posed.problem, flags)

    def _sample(
        self, key: Key, posed: Posed, begins: list[Any], start: Start, progress: Progress | None
    ) -> tuple[Any, bool]:
        settings = (self.target_accept_prob, self.dense_mass, self.max_tree_depth)
        begin, advance = _programs(posed.program, tuple(posed.sites), self.num_warmup, *settings)
        keys = jax.random.split(key, self.num_chains)
        states = [begin(k, b, posed.args) for k, b in zip(keys, begins, strict=True)]
        length = chains.Length(self.num_warmup, self.num_draws, self.num_chains, self.thinning)
        own = posed.own and self.checkpoint is not None
        model = (posed.mixture, posed.args, posed.log_density() if own else None)
        saved = chains.saved_at(self.checkpoint, length, settings, key, model, start)
        with shown(progress, "NUTS steps") as watch:
            return chains.run(
                lambda group, gaps: advance(group, gaps, posed.args),
                states,
                length,
                saved=saved,
                progress=watch,
            )


@functools.lru_cache(maxsize=32)
def _programs(
    program: Callable[..., Any],
    sites: tuple[str, ...],
    num_warmup: int,
    target_accept_prob: float,
    dense_mass: bool,
    max_tree_depth: int,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """First state of a chain and its next draws, jitted; rows and priors are traced."""
    from numpyro import infer

    from bayesclust.engines.sites import values_at

    kernel = infer.NUTS(
        program,
        target_accept_prob=target_accept_prob,
        dense_mass=dense_mass,
        max_tree_depth=max_tree_depth,
        init_strategy=infer.init_to_median,
    )

    @jax.jit
    def begin(key: Key, values: dict[str, Array], args: Any) -> Any:
        key_values, key_chain = jax.random.split(key)
        latent = values_at(program, args, values, key_values)
        return kernel.init(key_chain, num_warmup, latent, args)

    @jax.jit
    def advance(group: Any, gaps: Any, args: Any) -> tuple[Any, Any]:
        constrain = kernel.postprocess_fn(args, {})

        def step(state: Any) -> tuple[Any, dict[str, Array]]:
            state = kernel.sample(state, args, {})
            values = constrain(state.z)
            return state, {
                **{name: values[name] for name in sites},
                "potential_energy": state.potential_energy,
                "diverging": state.diverging,
            }

        return jax.vmap(lambda s: chains.advance(step, s, gaps))(group)

    return begin, advance
