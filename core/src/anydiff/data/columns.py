"""Arrays of files, one row per example, of which rows are read without the rest: data larger than memory.

A file's rows are stored in *pieces* (chunks of Zarr and HDF5, row groups of Parquet). A piece is read whole and kept
for a while (:class:`Pieces`); a training takes the rows of few pieces at a time (:attr:`Column.edges`), so that each
piece is read about once an epoch.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.data.hdf5 import check_hdf5
from anydiff.data.reading import check_real, finite, reading
from anydiff.data.zarr_store import check_chunks, check_zarr
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.optional import require

SUFFIXES = (".zarr", ".h5", ".hdf5", ".parquet", ".npy")
PIECE_BYTES = 4 << 20
"""What is read at once of an array that is stored without pieces."""


class Column(ABC):
    """An array ``[N, *shape]`` of a file.

    Attributes:
        path: the file or folder.
        name: of the array in it.
        shape: ``(N, *shape)``.
        dtype: of its numbers.
        edges: int64 ``[pieces + 1]``: piece k holds the rows from ``edges[k]`` up to ``edges[k + 1]``.
    """

    def __init__(self, path: Path, name: str, shape: Sequence[int], dtype: Any, edges: NDArray[np.int64]) -> None:
        self.path, self.name, self.edges = path, name, edges
        self.shape, self.dtype = tuple(int(each) for each in shape), np.dtype(dtype)
        check_real(self.dtype, f"array {name!r}", path)
        if not self.shape or not self.shape[0]:
            raise FileFormatError(f"array {name!r} of {str(path)!r} has shape {self.shape}, so it has no rows.")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def piece_bytes(self) -> int:
        """Bytes of the largest piece in memory."""
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        return int(np.diff(self.edges).max()) * int(row)

    def piece(self, number: int) -> NDArray[Any]:
        """The rows of piece ``number``, finite numbers.

        Raises:
            FileFormatError: they cannot be read.
            NonFiniteError: a value is not finite.
        """
        begin, end = int(self.edges[number]), int(self.edges[number + 1])
        with reading(self.path, "a file of rows", "write it again"):
            values = self._read(begin, end)
        return finite(values, f"rows {begin} to {end - 1} of array {self.name!r}", self.path)

    @abstractmethod
    def _read(self, begin: int, end: int) -> NDArray[Any]:
        """Rows ``begin`` up to ``end``."""


class _Sliced(Column):
    """An array that a slice reads: of NumPy, Zarr, HDF5."""

    def __init__(self, path: Path, name: str, array: Any, rows: int | None) -> None:
        row = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
        size = rows or max(1, PIECE_BYTES // row)
        count = int(array.shape[0]) if array.shape else 0
        edges = np.append(np.arange(0, count, size, dtype=np.int64), count)
        super().__init__(path, name, array.shape, array.dtype, edges)
        self._array = array

    def _read(self, begin: int, end: int) -> NDArray[Any]:
        return np.array(self._array[begin:end])


class _Parquet(Column):
    """A column of numbers, or of lists of one length, of a Parquet file; its pieces are the row groups."""

    def __init__(self, path: Path, name: str, file: Any) -> None:
        self._file = file
        groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        edges = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)
        self.path, self.name = path, name
        first = self._numbers(file.read_row_group(0, columns=[name]))[:1]
        super().__init__(path, name, (int(edges[-1]), *first.shape[1:]), first.dtype, edges)

    def _read(self, begin: int, end: int) -> NDArray[Any]:
        number = int(np.searchsorted(self.edges, begin))
        values = self._numbers(self._file.read_row_group(number, columns=[self.name]))
        if values.shape[1:] != self.shape[1:]:
            raise FileFormatError(
                f"column {self.name!r} of {str(self.path)!r} holds rows of shape {self.shape[1:]} and, from row "
                f"{begin} on, of {values.shape[1:]}; give all one shape."
            )
        return values

    def _numbers(self, table: Any) -> NDArray[Any]:
        """``[rows, *shape]`` of a column of numbers or of lists, which may hold lists."""
        column = table.column(self.name).combine_chunks()
        rows, shape = len(column), []
        if column.null_count:
            raise FileFormatError(
                f"column {self.name!r} of {str(self.path)!r} has {column.null_count} rows without a value; fill them."
            )
        while hasattr(column.type, "value_type"):
            column = getattr(column, "storage", column)  # of a tensor type
            parent, column = len(column), column.flatten()
            if not parent or len(column) % parent:
                raise FileFormatError(
                    f"column {self.name!r} of {str(self.path)!r} holds lists of several lengths; give all one length."
                )
            shape.append(len(column) // parent)
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(rows, *shape)


class _Joined(Column):
    """The arrays of one name of several files, one after the other."""

    def __init__(self, path: Path, parts: Sequence[Column]) -> None:
        self._parts = parts
        first, begins = parts[0], np.cumsum([0, *map(len, parts)])
        for each in parts:
            if (each.shape[1:], each.dtype) != (first.shape[1:], first.dtype):
                raise FileFormatError(
                    f"array {each.name!r} has {first.dtype} rows of shape {first.shape[1:]} in {str(first.path)!r}, "
                    f"but {each.dtype} rows of shape {each.shape[1:]} in {str(each.path)!r}; give all files the same."
                )
        count = int(begins[-1])
        inside = [each.edges[:-1] + begin for each, begin in zip(parts, begins, strict=False)]
        edges = np.append(np.concatenate(inside), count)
        self._owners = [(each, number) for each in parts for number in range(len(each.edges) - 1)]
        super().__init__(path, first.name, (count, *first.shape[1:]), first.dtype, edges)

    def piece(self, number: int) -> NDArray[Any]:
        owner, inside = self._owners[number]
        return owner.piece(inside)

    def _read(self, begin: int, end: int) -> NDArray[Any]:
        raise NotImplementedError  # each part reads its own


def open_columns(path: str | Path) -> dict[str, Column]:
    """The arrays of a Zarr group, an HDF5, Parquet or NumPy file, by their names; those without rows are left out.

    A folder of such files is read as their rows one after the other, in the order of the names of the files; a ``.npy``
    file names no array, so of a folder of these the array is called ``rows``.

    Raises:
        AnydiffError: no such file, another ending, or its package is not installed.
        FileFormatError: damaged, with chunks that are not stored, with numbers that stand in other files, or files of a
            folder that hold different arrays.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir() and suffix != ".zarr":
        return _folder(path)
    if suffix not in SUFFIXES:
        raise AnydiffError(f"{str(path)!r} is none of {', '.join(SUFFIXES)}; write the rows as one of these.")
    if not path.exists():
        raise AnydiffError(f"{str(path)!r} does not exist; check the path.")
    found = {".zarr": _zarr, ".parquet": _parquet, ".npy": _numpy}.get(suffix, _hdf5)(path)
    if not found:
        raise FileFormatError(f"{str(path)!r} holds no array with rows of numbers; write one array per condition.")
    return found


