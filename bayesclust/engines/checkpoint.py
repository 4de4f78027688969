"""Checkpoints of a run: plain arrays in one file, which appears whole or not at all.

Reading one executes nothing: arrays come back without pickle, and what they mean is decided by
the run that reads them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fingerprint(*trees: Any) -> str:
    """A name for trees of arrays: other numbers, shapes, types or classes, another name."""
    found = hashlib.sha256(str(jax.tree.structure(trees)).encode())
    for leaf in jax.tree.leaves(trees):
        value = np.ascontiguousarray(plain(leaf))
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def plain(leaf: Any) -> np.ndarray:
    """A leaf as a NumPy array; a random key as its numbers."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def save(path: str, mark: str, position: int, tree: Any) -> None:
    """Write the leaves of a tree, and where the run stands.

    Parameters
    ----------
    path : str
    mark : str
        `fingerprint` of all that the run depends on.
    position : int
    tree : pytree of arrays
    """
    target = Path(path)
    leaves = {f"leaf_{i}": plain(v) for i, v in enumerate(jax.tree.leaves(tree))}
    handle, part = tempfile.mkstemp(suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, mark=np.array(mark), position=np.array(position), **leaves)
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def load(path: str, mark: str) -> tuple[int, list[np.ndarray]] | None:
    """Where a run stood and its leaves; None if there is no checkpoint.

    Raises
    ------
    ValueError
        If the file is of another run, or no checkpoint at all.
    """
    if not Path(path).exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            found = str(file["mark"])
            position = int(file["position"])
            leaves = [file[f"leaf_{i}"] for i in range(len(file.files) - 2)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"checkpoint={path!r} is no checkpoint, or is damaged: {error}") from error
    if found != mark:
        raise ValueError(
            f"checkpoint={path!r} belongs to another run (other data, model, settings or seed): "
            "remove it or give another path"
        )
    return position, leaves


def restore(like: Any, leaves: list[np.ndarray]) -> Any:
    """A tree of the structure of `like` from leaves; random keys become keys again."""
    models, structure = jax.tree.flatten(like)

    def back(model: Any, leaf: np.ndarray) -> Any:
        if isinstance(model, jax.Array) and jnp.issubdtype(model.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(leaf), impl=jax.random.key_impl(model))
        return jnp.asarray(leaf)

    return structure.unflatten([back(m, v) for m, v in zip(models, leaves, strict=True)])
