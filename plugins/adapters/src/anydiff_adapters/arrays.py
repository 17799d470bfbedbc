"""The domain of a foreign model of which only the shape is known: an object is an array, its file a ``.npy``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import read_array
from anydiff.domains import Domain
from anydiff.domains.kit.pictures import enlarged, picture_grid, write_picture
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.files import atomic_path, check_suffix
from anydiff.states import ArrayCondition, ClassCondition, Conditioning, StateSpec

SUFFIXES = (".npy", ".npz")
SMALLEST = 64
"""Pixels of a picture's shorter edge at least; smaller arrays are enlarged."""


class Arrays(Domain):
    """Arrays of one shape, as the network has them: no units, no clipping.

    Args:
        shape: of one array.
        classes: name of a condition -> its number of classes.
        arrays: name of a condition -> shape of an array per sample.
    """

    name = "adapters/arrays"
    suffixes = SUFFIXES

    def __init__(
        self,
        shape: Sequence[int],
        classes: Mapping[str, int] | None = None,
        arrays: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._spec = StateSpec.single(tuple(int(each) for each in shape), name="state")
        self._conditions: dict[str, Any] = {
            **{name: ClassCondition(int(count)) for name, count in (classes or {}).items()},
            **{name: ArrayCondition(tuple(each)) for name, each in (arrays or {}).items()},
        }

    @property
    def spec(self) -> StateSpec:
        """One leaf named ``state``."""
        return self._spec

    @property
    def conditions(self) -> dict[str, Any]:
        """The classes and arrays."""
        return self._conditions

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States float32 ``[B, *shape]``.

        Raises:
            AnydiffError: an array of another shape, or with a value that is not finite.
        """
        rows = torch.empty(len(objects), *self.spec.shape)
        for row, each in enumerate(objects):
            array = torch.as_tensor(np.asarray(each, dtype=np.float32))
            if tuple(array.shape) != tuple(self.spec.shape):
                raise AnydiffError(
                    f"array {row} has shape {tuple(array.shape)}, but the model's states have {tuple(self.spec.shape)}."
                )
            if not bool(array.isfinite().all()):
                raise AnydiffError(f"array {row} holds a value that is not finite; fill it in first.")
            rows[row] = array
        return rows

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[NDArray[np.float32]]:
        """Arrays float32."""
        return list(states.detach().cpu().float().numpy())

    def read(self, path: str | Path) -> list[NDArray[Any]]:
        """The arrays of a file, along its first axis."""
        return list(read_array(path, "states"))

    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """Write the arrays as one array ``[N, *shape]``."""
        suffix = check_suffix(path, self.suffixes, "arrays")
        stacked = np.stack([np.asarray(each) for each in objects])
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            if suffix == ".npy":
                np.save(file, stacked, allow_pickle=False)
            else:
                np.savez(file, states=stacked)

    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Draw the arrays as grey pictures, their values from the least to the greatest of each.

        The last two axes are drawn, the middle of those before them; one axis alone is drawn as a row.
        """
        tiles = []
        for each in objects:
            plane = np.asarray(each, dtype=np.float64)
            while plane.ndim > 2:
                plane = plane[len(plane) // 2]
            plane = np.atleast_2d(plane)
            low, high = plane.min(), plane.max()
            grey = (255 * (plane - low) / max(high - low, 1e-12)).astype(np.uint8)
            tiles.append(enlarged(grey, max(1, -(-SMALLEST // min(grey.shape)))))
        write_picture(picture_grid(tiles, titles), path)

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """Class numbers by their digits."""
        found = {}
        for name, value in text.items():
            kind = self._conditions.get(name)
            if kind is None:
                raise UnknownNameError("condition", name, self._conditions)
            if not isinstance(kind, ClassCondition):
                raise AnydiffError(f"the condition {name!r} is an array, which no text says; give it in Python.")
            known = [str(number) for number in range(kind.classes)]
            if value not in known:
                raise UnknownNameError("class", value, known)
            found[name] = torch.full((count,), int(value))
        return found

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """The class numbers."""
        named = [name for name, kind in self._conditions.items() if isinstance(kind, ClassCondition)]
        given = [condition.given[name].tolist() for name in named if name in condition.given]
        return [" ".join(map(str, row)) for row in zip(*given, strict=True)] if given else []