def _folder(path: Path) -> dict[str, Column]:
    files = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
    if not files:
        raise AnydiffError(f"the folder {str(path)!r} holds no file of {', '.join(SUFFIXES)}; check the path.")
    opened = [open_columns(each) for each in files]
    if all(each.suffix.lower() == ".npy" for each in files):
        opened = [{"rows": next(iter(each.values()))} for each in opened]
    for file, columns in zip(files, opened, strict=True):
        if set(columns) != set(opened[0]):
            raise FileFormatError(
                f"{str(file)!r} holds the arrays {sorted(columns)}, but {str(files[0])!r} holds {sorted(opened[0])}; "
                "give all files of a folder the same arrays."
            )
    return {name: _Joined(path, [columns[name] for columns in opened]) for name in opened[0]}


def _zarr(path: Path) -> dict[str, Column]:
    zarr = require("zarr", f"reading {str(path)!r}", "anydiff[scale]")
    check_zarr(path, in_memory=False)
    check_chunks(path)
    with reading(path, "a Zarr group", "write it again"):
        group = zarr.open(path, mode="r")
        arrays = dict(group.arrays()) if hasattr(group, "arrays") else {"": group}
    return {name: _Sliced(path, name, array, array.chunks[0]) for name, array in arrays.items() if array.ndim}


def _hdf5(path: Path) -> dict[str, Column]:
    h5py = require("h5py", f"reading {str(path)!r}", "anydiff[hdf5]")
    check_hdf5(path, in_memory=False)
    with reading(path, "an HDF5 file", "write it again"):
        file = h5py.File(path, "r")
        arrays: dict[str, Any] = {}
        file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    kept = {name: each for name, each in arrays.items() if each.ndim and each.shape[0] and each.dtype.kind in "biuf"}
    return {name: _Sliced(path, name, each, each.chunks[0] if each.chunks else None) for name, each in kept.items()}


def _parquet(path: Path) -> dict[str, Column]:
    parquet = require("pyarrow.parquet", f"reading {str(path)!r}", "anydiff[parquet]")
    with reading(path, "a Parquet file", "write it again"):
        file = parquet.ParquetFile(path, memory_map=True)
        if not file.metadata.num_rows:
            return {}
        return {name: _Parquet(path, name, file) for name in file.schema_arrow.names if _is_numbers(file, name)}


def _is_numbers(file: Any, name: str) -> bool:
    kind = file.schema_arrow.field(name).type
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return str(kind).rstrip("0123456789") in ("int", "uint", "float", "double", "halffloat", "bool")


def _numpy(path: Path) -> dict[str, Column]:
    with reading(path, "a NumPy file of rows", "write it with np.save"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return {path.stem: _Sliced(path, path.stem, array, None)}


def column_of(columns: Mapping[str, Column], name: str | None, path: str | Path) -> Column:
    """The array called ``name``, or the only one.

    Raises:
        UnknownNameError: there is none of that name.
        AnydiffError: no name, and several arrays.
    """
    if name is None:
        if len(columns) > 1:
            raise AnydiffError(f"{str(path)!r} holds the arrays {sorted(columns)}; say which one holds the states.")
        return next(iter(columns.values()))
    if name not in columns:
        raise UnknownNameError(f"array of {str(path)!r}", name, columns)
    return columns[name]


class Pieces:
    """Pieces of columns that were read last, up to ``limit`` bytes and at least one; several threads may ask.

    One thread reads at a time: the libraries of HDF5 and Parquet are not made for several.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def rows(self, column: Column, indices: NDArray[np.int64], *others: NDArray[np.int64]) -> NDArray[Any]:
        """``column[indices, *others]`` as NumPy reads it: rows, and places on the axes after the first.

        ``indices`` and ``others`` are broadcast with each other; only the pieces of ``indices`` are read.
        """
        indices, *others = np.broadcast_arrays(indices, *others)  # type: ignore[assignment]
        out = np.empty((*indices.shape, *column.shape[1 + len(others) :]), column.dtype)
        owners = np.searchsorted(column.edges, indices, side="right") - 1
        for number in np.unique(owners):
            at = owners == number
            places = (indices[at] - column.edges[number], *(each[at] for each in others))
            out[at] = self._piece(column, int(number))[places]
        return out

    def _piece(self, column: Column, number: int) -> NDArray[Any]:
        key = (id(column), number)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            values = self._kept[key] = column.piece(number)
            self._bytes += values.nbytes
            while self._bytes > self.limit and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return values
