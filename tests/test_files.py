"""Files appear whole or not at all, whatever happens on the way."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from bayesclust._files import write_together, write_whole


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def broken(content: bytes, error: BaseException) -> Callable[[IO[bytes]], None]:
    """Content that fails half-way."""

    def write(file: IO[bytes]) -> None:
        file.write(content)
        raise error

    return write


@pytest.fixture
def pair(tmp_path: Path) -> dict[Path, bytes]:
    return {tmp_path / "a": b"new a", tmp_path / "b": b"new b"}


def test_new_and_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"
    write_whole(str(path), lambda file: file.write(b"two"))
    assert contents(tmp_path) == {"x": b"two"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()]
)
def test_failure_while_writing(pair: Any, tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_bytes(b"old a")
    files = {**pair, tmp_path / "b": broken(b"half", error)}
    with pytest.raises(type(error)) as caught:
        write_together(files)
    assert contents(tmp_path) == {"a": b"old a"}
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(tmp_path / "b")


@pytest.mark.parametrize("fails", ["a", "b"])
@pytest.mark.parametrize("before", [{}, {"a": b"old a"}, {"a": b"old a", "b": b"old b"}])
def test_failure_while_replacing(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, before: dict[str, bytes]
) -> None:
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == fails and Path(source).suffix == ".part":
            raise OSError(errno.EIO, "Input/output error", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output") as caught:
        write_together(pair)
    assert caught.value.filename == str(tmp_path / fails)
    assert contents(tmp_path) == before


KILLED = """
import os, sys
from pathlib import Path
from bayesclust._files import write_together

count, real = 0, os.{call}
def dying(*args, **kwargs):
    global count
    count += 1
    if count == {which}:
        os._exit(9)
    return real(*args, **kwargs)
os.{call} = dying
folder = Path(sys.argv[1])
write_together({{folder / "a": b"new a", folder / "b": b"new b"}})
"""


@pytest.mark.skipif(os.name != "posix", reason="what a dead process left is found by its number")
@pytest.mark.parametrize(
    ("call", "which"), [("fsync", 1), ("fsync", 2), ("link", 1), ("link", 2), ("replace", 2)]
)
def test_death_keeps_a_whole_pair(tmp_path: Path, call: str, which: int) -> None:
    """At each instant the old pair is there, under its names or to be put back."""
    old = {"a": b"old a", "b": b"old b"}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    code = KILLED.format(call=call, which=which)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
    with pytest.raises(ValueError):  # which recovers, and then fails
        write_together({tmp_path / n: broken(b"half", ValueError()) for n in old})
    assert contents(tmp_path) == old


def test_death_after_the_last_replacement_keeps_the_new_pair(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"old")
    # The directory is flushed once both are in place: the third call.
    code = KILLED.format(call="fsync", which=3)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
    with pytest.raises(ValueError):
        write_together({tmp_path / n: broken(b"half", ValueError()) for n in "ab"})
    assert contents(tmp_path) == {"a": b"new a", "b": b"new b"}


def test_parts_of_the_living_are_left_alone(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def inner(file: IO[bytes]) -> None:
        write_whole(tmp_path / "x", b"inner")  # another write of the same file meanwhile
        seen.append(names(tmp_path))

    write_whole(tmp_path / "x", inner)
    assert len(seen[0]) == 2  # the outer part, and x
    assert contents(tmp_path) == {"x": b""}


@pytest.mark.parametrize("links", [True, False])
def test_not_over_another(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """A file that appears between the first look and the writing is not overwritten."""
    if not links:

        def refuse(*args: Any) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)

    def late(file: IO[bytes]) -> None:
        (tmp_path / "b").write_bytes(b"somebody else's")

    with pytest.raises(FileExistsError) as caught:
        write_together({**pair, tmp_path / "b": late}, overwrite=False)
    assert caught.value.filename == str(tmp_path / "b")
    assert contents(tmp_path) == {"b": b"somebody else's"}
    (tmp_path / "b").unlink()
    write_together(pair, overwrite=False)
    assert contents(tmp_path) == {"a": b"new a", "b": b"new b"}
    write_together({p: c + b"er" for p, c in pair.items()})
    assert contents(tmp_path) == {"a": b"new aer", "b": b"new ber"}


def test_one_of_many_writers_wins(tmp_path: Path) -> None:
    won = []

    def one(i: int) -> None:
        try:
            write_whole(tmp_path / "x", str(i).encode(), overwrite=False)
        except FileExistsError:
            return
        won.append(i)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert contents(tmp_path) == {"x": str(won[0]).encode()}


def test_links_are_followed_and_modes_kept(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(real)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert contents(tmp_path / "there") == {"real": b"new"}
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    fresh = tmp_path / "fresh"
    write_whole(fresh, b"")
    assert fresh.stat().st_mode == plain.stat().st_mode
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "there" / "later")
    write_whole(dangling, b"x")
    assert (tmp_path / "there" / "later").read_bytes() == b"x"


def test_refusals_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "mine").write_bytes(b"keep")
    with pytest.raises(IsADirectoryError, match="taken"):
        write_whole(folder, b"x")
    assert contents(folder) == {"mine": b"keep"}
    with pytest.raises(FileNotFoundError, match=r"no directory .*none.*x\.nc"):
        write_whole(tmp_path / "none" / "x.nc", b"x")
    guarded = tmp_path / "guarded"
    guarded.write_bytes(b"keep")
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(PermissionError, match="guarded"):
        write_whole(guarded, b"x")
    assert guarded.read_bytes() == b"keep"


def test_long_names(tmp_path: Path) -> None:
    first, second = ("x" * 250 + end for end in "ab")
    write_together({tmp_path / first: b"1", tmp_path / second: b"2"})
    assert contents(tmp_path) == {first: b"1", second: b"2"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_devices_are_written_to() -> None:
    write_whole("/dev/null", b"x")
    assert not Path("/dev/null").is_file()
    with pytest.raises(OSError, match="/dev/full") as caught:
        write_whole("/dev/full", b"x" * 100_000)
    assert caught.value.errno == errno.ENOSPC
