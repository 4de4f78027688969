"""Checks of numbers that users give: an error names the parameter, its range and what was given."""

from __future__ import annotations

import functools
import os
import reprlib
from numbers import Integral
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust._pytree import traced

MOST = 2**31 - 1
"""Largest count: programs count in 32 bits."""


def check_integer(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """Refuse what is no integer of a range; True and 1.0 are none.

    Returns
    -------
    int
        The value.

    Raises
    ------
    TypeError
        If it is of another kind.
    ValueError
        If it lies outside.
    """
    wrong = f"{name}={short(value)} must be an integer from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(wrong)
    number = int(value)
    if not least <= number <= most:
        raise ValueError(wrong)
    return number


def check_number(
    name: str, value: Any, least: float = 0.0, most: float = np.inf, *, above: bool = False
) -> None:
    """Refuse what is no finite number of a range; tracers pass.

    Parameters
    ----------
    name : str
    value : scalar
    least, most : float
    above : bool
        Refuse `least` itself, too.

    Raises
    ------
    TypeError, ValueError
        As for `check_integer`.
    """
    if traced(value):
        return
    start = f"above {least:g}" if above else f"of at least {least:g}"
    end = "" if most == np.inf else f" and at most {most:g}"
    wrong = f"{name}={short(value)} must be a finite number {start}{end}"
    if isinstance(value, bool | np.bool_ | str | bytes) or np.shape(value) != ():
        raise TypeError(wrong)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(wrong) from None
    except (TypeError, ValueError):
        raise TypeError(wrong) from None
    inside = least < number if above else least <= number
    if not (inside and number <= most and np.isfinite(number)):
        raise ValueError(wrong)


def check_key(key: Any) -> None:
    """Refuse what is no random key: neither a typed one nor the words of one.

    K-means takes the random numbers themselves, too, see `kmeans.seeding.numbers`.

    Raises
    ------
    TypeError
    """
    dtype = getattr(key, "dtype", None)
    is_key = dtype is not None and (
        jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == np.uint32
    )
    numbers = dtype is not None and jnp.issubdtype(dtype, np.floating) and np.ndim(key) > 0
    if not (is_key or numbers):
        raise TypeError(f"key={short(key)} must be a random key of JAX: pass jax.random.key(0)")


def check_memory(what: str, needed: float, **counts: int) -> None:
    """Refuse counts whose arrays do not fit into memory.

    Parameters
    ----------
    what : str
        What the arrays hold, e.g. "starts".
    needed : float
        Bytes.
    **counts
        Parameters that decide it, by name.

    Raises
    ------
    ValueError
        It names the parameters and both figures.
    """
    if needed > memory():
        given = ", ".join(f"{name}={value}" for name, value in counts.items())
        raise ValueError(
            f"{given}: the {what} would take about {needed / 2**30:,.0f} GiB of memory, and there "
            f"are {memory() / 2**30:,.1f}: lower {' or '.join(counts)}"
        )


@functools.cache
def memory() -> int:
    """Bytes of memory that this process may use."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # unknown: whoever asks too much is not warned
        return 2**63
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return found
    return min(found, int(limit)) if limit.isdigit() else found


def short(value: Any) -> str:
    """Spell a value out in a few characters."""
    if isinstance(value, int) and value.bit_length() > 128:  # Python spells out no longer ones
        return f"<an integer of {value.bit_length()} bits>"
    return reprlib.repr(value)
