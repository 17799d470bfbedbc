"""Files of arrays as training data, read row by row from a memory map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from anydiff.data import Dataset
from anydiff.data.reading import reading
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning
from anydiff_adapters.arrays import Arrays

_HOLDOUT = 10
"""Every tenth row is held out."""


class ArrayFiles(Dataset):
    """Rows ``[N, *shape]`` of a ``.npy`` file, or of all such files in a folder by name; every tenth is held out.

    Args:
        path: the file or folder; without it the data of a foreign model are not known.
        shape: of one row.
        split: ``train`` or ``test``.

    Raises:
        AnydiffError: no path, no file, or rows of another shape.
    """

    name = "adapters/files"

    def __init__(self, path: str | None = None, shape: Sequence[int] = (), split: str = "train") -> None:
        if path is None:
            raise AnydiffError(
                "the data that this model was trained on are not known; set dataset.options.path to a .npy file of "
                "arrays [N, ...], or choose another data set."
            )
        self._domain = Arrays(shape)
        self._files = [_rows(file, self._domain) for file in _files(Path(path))]
        ends = np.cumsum([len(each) for each in self._files])
        numbers = np.arange(int(ends[-1]))
        held = numbers % _HOLDOUT == _HOLDOUT - 1
        self._rows = numbers[held if split == "test" else ~held]
        self._ends = ends

    @property
    def domain(self) -> Arrays:
        """Arrays of the shape."""
        return self._domain

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The rows at ``indices``."""
        found = []
        for row in self._rows[list(indices)]:
            file = int(np.searchsorted(self._ends, row, side="right"))
            begin = int(self._ends[file - 1]) if file else 0
            found.append(np.array(self._files[file][int(row) - begin], dtype=np.float32))
        return self._domain.encode(found), Conditioning()


def _files(path: Path) -> list[Path]:
    found = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    if not found or not found[0].is_file():
        raise AnydiffError(f"{str(path)!r} holds no .npy file; name a file of arrays [N, ...], or a folder of these.")
    return found


def _rows(path: Path, domain: Arrays) -> Any:
    with reading(path, "a NumPy file of arrays", "write it with np.save"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.shape[1:] != tuple(domain.spec.shape):
        shape = getattr(array, "shape", None)
        raise AnydiffError(
            f"{str(path)!r} holds {shape}, but rows of {tuple(domain.spec.shape)} are needed: [N, ...]; reshape it."
        )
    return array
