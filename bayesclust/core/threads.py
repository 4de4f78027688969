"""Threads that drive one device: XLA releases the interpreter while a program runs."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.rows import cores


@functools.cache
def _pool(_process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(cores() - 1, 1), thread_name_prefix="bayesclust")


def run(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the calls at the same time, the first one here; results in order.

    All callers share one pool of threads. Calls that no thread has begun when the first one ends
    are run here, too: nobody waits for the work of another caller, and calls may run calls of
    their own.

    The switches of JAX belong to a thread, so they are handed on, see `arithmetic`. An error is
    raised once no call is running any more.
    """
    config: Any = jax.config  # which gets its attributes when JAX is imported
    x64 = bool(config.jax_enable_x64)

    def there(call: Callable[[], Any]) -> Any:
        with arithmetic(x64):
            return call()

    others = [_pool(os.getpid()).submit(there, call) for call in calls[1:]]
    try:
        results = [calls[0]()]
        # Threads begin with the first calls.
        for call, other in reversed(list(zip(calls[1:], others, strict=True))):
            results.insert(1, call() if other.cancel() else other.result())
        return results
    finally:
        for other in others:
            if not other.cancel():
                other.exception()
