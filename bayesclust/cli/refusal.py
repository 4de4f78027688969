"""How the command line says no: exit code 2 and one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

# The base of all of Typer's complaints about usage; where it lives depends on Typer's version.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Refusal(Exception):
    """Bad input, in words that name it and say what to do."""


class OneLine(TyperGroup):
    """A group of commands whose complaints take one line on stderr."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments before the name of the command."""
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the arguments of the command and run it."""
        with _one_line():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _say("interrupted; no file was left half-written")
        raise typer.Exit(130) from None
    except Refusal as refusal:
        _say(refusal)
        raise typer.Exit(2) from None
    except UsageError as error:
        ctx: Any = getattr(error, "ctx", None)
        where = f"; see {ctx.command_path} --help" if ctx is not None else ""
        _say(error.format_message().rstrip(".") + where)  # type: ignore[attr-defined]
        raise typer.Exit(2) from None


def _say(message: Any) -> None:
    typer.echo(f"bayesclust: {' '.join(str(message).split())}", err=True)


def listed(names: Any) -> str:
    """Names for a sentence, cut short where they are many."""
    names = [str(name) for name in names]
    rest = len(names) - 8
    return ", ".join(names[:8]) + (f" and {rest} more" if rest > 0 else "")
