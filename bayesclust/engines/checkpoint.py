"""Checkpoints of a run: plain arrays in one file, which appears whole or not at all.

Reading one executes nothing, and takes no more memory than the run's own arrays: what a file
declares is compared with what the run that reads it expects before anything is read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy

from bayesclust._files import write_whole

REMEDY = "remove it, or give another path"

HEADER = 1024
"""Bytes that an array of ours takes in the file beside its numbers, at most."""


def fingerprint(*trees: Any) -> str:
    """Name trees of arrays: other numbers, shapes, types or classes, another name."""
    # Where a function lies in memory says nothing of what it does.
    structure = re.sub(r" at 0x[0-9a-fA-F]+", "", str(jax.tree.structure(trees)))
    found = hashlib.sha256(structure.encode())
    for leaf in jax.tree.leaves(trees):
        value = plain(leaf)
        if value.dtype == object:  # a class of the user's that is no pytree
            value = np.array(f"{type(leaf).__module__}.{type(leaf).__qualname__}")
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def plain(tree: Any) -> Any:
    """A tree with NumPy arrays as leaves; random keys become their numbers."""

    def numbers(leaf: Any) -> np.ndarray:
        if _is_key(leaf):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    return jax.tree.map(numbers, tree)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Keep other runs from a checkpoint while one uses it.

    The lock is the operating system's, on a file beside the checkpoint, and ends with the process
    that holds it, however that ends: a lock file that a killed run left behind stops nobody.

    Raises
    ------
    RuntimeError
        If another run is using it.
    OSError
        If there can be no file beside it.
    """
    name = f"{os.path.realpath(path)}.lock"
    handle = _lock(path, name)
    try:
        yield
    finally:
        # Removed while it is locked, so that nobody else's is; Windows removes closed files only.
        if sys.platform == "win32":
            os.close(handle)
        with contextlib.suppress(OSError):
            os.unlink(name)
        if sys.platform != "win32":
            os.close(handle)


def _lock(path: str, name: str) -> int:
    while True:
        try:
            handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            why = f"no checkpoint can be kept here, {error.strerror}"
            raise OSError(error.errno, why, str(path)) from error
        try:
            _take(handle)
            # Whoever held it may have removed it meanwhile.
            if os.path.exists(name) and os.path.samestat(os.fstat(handle), os.stat(name)):
                return handle
        except OSError as error:
            os.close(handle)
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise RuntimeError(
                    f"checkpoint={str(path)!r} is in use by another run: wait until it has ended, "
                    "or give another path"
                ) from error
            raise OSError(error.errno, f"cannot be locked, {error.strerror}", str(path)) from error
        os.close(handle)


def _take(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def save(path: str, mark: str, position: int, tree: Any) -> None:
    """Write the leaves of a tree, and where the run stands.

    Parameters
    ----------
    path : str
    mark : str
        `fingerprint` of all that the run depends on.
    position : int
    tree : pytree of arrays

    Raises
    ------
    OSError
        It names the file; an earlier one is untouched.
    """
    arrays = {
        "mark": np.array(mark),
        "position": np.array(position),
        "digest": np.array(fingerprint(mark, position, jax.tree.leaves(tree))),
        **{f"leaf_{i}": v for i, v in enumerate(jax.tree.leaves(plain(tree)))},
    }

    def write(file: IO[bytes]) -> None:
        np.savez(file, **{n: np.asarray(v, order="C") for n, v in arrays.items()})

    write_whole(path, write)


def load(path: str, mark: str, most: int, shapes: Callable[[int], Any]) -> tuple[int, Any] | None:
    """Where a run stood and its tree; None if there is no checkpoint.

    Parameters
    ----------
    path, mark : str
        As for `save`.
    most : int
        The last position there is.
    shapes : callable
        ``position -> tree`` of arrays with the shapes and types that belong there.

    Returns
    -------
    position : int
    tree : pytree of ndarrays

    Raises
    ------
    ValueError
        If the file is of another run, or no checkpoint, or not as it was written.
    """
    file = Path(path)
    if not file.exists():
        return None
    try:
        if not file.is_file():
            raise ValueError("it is no file")
        with zipfile.ZipFile(file) as archive:
            found = str(_array(archive, "mark", np.array(mark)))
            if found == mark:
                return _read(archive, mark, most, shapes)
    except Exception as error:  # a stranger's file fails anywhere in zipfile and NumPy
        raise ValueError(
            f"checkpoint={str(path)!r} is no checkpoint of this version, or is damaged "
            f"({error}): {REMEDY}"
        ) from error
    raise ValueError(
        f"checkpoint={str(path)!r} belongs to another run (other data, model, settings or seed): "
        f"{REMEDY}"
    )


def _read(
    archive: zipfile.ZipFile, mark: str, most: int, shapes: Callable[[int], Any]
) -> tuple[int, Any]:
    position = int(_array(archive, "position", np.array(0)))
    if not 0 < position <= most:
        raise ValueError(f"position {position} is not between 1 and {most}")
    likes, structure = jax.tree.flatten(shapes(position))
    if len(archive.infolist()) != len(likes) + 3:
        raise ValueError(f"it holds {len(archive.infolist())} arrays, not {len(likes) + 3}")
    leaves = [_array(archive, f"leaf_{i}", like) for i, like in enumerate(likes)]
    digest = fingerprint(mark, position, leaves)
    if str(_array(archive, "digest", np.array(digest))) != digest:
        raise ValueError("it was changed after it was written")
    for i, leaf in enumerate(leaves):
        # Minus infinity is the log weight of a component that holds nothing.
        if leaf.dtype.kind == "f" and not (leaf < np.inf).all():
            raise ValueError(f"leaf_{i} holds NaN or infinity")
    return position, structure.unflatten(leaves)


def _array(archive: zipfile.ZipFile, name: str, like: np.ndarray) -> np.ndarray:
    """An array of the shape and type of another, which take no more to read than it does."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > like.nbytes + HEADER:
        raise ValueError(f"{name} takes {info.file_size} bytes, not {like.nbytes}")
    data = archive.read(info)
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise ValueError(f"{name} is of another version of NumPy's format")
    shape, by_column, dtype = npy.read_array_header_1_0(file)
    if (shape, by_column, dtype) != (like.shape, False, like.dtype):
        raise ValueError(f"{name} is {dtype} {shape}, not {like.dtype} {like.shape}")
    if len(data) != file.tell() + like.nbytes:
        raise ValueError(f"{name} is cut short")
    return np.ndarray(shape, dtype, data, file.tell()).copy()


def restore(like: Any, tree: Any) -> Any:
    """A tree of plain arrays as it was before `plain`; random keys become keys like those given."""

    def back(model: Any, leaf: np.ndarray) -> Any:
        if _is_key(model):
            return jax.random.wrap_key_data(jnp.asarray(leaf), impl=jax.random.key_impl(model))
        return jnp.asarray(leaf)

    return jax.tree.map(back, like, tree)
