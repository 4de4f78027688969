"""Processes that were forked from one that had used JAX: they cannot compute, and say so."""

from __future__ import annotations

import os

try:
    from jax._src.xla_bridge import backends_are_initialized
except ImportError:  # another JAX may not tell: take it that it has been used

    def backends_are_initialized() -> bool:
        """Whether JAX has started its devices in this process."""
        return True


_devices_lost = False


def _after_fork() -> None:
    global _devices_lost
    _devices_lost = backends_are_initialized()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    # A hook of the whole process. Without it a child waits for ever: it inherits the devices of
    # its parent, but not the threads that serve them, and cannot see that from within.
    os.register_at_fork(after_in_child=_after_fork)


def refuse_forked() -> None:
    """Raise a RuntimeError if this process was forked from one that had used JAX.

    Called where work on a device begins: its results would never come.
    """
    if _devices_lost:
        raise RuntimeError(
            "this process was forked from one that had used JAX, whose threads it has not got, so "
            "that nothing computed here would ever end: start workers by spawn or forkserver, "
            "e.g. multiprocessing.get_context('spawn'), or by joblib's default backend, loky"
        )
