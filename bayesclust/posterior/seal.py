"""A checksum behind a file: damage is found before anything interprets the bytes."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

MARK = b"\nbayesclust sha256 "
SIZE = len(MARK) + 64 + 1
"""Bytes of a seal: the mark, 64 hexadecimal digits, a newline."""

BLOCK = 1 << 20


def sealed(content: bytes) -> bytes:
    """Append a seal to the bytes of a file; HDF5 ignores what follows its own end."""
    return content + MARK + hashlib.sha256(content).hexdigest().encode() + b"\n"


def find_seal(file: BinaryIO, size: int) -> bool | None:
    """Compare the bytes of a file with its seal.

    Parameters
    ----------
    file : binary file
    size : int
        Of the file, in bytes.

    Returns
    -------
    bool or None
        Whether they agree; None if there is no seal.
    """
    length = size - SIZE
    if length < 0:
        return None
    file.seek(length)
    seal = file.read(SIZE)
    if not seal.startswith(MARK):
        return None
    digest = hashlib.sha256()
    file.seek(0)
    while length > 0:
        block = file.read(min(BLOCK, length))
        if not block:
            return False
        digest.update(block)
        length -= len(block)
    return seal[len(MARK) :] == digest.hexdigest().encode() + b"\n"
