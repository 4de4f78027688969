"""Write files that appear whole or not at all.

Bytes go to a hidden part beside the target, are flushed to the disk, and take the target's place
in one step. An error names the file that the caller asked for, leaves what stood there before
untouched, and leaves no part behind; parts of processes that died are removed by the next write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import socket
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

Content = bytes | Callable[[IO[bytes]], object]
"""The bytes of a file, or a function that writes them to an open file."""


def write_whole(path: str | os.PathLike[str], content: Content, *, overwrite: bool = True) -> None:
    """Write one file; see `write_together`."""
    write_together({path: content}, overwrite=overwrite)


def write_together[P: str | os.PathLike[str]](
    files: Mapping[P, Content], *, overwrite: bool = True
) -> None:
    """Write several files, all or none.

    If the process dies between two replacements, hidden copies of the earlier files are still
    there, and the next write of these files puts them back first. Symbolic links are followed, a
    replaced file keeps its permissions, and a device or pipe is written to as it is.

    Parameters
    ----------
    files : mapping of path to content
    overwrite : bool
        Replace earlier files. If False, a file that exists at the moment of writing is an error.

    Raises
    ------
    OSError
        With the path that was asked for: the disk is full, the directory is missing or read-only,
        the target is a directory or write-protected, or it exists and `overwrite` is False.
    """
    staged: list[_Staged] = []
    try:
        for path, content in files.items():
            with _naming(path):
                target = Path(os.path.realpath(path))
                if _is_stream(target):
                    with open(target, "wb") as file:
                        _put(content, file)
                    continue
                _check_replaceable(target, overwrite)
                staged.append(_Staged(path, target))
        _recover(staged)
        for item in staged:
            with _naming(item.path):
                item.write(files[item.path])
        _commit(staged, overwrite)
    finally:
        _remove(item.part for item in staged)


@dataclasses.dataclass
class _Staged:
    """A target, with the hidden files beside it that this process works on."""

    path: str | os.PathLike[str]
    target: Path
    token: str = dataclasses.field(default_factory=lambda: secrets.token_hex(4))

    @property
    def part(self) -> Path:
        """The new file, until it takes the target's place."""
        return self._beside("part")

    @property
    def old(self) -> Path:
        """The earlier file, until all targets are replaced."""
        return self._beside("old")

    @property
    def prefix(self) -> str:
        """Begin the names of hidden files of this target, of whatever process."""
        name = self.target.name
        return f".{name[:40]}.{zlib.crc32(os.fsencode(name)):08x}."

    def _beside(self, suffix: str) -> Path:
        return self.target.with_name(f"{self.prefix}{_owner()}-{self.token}.{suffix}")

    def write(self, content: Content) -> None:
        # The mode 0o666 is narrowed by the process's own mask, as for any new file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(self.part, flags, 0o666), "wb") as file:
            _put(content, file)
            file.flush()
            os.fsync(file.fileno())
        if self.target.exists():
            self.part.chmod(stat.S_IMODE(self.target.stat().st_mode))


def _put(content: Content, file: IO[bytes]) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content)


def _commit(staged: list[_Staged], overwrite: bool) -> None:
    """Let all parts take their targets' places; undo what was done if one cannot."""
    several = len(staged) > 1
    try:
        if overwrite and several:
            for item in staged:
                if item.target.exists():
                    with _naming(item.path):
                        _keep(item.target, item.old)
        for item in staged:
            with _naming(item.path):
                if overwrite:
                    os.replace(item.part, item.target)
                else:
                    _place(item.part, item.target)
    except BaseException:
        if several:
            for item in staged:
                if item.part.exists():
                    continue  # its target is as it was
                if item.old.exists():
                    os.replace(item.old, item.target)
                else:
                    item.target.unlink(missing_ok=True)
            _remove(item.old for item in staged)
        raise
    _remove(item.old for item in staged)
    for folder in {item.target.parent for item in staged}:
        _flush(folder)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _keep(target: Path, old: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(target, old)
    except OSError:
        old.write_bytes(target.read_bytes())


def _place(part: Path, target: Path) -> None:
    """Move a part to a name that nobody has; a FileExistsError if somebody does."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here: claim the name, then fill it
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.replace(part, target)
    else:
        part.unlink()


def _recover(staged: list[_Staged]) -> None:
    """Clear what dead processes left, and undo a replacement that one did not finish."""
    parts: dict[str, list[Path]] = {}
    earlier: list[tuple[str, Path, Path]] = []
    for item in staged:
        for found in item.target.parent.iterdir():
            if not found.name.startswith(item.prefix):
                continue
            owner = found.stem.removeprefix(item.prefix).rpartition("-")[0]
            if not _is_dead(owner):
                continue
            if found.suffix == ".part":
                parts.setdefault(owner, []).append(found)
            elif found.suffix == ".old":
                earlier.append((owner, found, item.target))
    with contextlib.suppress(OSError):
        for owner, old, target in earlier:
            # A part that is left says that not all targets of its process are new.
            if owner in parts:
                os.replace(old, target)
            old.unlink(missing_ok=True)
        for part in (p for found in parts.values() for p in found):
            part.unlink(missing_ok=True)


def _owner() -> str:
    """Name this process, for the names of its hidden files."""
    host = "".join(c if c.isascii() and c.isalnum() else "_" for c in socket.gethostname())
    return f"{host[:40]}-{os.getpid()}"


def _is_dead(owner: str) -> bool:
    """Whether an owner is a process of this machine which is no more."""
    pid = owner.rpartition("-")[2]
    ours = owner.rpartition("-")[0] == _owner().rpartition("-")[0]
    if not ours or not pid.isdecimal() or os.name != "posix":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _is_stream(target: Path) -> bool:
    """Whether a target is a device or pipe, which cannot be replaced by a file."""
    return target.exists() and not target.is_file() and not target.is_dir()


def _check_replaceable(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no directory {target.parent}; create it first"
        )
    if target.exists():
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "exists already")
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "is write-protected")


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors name the file that the caller asked for, not a hidden one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _flush(folder: Path) -> None:
    """Bring a directory's entries to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
