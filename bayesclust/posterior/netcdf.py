"""Reading netCDF files that may come from anyone.

Only what is asked for by name is looked at, one group deep, and a variable is read only after its
declaration has been checked: it lies in this file (no external storage, no virtual dataset, no
link), it is of the kind and shape asked for, and all that is declared fits a budget. Attributes
such as ``scale_factor`` and ``_FillValue`` change nothing: numbers are taken as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

LEAST_BUDGET = 1 << 26
"""Bytes that the variables of any file may declare together: 64 MiB."""

EXPANSION = 20
"""And so many times the size of the file more, which leaves room for compression."""

MEMBERS = 1000
"""Most variables, or attributes, of a group."""

Shape = Sequence[int | None]
"""Sizes that a variable must have; None takes any."""

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Reader:
    """The groups of an open file.

    Parameters
    ----------
    file : binary file
    size : int
        Of the file, in bytes.

    Raises
    ------
    OSError
        If it is no HDF5 file.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        import h5py

        self._raw = file
        self._file = h5py.File(file, "r")
        self._size = size
        self._left = LEAST_BUDGET + EXPANSION * size

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    @property
    def root(self) -> Group:
        """The group that all others are in."""
        return Group(self, self._file, "")

    def group(self, name: str) -> Group:
        """A group of the root; a ValueError if there is none."""
        return self.root.group(name)

    def charge(self, where: str, size: int) -> None:
        """Take bytes off the budget; a ValueError if there are too few left."""
        self._left -= size
        if self._left < 0:
            raise ValueError(
                f"{where} declares {size / 2**20:.4g} MiB, more than a file of "
                f"{self._size / 2**20:.4g} MiB may hold"
            )

    @property
    def text_size(self) -> int:
        """Bytes that no text can be longer than."""
        return self._size

    def check_lengths(self, where: str, variable: Any) -> None:
        """Refuse texts that are longer than the file, before memory is taken for them."""
        offset, layout = variable.id.get_offset(), self._file.id.get_create_plist()
        if offset is None or layout.get_sizes() != (8, 8) or layout.get_userblock():
            raise ValueError(f"{where} holds texts that are not stored in one piece")
        self._raw.seek(offset)
        references = np.frombuffer(self._raw.read(len(variable) * TEXT.itemsize), TEXT)
        if references["length"].sum(dtype=np.float64) > self._size:
            raise ValueError(f"{where} holds more text than the file is long")


TEXT = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
"""A text's place in a heap, as HDF5 stores it in a variable."""


