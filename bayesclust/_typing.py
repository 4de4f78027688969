"""Array aliases; letters of shapes: n rows, d features, k components, c chains, s draws."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import numpy as np
from numpy.typing import ArrayLike

Array: TypeAlias = jax.Array
AnyArray: TypeAlias = jax.Array | np.ndarray
Key: TypeAlias = jax.Array
Params: TypeAlias = dict[str, Any]
"""Parameters of all components: name -> array, e.g. ``mean (k, d)``, ``cov (k, d, d)``."""

__all__ = ["AnyArray", "Array", "ArrayLike", "Key", "Params"]
