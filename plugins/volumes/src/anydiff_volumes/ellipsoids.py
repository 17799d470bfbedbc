r"""The smallest longitudinal data: an ellipsoid whose radius oscillates, 8 x 16 x 16 voxels.

.. math:: r_j = r_0 + A \sin(2π f j + φ)

with r_0 in [3.5, 5], A in [0.8, 1.6] (voxels), f in [0.12, 0.28] per frame and any phase φ: the next frame cannot be
told from one frame, but from three. The truth is known without a network: the radius.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import check_split, domain_of_data
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning, standard_normal, uniform
from anydiff_volumes.cases import Case, numbered_cases
from anydiff_volumes.domain import Volumes, centred
from anydiff_volumes.sadm import sequence_condition

SHAPE = (8, 16, 16)
AXES = (0.5, 1.0, 1.0)
"""Semi-axes of the ellipsoid in units of its radius."""
NOISE = 0.05
FIRST_TEST_SUBJECT = 1_000_000


def radius_of(volumes: Tensor) -> Tensor:
    """Radius in voxels of ellipsoids ``[..., X, Y, Z]`` in [-1, 1], from their volume."""
    volume = ((volumes.double() + 1) / 2).sum(dim=(-3, -2, -1)).clamp_min(0)
    return (volume / (4 / 3 * math.pi * math.prod(AXES))) ** (1 / 3)


def ellipsoid(radius: Tensor) -> Tensor:
    """Volumes ``[..., 8, 16, 16]`` in [0, 1] of the given radii (voxels), with an edge about one voxel wide."""
    axes = torch.meshgrid(*(torch.arange(size) - (size - 1) / 2 for size in SHAPE), indexing="ij")
    distance = sum((place / axis) ** 2 for place, axis in zip(axes, AXES, strict=True)) ** 0.5
    return torch.sigmoid(3 * (radius[..., None, None, None] - distance))


def course(numbers: Tensor, frames: int) -> Tensor:
    """Radii ``[..., T]`` from four numbers ``[..., 4]`` in [0, 1], which stand for r_0, A, f and φ."""
    base, amplitude, frequency, phase = numbers[..., None].unbind(dim=-2)
    angle = 2 * math.pi * ((0.12 + 0.16 * frequency) * torch.arange(frames) + phase)
    return 3.5 + 1.5 * base + (0.8 + 0.8 * amplitude) * torch.sin(angle)


class Ellipsoids(Dataset):
    """Frames of oscillating ellipsoids, conditioned on those before them; as :class:`anydiff_volumes.data.Sequences`.

    Args:
        split: ``train`` or ``test``.
        train_size: sequences for training; example i has the target 1 + i % (frames - 1).
        test_size: sequences held out, whose target is the last frame.
        frames: per sequence; None for the domain's.
        missing: probability with which a frame between the first and the one before the target is missing.
        seed: of everything.
        domain: the recipe's, whose grid must be that of the ellipsoids; None makes one of 6 frames.
    """

    name = "volumes/ellipsoids"

    def __init__(
        self,
        split: str = "train",
        train_size: int = 600,
        test_size: int = 100,
        frames: int | None = None,
        missing: float = 0.5,
        seed: int = 0,
        domain: Domain | None = None,
    ) -> None:
        check_split(split)
        grid: dict[str, Any] = {"shape": SHAPE, "voxel_size": 1.0, "origin": centred(SHAPE, 1.0), "modality": "mr"}
        self._domain = domain_of_data(Volumes, domain, {"frames": 6}, frames=frames, **grid)
        frames = self._domain.frames
        if natural_number("frames", frames) < 2:
            raise AnydiffError(f"frames is {frames}, but must be at least 2: something to look at, and a target.")
        if not 0 <= missing <= 1:
            raise AnydiffError(f"missing is {missing}, but must be a probability from 0 to 1.")
        self.split, self.frames, self.missing, self.seed = split, frames, missing, seed
        self.size = natural_number("size", train_size if split == "train" else test_size)
        first = 0 if split == "train" else FIRST_TEST_SUBJECT
        self.subjects = list(range(first, first + self.size))

    @property
    def domain(self) -> Volumes:
        """Volumes of 8 x 16 x 16 voxels."""
        return self._domain

    def __len__(self) -> int:
        return self.size * (self.frames - 1) if self.split == "train" else self.size

    def case_labels(self, indices: Sequence[int]) -> list[Case]:
        """The number of each example, with what decides its content."""
        options = {"split": self.split, "frames": self.frames, "missing": self.missing, "seed": self.seed}
        # Of training data the number of subjects decides which frame an index is of.
        options |= {"size": self.size} if self.split == "train" else {}
        return numbered_cases(self.name, options, indices)

    @functools.cached_property
    def radii(self) -> Tensor:
        """The true radii, float64 ``[N, T]``."""
        names = ("radius", "amplitude", "frequency", "phase")
        return course(torch.stack([uniform(self.seed, self.subjects, 0, name) for name in names], dim=1), self.frames)

    @functools.cached_property
    def sequences(self) -> Tensor:
        """All frames as states with their noise, float32 ``[N, T, 8, 16, 16]`` in [-1, 1]."""
        noise = standard_normal(self.seed, self.subjects, 0, "noise", (self.frames, *SHAPE))
        levels = ellipsoid(self.radii) + NOISE * torch.from_numpy(noise)
        return (levels.clamp(0, 1) * 2 - 1).float()

    @property
    def times(self) -> Tensor:
        """Times of the frames in [0, 1), float32 ``[T]``."""
        return torch.arange(self.frames) / self.frames

    @functools.cached_property
    def _draws(self) -> Tensor:
        """The numbers that decide what may be looked at, float64 ``[N, targets, T]``."""
        places = itertools.product(range(1, self.frames), range(self.frames))
        draws = [uniform(self.seed, self.subjects, target, f"seen/{frame}") for target, frame in places]
        return torch.stack(draws, dim=1).reshape(self.size, self.frames - 1, self.frames)

    def seen(self, subject: int, target: int) -> Tensor:
        """Which frames may be looked at: bool ``[T]``."""
        kept = self._draws[subject, target - 1] >= self.missing
        kept[0] = kept[target - 1] = True
        kept[target:] = False
        return kept

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The targets ``[B, 1, 8, 16, 16]`` and what is known of their sequences."""
        states: list[Tensor] = []
        conditions: list[Conditioning] = []
        for index in indices:
            subject = index % self.size
            target = 1 + index // self.size if self.split == "train" else self.frames - 1
            frames = self.sequences[subject][None]
            states.append(frames[:, target : target + 1])
            seen = self.seen(subject, target)[None]
            conditions.append(sequence_condition(frames, seen, self.times[None], target))
        return torch.cat(states), Conditioning.joined(conditions)
