"""Frozen dataclasses that JAX may flatten, trace and rebuild."""

from __future__ import annotations

import dataclasses
from typing import Any, dataclass_transform

import jax
from jax.core import Tracer


def static(**kwargs: Any) -> Any:
    """Declare a field that is part of the program, not of the data: a new value retraces."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree[T](cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and register it as a pytree.

    Fields declared with `static` become metadata (hashed, compared, retraced on change);
    every other field is a leaf or a subtree and is traced.
    """
    frozen: Any = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(frozen)
    meta = [f.name for f in fields if f.metadata.get("static")]
    data = [f.name for f in fields if not f.metadata.get("static")]
    return jax.tree_util.register_dataclass(frozen, data_fields=data, meta_fields=meta)


def traced(*trees: Any) -> bool:
    """Whether any array belongs to a program that is being built."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))
