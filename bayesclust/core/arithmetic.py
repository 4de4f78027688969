"""The switches of JAX that programs of this library are written for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

GUARDS = [
    f"jax_transfer_guard_{way}" for way in ("host_to_device", "device_to_device", "device_to_host")
]


@contextlib.contextmanager
def arithmetic(double: bool | None = None) -> Iterator[None]:
    """Work in single or double precision, by JAX's own defaults, in this thread.

    A caller's stricter switches are about the caller's code. Here whole numbers meet floats and
    rows meet columns as NumPy has it, -inf is a log weight like any other, and arrays go between
    host and device where they are needed. `jax_debug_nans` stays as it is: there are no NaN.

    Parameters
    ----------
    double : bool, optional
        Default: as the caller has it, which is right inside the caller's program.
    """
    config: Any = jax.config  # which gets its attributes when JAX is imported
    with contextlib.ExitStack() as stack:
        if double is not None and bool(config.jax_enable_x64) != double:
            stack.enter_context(jax.enable_x64(double))
        if config.jax_numpy_dtype_promotion != "standard":
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
        if config.jax_numpy_rank_promotion != "allow":
            stack.enter_context(jax.numpy_rank_promotion("allow"))
        if config.jax_debug_infs:
            stack.enter_context(jax.debug_infs(False))
        if any(getattr(config, name) not in (None, "allow") for name in GUARDS):
            stack.enter_context(jax.transfer_guard("allow"))
        yield
