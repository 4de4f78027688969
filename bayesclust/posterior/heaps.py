"""Texts of HDF5 files lie in heaps, and a broken heap makes the HDF5 library run for ever.

References
----------
The HDF Group, HDF5 File Format Specification version 3.0, section III.E: a heap is ``GCOL``, its
    version, 3 unused bytes, its size, then objects: index (2 bytes), references (2), unused (4),
    size (8), and the object itself, filled up to 8 bytes. Object 0, free space, counts its header.
"""

from __future__ import annotations

import mmap
from typing import BinaryIO

SIGNATURE = b"GCOL\x01"
HEADER = 16
"""Bytes of the header of a heap, and of an object."""


def endless_heap(file: BinaryIO) -> bool:
    """Whether a heap of a file has free space of no size, which the HDF5 library never leaves."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(SIGNATURE)
        while at >= 0:
            if _is_endless(content, at):
                return True
            at = content.find(SIGNATURE, at + 1)
    return False


def _is_endless(content: mmap.mmap, begin: int) -> bool:
    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], "little")

    end = min(begin + number(begin + 8, 8), len(content))
    at = begin + HEADER
    while at + HEADER <= end:
        index, size = number(at, 2), number(at + 8, 8)
        step = HEADER + -(-size // 8) * 8 if index else size
        if step == 0:
            return True
        at += step
    return False
