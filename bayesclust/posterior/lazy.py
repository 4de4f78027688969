"""xarray, loaded when a table is first made: a fit that is only asked for labels needs none."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

__all__ = ["xr"]


def _at_first_use(name: str) -> Any:
    """A module whose code runs when an attribute is first asked for."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    import xarray as xr
else:
    xr = _at_first_use("xarray")
