"""Variational inference of a mixture's NumPyro program, with a guide of one's choice.

References
----------
A. Kucukelbir, D. Tran, R. Ranganath, A. Gelman and D. M. Blei (2017), Automatic differentiation
    variational inference, J. Mach. Learn. Res. 18(14), 1-45.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import pytree, static
from bayesclust._typing import Array, Key
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.random import as_threefry
from bayesclust.core.units import Units, read_rows
from bayesclust.draws import Draws
from bayesclust.engines.base import Engine, check, pose
from bayesclust.engines.em import numbers_per_row
from bayesclust.engines.progress import Progress, shown
from bayesclust.engines.record import lay_out
from bayesclust.engines.starts import KMeansStart, Start, chosen
from bayesclust.families.base import ConditionalFamily
from bayesclust.mixture import Mixture

if TYPE_CHECKING:
    from bayesclust.engines.sites import Posed

CHUNK = 250
"""Steps per program call."""

DECAY = 0.01
"""Last step size over the first: noise dies out while the bound settles."""

INIT_SCALE = 0.01
"""Standard deviations that the default guide begins with: growing is quicker than shrinking."""


@pytree
class SVI(Engine):
    """Stochastic gradients of the evidence lower bound, by NumPyro.

    Attributes
    ----------
    guide : callable, optional
        A class of `numpyro.infer.autoguide`, or a `functools.partial` of one, which begin where the
        start does; or any function from a program to a guide. Default: a normal distribution of
        all unconstrained parameters with full covariance.
    num_steps : int
    step_size : float
        Of Adam at the first step; it falls to a hundredth by the last.
    num_particles : int
        Draws per gradient.
    num_draws : int
        Draws from the fitted guide.
    model : callable, optional
        As for `NUTS`.
    """

    needs: ClassVar[type[ConditionalFamily]] = ConditionalFamily

    guide: Any = static(default=None)
    num_steps: int = static(default=5000)
    step_size: float = static(default=0.02)
    num_particles: int = static(default=1)
    num_draws: int = static(default=1000)
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
        """Fit host data; see `NUTS.run`.

        Returns
        -------
        Draws
            Of the fitted guide, as one chain; the trace is the bound by step, in the fit's units.
            ``flags["converged"]`` is whether the bound of the last fifth of the steps rose by less
            than its noise.
        """
        from bayesclust.engines.sites import pose_program

        X, sample_weight = read_rows(X, sample_weight, units)
        check(self, mixture, X, key)
        with arithmetic(X.dtype == np.float64):
            key_start, key_run, key_draw = jax.random.split(as_threefry(key), 3)
            problem = pose(X, sample_weight, units, numbers_per_row(mixture.k, X.shape[1]))
            posed = pose_program(self.model, mixture, problem, X, sample_weight)
            begin = posed.begin(key_start, chosen(start, KMeansStart()))
            return self._run(key_run, key_draw, posed, begin, progress)

    def _run(
        self,
        key: Key,
        key_draw: Key,
        posed: Posed,
        begin: dict[str, Any],
        progress: Progress | None,
    ) -> Draws:
        fit = _Fit(posed.program, tuple(posed.sites), self)
        given = (key, begin, posed.args)
        state = _begin(fit, given)
        losses: list[np.ndarray] = []
        stopped = False
        try:
            with shown(progress, "SVI steps") as watch:
                for first in range(0, self.num_steps, CHUNK):
                    steps = min(CHUNK, self.num_steps - first)
                    state, loss = _advance(fit, state, given, steps)
                    losses.append(np.asarray(loss))
                    if watch is not None:
                        watch(min(first + CHUNK, self.num_steps), self.num_steps)
        except KeyboardInterrupt:
            if not losses:
                raise
            stopped = True
        bound = -np.concatenate(losses)
        # NumPyro's `Predictive` strips keys of their kind, and takes them for the default's.
        with jax.default_prng_impl("threefry2x32"):
            sites = _draw(fit, key_draw, state, given)
        if posed.own:
            sites["potential_energy"] = jnp.full((1, self.num_draws), -bound[-1])
        record = posed.record(sites)
        flags = {"converged": settled(bound) and not stopped, "stopped": stopped}
        return lay_out(posed.mixture, record, posed.problem, flags, bound[None])


@dataclasses.dataclass(frozen=True)
class _Fit:
    """What programs of a fit depend on."""

    program: Callable[..., Any]
    sites: tuple[str, ...]
    engine: SVI

    def begin(self, given: Any) -> tuple[Any, Any]:
        """NumPyro's `SVI` and its first state, from a key, values of sites and arguments.

        Each program makes its own: a guide keeps values of the trace that it was set up in.
        """
        from numpyro import infer, optim

        # Not `infer.autoguide`, see `sites.values_at`.
        from numpyro.infer import autoguide as auto

        key, begin, args = given
        engine = self.engine
        make = engine.guide or functools.partial(auto.AutoMultivariateNormal, init_scale=INIT_SCALE)
        kind = make.func if isinstance(make, functools.partial) else make
        automatic = isinstance(kind, type) and issubclass(kind, auto.AutoGuide)
        initial = {"init_loc_fn": infer.init_to_value(values=begin)} if automatic else {}
        guide = make(self.program, **initial)
        svi = infer.SVI(
            self.program,
            guide,
            optim.Adam(lambda i: engine.step_size * DECAY ** (i / engine.num_steps)),
            infer.Trace_ELBO(num_particles=engine.num_particles),
        )
        return svi, svi.init(key, *args)


@functools.partial(jax.jit, static_argnames="fit")
def _begin(fit: _Fit, given: Any) -> Any:
    return fit.begin(given)[1]


@functools.partial(jax.jit, static_argnames=("fit", "steps"))
def _advance(fit: _Fit, state: Any, given: Any, steps: int) -> tuple[Any, Array]:
    """State after so many steps, and minus the bound at each."""
    svi, _ = fit.begin(given)
    return jax.lax.scan(lambda s, _: svi.update(s, *given[2]), state, length=steps)


@functools.partial(jax.jit, static_argnames="fit")
def _draw(fit: _Fit, key: Key, state: Any, given: Any) -> dict[str, Array]:
    """Sites ``(1, s, ..)`` drawn from the guide."""
    from numpyro import infer

    svi, _ = fit.begin(given)
    predictive = infer.Predictive(
        fit.program,
        guide=svi.guide,
        params=svi.get_params(state),
        num_samples=fit.engine.num_draws,
        return_sites=fit.sites,
    )
    return {name: value[None] for name, value in predictive(key, *given[2]).items()}


def settled(bound: np.ndarray) -> bool:
    """Whether the last fifth of a noisy trace is hardly higher than the fifth before.

    By four standard errors of the difference, by one nat, or by a thousandth.
    """
    size = max(len(bound) // 5, 1)
    last, before = bound[-size:], bound[-2 * size : -size]
    if not len(before) or not np.isfinite(last).all():
        return False
    noise = np.sqrt((last.var() + before.var()) / size)
    return bool(last.mean() - before.mean() < max(4 * noise, 1.0, 1e-3 * abs(last.mean())))
