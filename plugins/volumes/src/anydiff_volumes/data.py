"""Data sets: a population of brains, longitudinal sequences with known truth, and a user's own folder of NIfTI files.

The first two are made on the fly from the bundled template (see :mod:`anydiff_volumes.subjects`); an index always means
the same example, and training and test share no subject.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Levels, Split, check_split, content_hash, domain_of_data, every_tenth
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning, standard_normal, uniform
from anydiff_volumes import subjects
from anydiff_volumes.cases import Case, numbered_cases
from anydiff_volumes.domain import MNI_ORIGIN, Volumes
from anydiff_volumes.subjects import Anatomy
from anydiff_volumes.templates import BUNDLED

MOTIONS = ("ageing", "cardiac")
GRID: dict[str, Any] = {"shape": (28, 32, 28), "voxel_size": 6.0, "origin": MNI_ORIGIN, "modality": "mr"}
"""The grid of the generated subjects."""
GENERATOR = 1
"""Raised when the same options give other numbers."""
FIRST_TEST_SUBJECT = 1_000_000
NOISE = 0.01
"""Standard deviation of the scanner noise, in units of the full intensity range."""
BYTES = Levels(-1.0, 1.0)


class _Generated(Dataset):
    """A data set that is a pure function of its options and the bundled template."""

    def __init__(self, split: str, size: int, **options: Any) -> None:
        check_split(split)
        self.split = split
        self.first = 0 if split == "train" else FIRST_TEST_SUBJECT
        self.size = natural_number("size", size)
        self._options = {"split": split, "size": size, "generator": GENERATOR, **options}

    @functools.cached_property
    def hash(self) -> str:
        """sha256 of the options, the generator's version and the template: they fix every example."""
        about = json.dumps({"name": self.name, **self._options}, sort_keys=True)
        return content_hash(about, BUNDLED)

    def case_labels(self, indices: Sequence[int]) -> list[Case]:
        """The number of each example, with what decides its content: not how many there are."""
        sizes = ("size", "train_size", "test_size")
        return numbered_cases(self.name, {k: v for k, v in self._options.items() if k not in sizes}, indices)


def _sizes(split: str, train: int, test: int) -> int:
    return train if split == "train" else test


def _as_bytes(intensity: Tensor, subject: int, draw: int, seed: int) -> Tensor:
    """Intensities in [0, 1] with the scanner's noise, as bytes: what a file would hold."""
    noise = torch.from_numpy(standard_normal(seed, [subject], draw, "scanner", tuple(intensity.shape)))[0]
    return ((intensity + NOISE * noise).clamp(0, 1) * 255).round().to(torch.uint8)


