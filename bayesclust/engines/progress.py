"""Progress bars of long runs: shown in a terminal or a notebook, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``."""


@contextlib.contextmanager
def shown(progress: Progress | None, what: str) -> Iterator[Progress | None]:
    """The caller's own callback; without one, a bar where somebody can see it.

    Parameters
    ----------
    progress : callable, optional
    what : str
        Text beside the bar.
    """
    if progress is not None or not _watched():
        yield progress
        return
    from tqdm.auto import tqdm

    with tqdm(desc=what, leave=False) as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move


def _watched() -> bool:
    """Whether the output is a terminal or a notebook, and not a log."""
    if os.environ.get("CI") or "PYTEST_CURRENT_TEST" in os.environ:
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()
