"""Rows of a file as a data set: states and conditions are read when a batch asks for them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data.columns import Column, Pieces, column_of, open_columns
from anydiff.data.dataset import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import every_tenth, last_share
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.states import ArrayCondition, ClassCondition, Conditioning, VectorCondition

MEGABYTE = 1 << 20
BLOCK = 8 << 20


class StoredRows(Dataset):
    """Rows of the arrays of a file (Zarr, HDF5, Parquet, ``.npy``), or of a folder of such files.

    The rows need not fit into memory. Example k is row k of the split, whatever was read before. A training takes the
    rows of as many pieces of the file at a time as ``memory`` holds (:attr:`pieces`), so that a piece is read about
    once an epoch.

    Args:
        path: the file; see :func:`~anydiff.data.columns.open_columns`.
        domain: the codec of a row.
        states: the array that holds the states; may be left out where there is one array.
        given: name of a condition of the domain -> array that holds it.
        encoded: whether rows are states already. Otherwise a row is an object of the field, for ``domain.encode``.
        split: ``"train"`` or ``"test"``.
        test_share: the last share of the rows is the test split; None: every tenth row.
        memory: megabytes that the pieces in memory may have.

    Raises:
        AnydiffError: no such file, array or condition; arrays of different numbers of rows, or of wrong shapes.
    """

    def __init__(
        self,
        path: str | Path,
        domain: Domain,
        states: str | None = None,
        given: Mapping[str, str] | None = None,
        *,
        encoded: bool = False,
        split: str = "train",
        test_share: float | None = None,
        memory: float = 256.0,
    ) -> None:
        self.path, self._domain, self.encoded = Path(path).expanduser(), domain, encoded
        columns = open_columns(self.path)
        self._states = column_of(columns, states, self.path)
        self._given = {name: column_of(columns, array, self.path) for name, array in (given or {}).items()}
        for name, column in self._given.items():
            if name not in domain.conditions:
                raise UnknownNameError("condition", name, domain.conditions)
            if len(column) != len(self._states):
                raise AnydiffError(
                    f"array {column.name!r} of {str(path)!r} has {len(column)} rows, but array "
                    f"{self._states.name!r} has {len(self._states)}; give one row per example."
                )
            _check_kind(name, domain.conditions[name], column)
        if encoded and self._states.shape[1:] != tuple(self.spec.shape):
            raise AnydiffError(
                f"array {self._states.name!r} of {str(path)!r} has rows of shape {self._states.shape[1:]}, but states "
                f"of domain {domain.name!r} have {tuple(self.spec.shape)}; reshape them, or leave encoded out."
            )
        count = len(self._states)
        self._rows = (
            np.array(every_tenth(count, split), dtype=np.int64)
            if test_share is None
            else np.arange(count, dtype=np.int64)[last_share(count, split, test_share)]
        )
        if not len(self._rows):
            raise AnydiffError(f"the {split} split of {str(path)!r} is empty: it has {count} rows; give more.")
        if not memory > 0:
            raise AnydiffError(f"memory is {memory} megabytes; give a number above 0.")
        self._pieces = Pieces(round(memory * MEGABYTE))

    @property
    def domain(self) -> Domain:
        """The codec of a row."""
        return self._domain

    @functools.cached_property
    def hash(self) -> str:
        """sha256 of the file's bytes and of what is read of it; the file is gone through once, block by block."""
        digest = hashlib.sha256()
        used = {"": self._states.name, **{name: column.name for name, column in self._given.items()}}
        digest.update(repr((sorted(used.items()), self.encoded)).encode() + self._rows.tobytes())
        files = [self.path] if self.path.is_file() else sorted(each for each in self.path.rglob("*") if each.is_file())
        for file in files:
            digest.update(f"{file.relative_to(self.path)}:{file.stat().st_size};".encode())
            with open(file, "rb") as opened:
                while block := opened.read(BLOCK):
                    digest.update(block)
        return digest.hexdigest()

    @functools.cached_property
    def pieces(self) -> tuple[NDArray[np.int64], int]:
        """See :attr:`Dataset.pieces`: those of the states, and as many as half of ``memory`` holds."""
        edges = np.searchsorted(self._rows, self._states.edges)
        size = sum(column.piece_bytes for column in (self._states, *self._given.values()))
        return np.unique(edges), max(1, int(self._pieces.limit / 2 // size))

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The rows at ``indices``, encoded by the domain."""
        rows = self._rows[np.asarray(list(indices), dtype=np.int64)]
        values = self._pieces.rows(self._states, rows)
        if self.encoded:
            states = torch.from_numpy(np.ascontiguousarray(values)).to(self.spec.dtype())
            self.spec.check_classes(states, f"{str(self.path)!r}")
        else:
            states = self._domain.encode(list(values))
        return states, Conditioning({name: self._condition(name, column, rows) for name, column in self._given.items()})

    def _condition(self, name: str, column: Column, rows: NDArray[np.int64]) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(self._pieces.rows(column, rows)))
        kind = self._domain.conditions[name]
        if not isinstance(kind, ClassCondition):
            return values.float().reshape(len(rows), *_shape(kind))
        wrong = (values < 0) | (values >= kind.classes)
        if wrong.any():
            row = int(rows[int(wrong.nonzero()[0, 0])])
            raise AnydiffError(
                f"row {row} of array {column.name!r} of {str(self.path)!r} has the class {int(values[wrong][0])}, but "
                f"condition {name!r} has the classes 0 to {kind.classes - 1}; correct it."
            )
        return values.long()


def _shape(kind: Any) -> tuple[int, ...]:
    return (kind.size,) if isinstance(kind, VectorCondition) else tuple(kind.shape)


def _check_kind(name: str, kind: Any, column: Column) -> None:
    """Refuse an array of numbers that the condition cannot be.

    Raises:
        AnydiffError: names array, shape and what is needed.
    """
    classes = isinstance(kind, ClassCondition)
    wanted = () if classes else _shape(kind)
    fits = column.shape[1:] == wanted or (isinstance(kind, VectorCondition) and wanted == (1,) and not column.shape[1:])
    if not fits or (classes and column.dtype.kind not in "iu"):
        needed = "one whole number per row" if classes else f"rows of shape {wanted}"
        assert isinstance(kind, ClassCondition | VectorCondition | ArrayCondition)
        raise AnydiffError(
            f"array {column.name!r} of {str(column.path)!r} holds {column.dtype} rows of shape {column.shape[1:]}, but "
            f"condition {name!r} needs {needed}; correct it."
        )
