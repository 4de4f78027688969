"""What every engine hands back: a set of parameter draws. A point fit is a set of one."""

from __future__ import annotations

from bayesclust._pytree import pytree
from bayesclust._typing import AnyArray, Params


@pytree
class Draws:
    """Draws of a mixture's parameters, in the units the data were given in.

    The pure part of the library ends here: no names, no strings, failure as flags.

    Attributes
    ----------
    params : dict of (c, s, ..) arrays
        Family parameters by name, behind chain and draw.
    log_weights : (c, s, k) array
        Log mixture weights; -inf is an inactive component.
    stats : dict of (c, s) arrays
        Label-free scalars per draw: log likelihood, log posterior, steps ..
    trace : (r, t) array
        Objective by start and step, infinite where no step was made.
    flags : dict of arrays
        What went wrong, if anything: `converged`, `floored`, `imprecise` ..
    """

    params: Params
    log_weights: AnyArray
    stats: dict[str, AnyArray]
    trace: AnyArray
    flags: dict[str, AnyArray]

    @property
    def shape(self) -> tuple[int, int]:
        """Chains and draws per chain."""
        return self.log_weights.shape[0], self.log_weights.shape[1]

    @property
    def k(self) -> int:
        """Number of components."""
        return self.log_weights.shape[-1]
