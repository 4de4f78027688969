"""What surrounds long work: compiled programs kept, warnings as lines, a progress bar."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path


def keep_programs() -> None:
    """Let JAX keep compiled programs between runs; call before JAX is imported.

    A command compiles afresh each time it starts, a library does not: so only commands call this.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not home.is_absolute():
            home = Path(os.path.expanduser("~")) / ".cache"
        cache = home / "bayesclust" / "jax"
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Collect warnings, each as one line in the command line's words."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        # A cache that cannot be used costs time and nothing else.
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
        yield lines
    lines.extend(dict.fromkeys(in_options(str(w.message)) for w in caught))


PYTHON_ONLY = ("max_iter", "tol", "n_init", "reg_covar")


def in_options(message: str) -> str:
    """A message of the library on one line, its parameters named as the options are."""
    line = " ".join(message.split())
    line = line.replace("standardize=True", "--standardize")
    line = re.sub(r"n_(?:clusters|components)(?:=| \()(\d+)\)?", r"-k \1", line)
    named = [name for name in PYTHON_ONLY if re.search(rf"\b{name}\b", line)]
    if named:
        be = "is a parameter" if len(named) == 1 else "are parameters"
        line += f" ({', '.join(named)} {be} of the Python class)"
    return line


@contextlib.contextmanager
def progress(first: str, then: str = "") -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on stderr if that is a terminal; elsewhere nothing.

    Parameters
    ----------
    first : str
        What is being done until the first report.
    then : str
        What is being done from there on; default: the same.

    Yields
    ------
    callable or None
        Called as ``tick(done, total)``.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(first, total=None)
        yield lambda done, total: bar.update(
            task, completed=done, total=total, description=then or first
        )
