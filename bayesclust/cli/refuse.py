"""Refusals: exit code 2 and one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import typer


def fail(message: str) -> NoReturn:
    """End with exit code 2 and one line."""
    typer.echo(f"bayesclust: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(2)


def attempt(call: Callable[[], Any]) -> Any:
    """Run a call whose ValueErrors speak to the user."""
    try:
        return call()
    except (ValueError, TypeError, FileNotFoundError, PermissionError) as error:
        fail(str(error))


def listed(names: list[str]) -> str:
    """Names for a sentence, cut where they are many."""
    return ", ".join(map(str, names[:8])) + (" .." if len(names) > 8 else "")


def counted(n: int, noun: str) -> str:
    """A number and its noun, in the plural where it is due."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
