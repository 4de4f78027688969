"""The command line: ``bayesclust fit`` and ``bayesclust score``."""

from bayesclust.cli.entry import main

__all__ = ["main"]
