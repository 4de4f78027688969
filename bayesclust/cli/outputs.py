"""Files out: checked before the work, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bayesclust.cli.refusal import Refusal


def check_directory(directory: Path, option: str) -> None:
    """Refuse a directory that neither exists nor can be made, or that cannot be written to."""
    if directory.exists() and not directory.is_dir():
        raise Refusal(f"{option} {directory} is a file: give a directory")
    home = directory if directory.exists() else directory.parent
    if not home.is_dir():
        raise Refusal(f"{option} {directory}: there is no directory {home}; create it first")
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise Refusal(
            f"{option}: cannot write to {home} ({error.strerror}); choose another place"
        ) from error


def check_file(path: Path, option: str, force: bool, inputs: list[Path]) -> None:
    """Refuse a file that is there already, unless it may be replaced; never an input."""
    if path.is_dir():
        raise Refusal(f"{option}: {path} is a directory; choose another --out")
    if not path.exists():
        return
    if any(entry.exists() and path.samefile(entry) for entry in inputs):
        raise Refusal(f"{option}: {path} is an input of this command; choose another --out")
    if not force:
        raise Refusal(
            f"{option}: {path} exists already; choose another --out, or pass --force to replace it"
        )


def write_together(directory: Path, files: dict[str, Callable[[Path], None]]) -> None:
    """Write the files of a directory, all of them or none.

    Parameters
    ----------
    directory : Path
        Made if absent, and removed again if nothing comes of it.
    files : dict
        By name: what writes the file, given a path.

    Raises
    ------
    Refusal
        If the disk refuses.
    """
    made = not directory.exists()
    try:
        directory.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bayesclust-", dir=directory) as part:
            for name, write in files.items():
                write(Path(part) / name)
            _move(Path(part), directory, list(files))
    except BaseException as error:
        if made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        if isinstance(error, OSError):
            raise Refusal(
                f"cannot write to {directory} ({error.strerror or error}); nothing was changed"
            ) from error
        raise


def _move(part: Path, directory: Path, names: list[str]) -> None:
    """Put finished files in their places; if one fails, those before it go back."""
    kept = part / "replaced"
    kept.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            place = directory / name
            if place.exists():
                try:
                    os.link(place, kept / name)
                except OSError:  # a file system without links
                    shutil.copy2(place, kept / name)
            moved.append(name)
            os.replace(part / name, place)
    except BaseException:
        for name in moved:
            if (kept / name).exists():
                os.replace(kept / name, directory / name)
            else:
                (directory / name).unlink(missing_ok=True)
        raise
