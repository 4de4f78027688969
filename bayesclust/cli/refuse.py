"""Refusals: exit code 2 and one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import typer

from bayesclust.cli.notes import in_options
from bayesclust.cli.visible import visible


def fail(message: str) -> NoReturn:
    """End with exit code 2 and one line."""
    typer.echo(f"bayesclust: {visible(' '.join(str(message).split()))}", err=True)
    raise typer.Exit(2)


def attempt[T](call: Callable[[], T]) -> T:
    """Run a call whose errors speak to the user, in the words of the options."""
    try:
        return call()
    except MemoryError as error:
        fail(f"not enough memory: {error}")
    except (ValueError, TypeError, OverflowError, OSError) as error:
        fail(in_options(str(error)))
