"""The switches of JAX that programs of this library are written for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


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
    with contextlib.ExitStack() as stack:
        if double is not None:
            stack.enter_context(jax.enable_x64(double))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.debug_infs(False))
        stack.enter_context(jax.transfer_guard("allow"))
        yield
