"""Outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from bayesclust._files import Content, write_together
from bayesclust.cli.refuse import fail


def check_free(path: Path, force: bool) -> None:
    """Refuse a path that cannot be written to, before any work is done.

    The same is checked again at the moment of writing.
    """
    if path.is_dir():
        fail(f"{path} is a directory: choose another --out, or move it away")
    if path.exists() and not force:
        fail(f"{path} exists already: choose another --out, or pass --force to overwrite it")


def write(files: Mapping[Path, Content], *, force: bool) -> None:
    """Write all files or none; earlier ones stay where that fails.

    The directory is made if it is absent, and taken away again if nothing was written.
    """
    folders = {path.parent for path in files}
    fresh = [folder for folder in folders if not folder.exists()]
    try:
        for folder in fresh:
            folder.mkdir(exist_ok=True)
        write_together(files, overwrite=force)
    except BaseException as error:
        for folder in fresh:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, FileExistsError):
            fail(
                f"{error.filename} exists already: choose another --out, or pass --force to "
                "overwrite it"
            )
        if isinstance(error, OSError):
            fail(f"cannot write {error.filename}: {error.strerror or error}")
        raise
