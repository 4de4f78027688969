"""Constraints on parameters of estimators, and what is said of those that cannot stand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from bayesclust.core.checks import MOST
from bayesclust.estimators import _names


class Whole(Interval):
    """Constraint on a parameter that counts: an integer of a range; True is none."""

    def __init__(self, least: int = 1, most: int = MOST) -> None:
        super().__init__(Integral, least, most, closed="both")

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, bool) and super().is_satisfied_by(val)


class Number(Interval):
    """Constraint on a parameter that measures: a finite number of a range; True is none."""

    def __init__(self, least: float = 0.0, *, closed: str = "both") -> None:
        super().__init__(Real, least, float(np.finfo(np.float64).max), closed=closed)

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, bool) and super().is_satisfied_by(val)


RANDOM_STATE = [Whole(0, 2**32 - 1), np.random.RandomState, None]


def known_only[F: Callable[..., None]](init: F) -> F:
    """Make `__init__` say what to use instead of a parameter that it does not take."""
    known = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__}() got an unexpected keyword argument {name!r}: "
                    f"{_names.advice(type(self), name, known)}"
                )
        init(self, *args, **kwargs)

    return cast(F, wrapped)


@functools.cache
def _default(kind: type, name: str) -> Any:
    """Look up a parameter's default; a subclass may take it under another signature."""
    signatures = (inspect.signature(base.__init__) for base in kind.__mro__)
    return next(s.parameters[name].default for s in signatures if name in s.parameters)


def refuse_unused(estimator: BaseEstimator, name: str, unused: bool, why: str) -> None:
    """Raise a ValueError if a parameter that was set has no effect on the fit.

    Parameters
    ----------
    estimator : BaseEstimator
    name : str
    unused : bool
        Whether other parameters leave this one without effect; its default then passes.
    why : str
        The rest of a sentence that begins "has no effect", with the remedy.
    """
    if not unused:
        return
    value = getattr(estimator, name)
    default = _default(type(estimator), name)
    if value != default:
        raise ValueError(f"{name}={value!r} has no effect {why}")


NO_DRAWS = "without draws: set uncertainty, e.g. 'bootstrap', or leave num_draws out"
