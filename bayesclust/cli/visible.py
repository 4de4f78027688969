"""Text from data made safe to print."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that steer a terminal, reorder text, or break a line."""

JOINERS = "\u200c\u200d"
"""Hidden characters that words and emoji are spelt with."""


def visible(text: object) -> str:
    """Escape what a terminal would obey or hide: control characters, bidi marks, line breaks.

    Parameters
    ----------
    text : object
        Its text comes from data: a name, a cell, a path.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(map(_escaped, plain))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in HIDDEN or character in JOINERS:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def listed(names: Iterable[object]) -> str:
    """Names for a sentence, cut where they are many."""
    shown = [visible(n) for n in names]
    return ", ".join(shown[:8]) + (f" .. ({len(shown)} in all)" if len(shown) > 8 else "")


def counted(n: int, noun: str) -> str:
    """A number and its noun, in the plural where it is due."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
