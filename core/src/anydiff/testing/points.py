"""What the kit has at hand for a plugin that brings no data of its own: points in the plane, in two classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydiff.domains import Domain
from anydiff.metrics import SampleSet
from anydiff.states import ClassCondition, Conditioning, GaussianNoise, NoiseSource, StateSpec


def random_states(spec: StateSpec, rows: int) -> Tensor:
    """Numbers that could be clean states: normal, cut to [-1, 1], and any of its classes for a categorical leaf."""
    leaves = {}
    for leaf in spec.leaves:
        drawn = torch.from_numpy(GaussianNoise().draw(leaf, 0, range(rows), 0)).clamp(-1, 1)
        leaves[leaf.name] = drawn if leaf.classes is None else ((drawn + 1) / 2 * (leaf.classes - 1)).round()
    return spec.pack(leaves).to(spec.dtype())


class Points(Domain):
    """Points ``[B, 2]``; an object is a pair of floats."""

    name = "points"

    @property
    def spec(self) -> StateSpec:
        """One leaf, ``(2,)``."""
        return StateSpec.single((2,), name="point")

    @property
    def conditions(self) -> dict[str, Any]:
        """``label``: left or right."""
        return {"label": ClassCondition(2)}

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States of pairs."""
        return torch.tensor(objects, dtype=torch.float32).reshape(-1, 2)

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Any]:
        """Pairs of floats."""
        return [tuple(row) for row in states.tolist()]

    def read(self, path: str | Path) -> list[Any]:
        """The kit writes no files."""
        raise NotImplementedError

    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """The kit writes no files."""
        raise NotImplementedError

    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """The kit draws nothing."""
        raise NotImplementedError

    @classmethod
    def cloud(cls, count: int) -> SampleSet:
        """``count`` points around (±1, 0), labelled by side."""
        label = torch.arange(count) % 2
        centre = torch.stack([2.0 * label - 1, torch.zeros(count)], 1)
        noise = NoiseSource(cls().spec, 2).draw(range(count), 0, torch.float32)
        return SampleSet(centre + 0.3 * noise, Conditioning({"label": label}), cls())
