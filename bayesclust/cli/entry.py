"""The way in from a shell."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line on this process's arguments.

    Exit codes: 0 done, 2 bad input (one line on stderr says what to do), 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        try:
            from bayesclust.cli.app import app
        except ModuleNotFoundError as error:
            if error.name not in ("typer", "rich"):
                raise
            sys.stderr.write(
                f"bayesclust: the command line needs {error.name}: install bayesclust[cli]\n"
            )
            sys.exit(2)
        app(prog_name="bayesclust")
    except KeyboardInterrupt:  # before or after the command itself, which says so on its own
        sys.stderr.write("bayesclust: interrupted\n")
        sys.exit(130)
