"""xarray, imported when a table is first made: a fit that is only asked for labels needs none."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["xr"]


class _Xarray:
    """Stand in for the module, which is imported when a name of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("xarray"), name)


if TYPE_CHECKING:
    import xarray as xr
else:
    xr = _Xarray()