class Population(_Generated):
    """Brains of many subjects: the MNI152 T1 template under random diffeomorphisms, 28 x 32 x 28 voxels of 6 mm.

    Args:
        split: ``train`` or ``test``.
        train_size: subjects for training.
        test_size: subjects held out.
        seed: of the whole population.
        domain: the recipe's, whose grid must be that of the population.
    """

    name = "volumes/population"

    def __init__(
        self,
        split: Split = "train",
        train_size: int = 256,
        test_size: int = 128,
        seed: int = 0,
        domain: Domain | None = None,
    ) -> None:
        super().__init__(split, _sizes(split, train_size, test_size), seed=seed)
        self.anatomy = Anatomy(seed)
        self._domain = domain_of_data(Volumes, domain, frames=0, **GRID)

    @property
    def domain(self) -> Volumes:
        """T1-weighted volumes of 6 mm."""
        return self._domain

    def __len__(self) -> int:
        return self.size

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States ``[B, 1, 28, 32, 28]`` in [-1, 1]; no condition."""
        levels = [_brain(self.first + index, self.anatomy) for index in indices]
        return _states(torch.stack(levels)[:, None]), Conditioning()

    def tissues(self, index: int) -> Tensor:
        """The true shares of grey and white matter of one subject, ``[2, 28, 32, 28]``."""
        subject = self.first + index
        return subjects.images(subjects.anatomies([subject], self.anatomy), [subject], self.anatomy)[0, 1:]


@functools.lru_cache(maxsize=2048)
def _brain(subject: int, anatomy: Anatomy) -> Tensor:
    """One subject at rest as bytes ``[X, Y, Z]``; kept, since data sets are built again and again."""
    moved = subjects.images(subjects.anatomies([subject], anatomy), [subject], anatomy)
    return _as_bytes(moved[0, 0], subject, 0, anatomy.seed)


@functools.lru_cache(maxsize=512)
def _sequence(subject: int, motion: Any, frames: int, anatomy: Anatomy) -> tuple[Tensor, Tensor]:
    """One subject in motion as bytes ``[T, X, Y, Z]``, and the times float32 ``[T]``."""
    maps, times = subjects.sequence(subject, motion, frames, anatomy)
    levels = [_as_bytes(maps[frame, 0], subject, frame, anatomy.seed) for frame in range(frames)]
    return torch.stack(levels), times.float()


def _states(levels: Tensor) -> Tensor:
    """Bytes as states: 0 is -1 and 255 is 1."""
    return BYTES.encode(levels)


class Sequences(_Generated):
    """One frame of a subject's sequence, conditioned on the frames before it, some of them missing.

    Example i is a subject, a target frame and a choice of missing frames. As in SADM's training pairs the first frame
    and the one just before the target are always there; each one between is missing with probability ``missing``.

    Conditions: ``frames [B, T, X, Y, Z]`` (zero where missing or not before the target), ``seen [B, T]`` (1 or 0),
    ``times [B, T]`` (zero where not seen) and ``target_time [B, 1]``, in [0, 1].

    Args:
        split: ``train`` or ``test``.
        train_size: subjects for training.
        test_size: subjects held out.
        frames: T, frames per sequence; None for the domain's.
        motion: ``ageing``, ``cardiac`` or ``both`` (every other subject).
        missing: probability with which a frame in between is missing.
        targets: the positions that may be the target; by default all but the first (training), the last (test).
        choices: how many different choices of missing frames a subject and target are seen with (training only).
        seed: of the subjects and the choices.
        domain: the recipe's, whose grid must be that of the subjects; None makes one of 6 frames.
    """

    name = "volumes/sequences"

    def __init__(
        self,
        split: Split = "train",
        train_size: int = 120,
        test_size: int = 32,
        frames: int | None = None,
        motion: str = "both",
        missing: float = 0.5,
        targets: Sequence[int] | None = None,
        choices: int = 4,
        seed: int = 0,
        domain: Domain | None = None,
    ) -> None:
        self._domain = domain_of_data(Volumes, domain, {"frames": 6}, frames=frames, **GRID)
        frames = self._domain.frames
        size = _sizes(split, train_size, test_size)
        if motion not in (*MOTIONS, "both"):
            raise UnknownNameError("motion", motion, (*MOTIONS, "both"))
        if natural_number("frames", frames) < 2:
            raise AnydiffError(
                f"frames is {frames}, but a sequence needs at least 2: something to look at, and a target."
            )
        if not 0 <= missing <= 1:
            raise AnydiffError(f"missing is {missing}, but must be a probability from 0 to 1.")
        default = range(1, frames) if split == "train" else [frames - 1]
        self.targets = [natural_number("targets", target) for target in (default if targets is None else targets)]
        if not self.targets or max(self.targets) >= frames:
            raise AnydiffError(f"targets is {self.targets}, but must name frames from 1 to {frames - 1}.")
        self.choices = natural_number("choices", choices) if split == "train" else 1
        super().__init__(
            split, size, frames=frames, motion=motion, missing=missing, targets=self.targets, choices=choices, seed=seed
        )
        self.frames, self.motion, self.missing = frames, motion, missing
        self.anatomy = Anatomy(seed)

    @property
    def domain(self) -> Volumes:
        """T1-weighted volumes of 6 mm with the frames before them as a condition."""
        return self._domain

    def __len__(self) -> int:
        return self.size * len(self.targets) * self.choices

    def where(self, index: int) -> tuple[int, int, int]:
        """(subject of the split, target frame, choice of missing frames) of an example."""
        rest, choice = divmod(index, self.choices)
        subject, target = divmod(rest, len(self.targets))
        return subject, self.targets[target], choice

    def sequence(self, subject: int) -> tuple[Tensor, Tensor]:
        """All frames of a subject of this split as states ``[T, X, Y, Z]`` and their times float32 ``[T]``."""
        levels, times = _sequence(self.first + subject, self.motion_of(subject), self.frames, self.anatomy)
        return _states(levels), times

    def tissues(self, subject: int) -> Tensor:
        """The true shares of grey and white matter of a subject's frames, ``[T, 2, X, Y, Z]``."""
        motion: Any = self.motion_of(subject)
        return subjects.sequence(self.first + subject, motion, self.frames, self.anatomy)[0][:, 1:]

    def motion_of(self, subject: int) -> str:
        """``ageing`` or ``cardiac``."""
        return self.motion if self.motion != "both" else MOTIONS[subject % 2]

    def seen(self, index: int) -> Tensor:
        """Which frames example ``index`` may look at: bool ``[T]``."""
        subject, target, choice = self.where(index)
        draw = (target * 1000) + choice
        kept = [
            float(uniform(self.anatomy.seed, [self.first + subject], draw, f"missing/{j}")[0]) >= self.missing
            for j in range(target)
        ]
        kept[0] = kept[target - 1] = True
        return torch.tensor(kept + [False] * (self.frames - target))

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The targets ``[B, 1, X, Y, Z]`` in [-1, 1] and what is known of their subjects."""
        states, frames, seen, times, wanted = [], [], [], [], []
        for index in indices:
            subject, target, _ = self.where(index)
            sequence, moments = self.sequence(subject)
            mask = self.seen(index)
            states.append(sequence[target : target + 1])
            frames.append(torch.where(mask[:, None, None, None], sequence, 0))
            seen.append(mask.float())
            times.append(torch.where(mask, moments, 0))
            wanted.append(moments[target : target + 1])
        given = {"frames": frames, "seen": seen, "times": times, "target_time": wanted}
        return torch.stack(states), Conditioning({name: torch.stack(value) for name, value in given.items()})


class Folder(Dataset):
    """A user's own volumes: the scans of a folder, brought to the domain's grid and scaled per scan.

    A scan is a NIfTI file, or a sub-folder that holds one DICOM series. Scans are taken in the order of their names,
    every tenth for the test split; give each subject's scans to one split, or scores will flatter.

    Args:
        path: the folder.
        split: ``train`` or ``test``.
        shape: voxels of a state; None for the domain's.
        voxel_size: edge of its voxels in millimetres; None for the domain's.
        modality: ``mr`` (scaled by percentiles of its own foreground) or ``ct`` (a fixed window in Hounsfield units);
            None for the domain's.
        resample: take volumes whose voxels are not cubes, too.
        origin: of the domain's grid, see :class:`~anydiff_volumes.domain.Volumes`; None for the domain's.
        domain: the recipe's; None makes one of MR volumes of 28 x 32 x 28 voxels of 6 mm.
    """

    name = "volumes/folder"

    def __init__(
        self,
        path: str,
        split: Split = "train",
        shape: Sequence[int] | None = None,
        voxel_size: float | None = None,
        modality: str | None = None,
        resample: bool = False,
        origin: Sequence[float] | None = None,
        domain: Domain | None = None,
    ) -> None:
        from anydiff_volumes.files import read_scan, scan_paths
        from anydiff_volumes.placement import check_cubes

        files = scan_paths(Path(path).expanduser())
        chosen = [files[place] for place in every_tenth(len(files), split)]
        if not chosen:
            raise AnydiffError(
                f"the {split} split of {path!r} is empty, since every tenth scan is held out; add scans."
            )
        own: dict[str, Any] = {"shape": shape, "voxel_size": voxel_size, "modality": modality, "origin": origin}
        # Scans of a folder have no frames before them; a domain with frames is refused when both are compared.
        still = None if isinstance(domain, Volumes) and domain.frames else domain
        self._domain = domain_of_data(Volumes, still, **own)
        rows = []
        for file in chosen:
            image = read_scan(file)
            if not resample:
                check_cubes(image, repr(str(file)))
            conformed, _ = self._domain.conform(image, repr(str(file)))
            rows.append(self._domain.encode([conformed])[0])
        self._states = torch.stack(rows)
        self.files = chosen

    @property
    def domain(self) -> Volumes:
        """Volumes of the shape and voxel size asked for."""
        return self._domain

    def __len__(self) -> int:
        return len(self._states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States ``[B, 1, *shape]`` in [-1, 1]; no condition."""
        return self._states[torch.as_tensor(np.asarray(indices), dtype=torch.long)], Conditioning()