class Group:
    """Variables and attributes of a group; made by `Reader`."""

    def __init__(self, reader: Reader, node: Any, path: str) -> None:
        self._reader, self._node, self._path = reader, node, path
        for count in (len(node), len(node.attrs)):
            if count > MEMBERS:
                raise ValueError(f"{path or 'the file'} has {count} members, {MEMBERS} at most")

    def group(self, name: str) -> Group:
        """A group in this one."""
        import h5py

        return Group(self._reader, self._member(name, h5py.Group), self._where(name))

    def names(self) -> list[str]:
        """Names of all members."""
        return [str(name) for name in self._node]

    def __contains__(self, name: str) -> bool:
        # Unlike h5py's own test this follows no link.
        return bool(self._node.id.links.exists(name.encode()))

    def attributes(self) -> dict[str, Any]:
        """Attributes that are one text or one number; others are left out."""
        found: dict[str, Any] = {}
        for name in self._node.attrs:
            value = self._attribute(self._node, name)
            if value is not None:
                found[str(name)] = value
        return found

    def floats(self, name: str, shape: Shape) -> np.ndarray:
        """A variable of floats, float32 or float64 as it is stored."""
        variable = self._variable(name, shape)
        if variable.dtype.newbyteorder("=") not in FLOATS:
            raise self._unlike(name, variable, "float32 or float64")
        return self._numbers(name, variable)

    def integers(self, name: str, shape: Shape) -> np.ndarray:
        """A variable of integers."""
        variable = self._variable(name, shape)
        if variable.dtype.kind not in "iu":
            raise self._unlike(name, variable, "integers")
        return self._numbers(name, variable)

    def numbers(self, name: str, shape: Shape) -> np.ndarray:
        """A variable of integers, booleans or floats."""
        variable = self._variable(name, shape)
        if variable.dtype.kind not in "iu":
            return self.floats(name, shape)
        value = self._numbers(name, variable)
        # netCDF has no booleans; xarray marks those that it writes.
        marked = "dtype" in variable.attrs and self._attribute(variable, "dtype") == "bool"
        return value.astype(bool) if marked else value

    def dimensions(self, name: str) -> int:
        """Number of dimensions of a variable."""
        return len(self._variable(name, None).shape)

    def texts(self, name: str, shape: Shape) -> list[str]:
        """A variable of texts, of one dimension."""
        import h5py

        variable = self._variable(name, shape)
        found = h5py.check_string_dtype(variable.dtype)
        if found is None or variable.ndim != 1:
            raise self._unlike(name, variable, "texts")
        self._charge(name, variable)
        if found.length is None:
            self._reader.check_lengths(self._where(name), variable)
        return [bytes(text).decode() for text in variable[...]]

    def names_of_rows(self, name: str, size: int) -> np.ndarray:
        """Names of rows: texts, numbers, times or durations."""
        import h5py

        variable = self._variable(name, (size,))
        if h5py.check_string_dtype(variable.dtype) is not None:
            return np.array(self.texts(name, (size,)), dtype=object)
        values = self.numbers(name, (size,))
        keys = [key for key in ("units", "calendar", "dtype") if key in variable.attrs]
        attributes = {key: self._attribute(variable, key) for key in keys}
        return values if attributes.get("units") is None else _times(values, attributes)

    # -- checks before anything is read ------------------------------------------------------

    def _where(self, name: str) -> str:
        return f"{self._path}/{name}" if self._path else name

    def _unlike(self, name: str, variable: Any, wanted: str) -> ValueError:
        return ValueError(f"{self._where(name)} has dtype {variable.dtype}, expected {wanted}")

    def _member(self, name: str, kind: type) -> Any:
        import h5py

        if name not in self:
            raise ValueError(f"{self._where(name)} is missing")
        if not isinstance(self._node.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{self._where(name)} is a link to somewhere else")
        if self._node.get(name, getclass=True) is not kind:
            raise ValueError(f"{self._where(name)} is no {kind.__name__.lower()}")
        return self._node[name]

    def _variable(self, name: str, shape: Shape | None) -> Any:
        import h5py

        variable = self._member(name, h5py.Dataset)
        where = self._where(name)
        layout = variable.id.get_create_plist()
        if variable.is_virtual or layout.get_external_count():
            raise ValueError(f"{where} is stored in another file")
        known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
        filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
        if not filters <= known:
            raise ValueError(f"{where} is compressed by another filter than gzip")
        found = variable.shape
        if found is None:
            raise ValueError(f"{where} is empty")
        if shape is None:
            return variable
        if len(found) != len(shape):
            raise ValueError(f"{where} has shape {found}, expected {len(shape)} dimensions")
        if any(want not in (None, size) for want, size in zip(shape, found, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{where} has shape {found}, expected ({wanted})")
        return variable

    def _charge(self, name: str, variable: Any) -> None:
        """Charge what a variable declares, and the chunk that is unpacked to read any of it."""
        each = variable.dtype.itemsize
        sizes = [variable.shape, variable.chunks or ()]
        declared = max(math.prod(max(size, 1) for size in shape) * each for shape in sizes)
        self._reader.charge(self._where(name), declared)

    def _numbers(self, name: str, variable: Any) -> np.ndarray:
        self._charge(name, variable)
        value = np.asarray(variable[...])
        return value.astype(value.dtype.newbyteorder("="), copy=False)

    def _attribute(self, node: Any, name: str) -> Any:
        """One text or one number; None for anything else."""
        import h5py

        declared = node.attrs.get_id(name)
        if declared.shape is None or math.prod(declared.shape) != 1:
            return None
        if declared.get_storage_size() > self._reader.text_size:
            raise ValueError(f"attribute {name} is longer than the file")
        text = h5py.check_string_dtype(declared.dtype) is not None
        if not text and declared.dtype.kind not in "iuf":
            return None
        value = node.attrs[name]
        value = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
        return value.decode() if isinstance(value, bytes) else value


def _times(values: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """Times or durations from numbers and their unit, as xarray writes them."""
    from bayesclust.posterior.lazy import xr

    stored = xr.Dataset(coords={"obs": ("obs", values, attributes)})
    times = np.asarray(xr.decode_cf(stored, decode_timedelta=True)["obs"])
    if times.dtype.kind not in "mM":
        raise ValueError(f"row names have the unit {attributes['units']!r}")
    return times
