"""Rendered video of real humanoid motion as training and test data: frames, exact key points, visibility."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split, content_hash, domain_of_data
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning
from anydiff_pose.clips import ClipSettings, Example, render_example
from anydiff_pose.domain import Poses
from anydiff_pose.motion import Clip, bundled_clips, deepmimic_clips
from anydiff_pose.render import SKELETON

RENDERER = "1"
"""Raise it whenever the same settings and seed give other pictures; it enters the hash of the data."""

TEST_SHARE, APART = 0.25, 12
"""The last quarter of every motion is for testing, and this many frames before it are for nothing."""


class HumanoidVideo(Dataset):
    """Clips of one person at the keyframe, rendered on first use; example i of a split never changes.

    Beside ``frames`` a batch holds ``loss_weight`` ``[B, J, 1, 1]`` (1 for joints inside the crop, occluded or not) and
    as ``truth`` what only metrics may know: ``keypoints`` ``[B, J, 2]``, ``visibility`` ``[B, J]`` (2, 1, 0),
    ``head_size`` and ``area`` ``[B]``.

    Args:
        split: ``train`` or ``test``; they share no moment of any motion.
        size: number of examples; None for 4,000 and 240.
        seed: of everything that is drawn.
        domain: the recipe's, or options of :class:`~anydiff_pose.domain.Poses`.
        scene: options of :class:`~anydiff_pose.clips.ClipSettings` (sizes are the domain's).
        clips: the motions; None for the bundled walk, run and dance.
    """

    name = "pose/humanoid-video"

    def __init__(
        self,
        split: Split = "train",
        size: int | None = None,
        seed: int = 0,
        domain: Domain | dict[str, Any] | None = None,
        scene: dict[str, Any] | None = None,
        clips: Sequence[Clip] | None = None,
    ) -> None:
        check_split(split)
        self.split = split
        self._domain = domain_of_data(Poses, domain)
        if self._domain.skeleton.joints != SKELETON.joints:
            raise AnydiffError(
                f"skeleton is {self._domain.skeleton.name!r}, but the videos of {self.name!r} show the joints of "
                f"{SKELETON.name!r}; give that."
            )
        self.size = natural_number("size", {"train": 4000, "test": 240}[split] if size is None else size)
        sizes = {"height": self._domain.height, "width": self._domain.width, "frames": self._domain.frames}
        self.settings = ClipSettings(**{**(scene or {}), **sizes})
        parts = tuple(_part(clip, split) for clip in (bundled_clips() if clips is None else clips))
        self._shelf = _shelf(split, seed, self.settings, _Clips(parts))

    @property
    def domain(self) -> Poses:
        """Crops and heatmaps of the humanoid."""
        return self._domain

    @functools.cached_property
    def hash(self) -> str:
        """sha256 of the motions and of everything the pictures are made with."""
        about = (
            f"{RENDERER};{self._shelf.key};{self.size};{self._domain.sigma};{self._domain.scale};{self._domain.stride}"
        )
        return content_hash(about)

    def __len__(self) -> int:
        return self.size

    def example(self, index: int) -> Example:
        """Example ``index`` with its frames and truth."""
        return self._shelf.example(range(self.size)[index])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, J, h, w]`` with frames, weights of the loss and truth."""
        examples = [self.example(index) for index in indices]
        points = torch.from_numpy(np.stack([each.keypoints for each in examples]))
        visibility = torch.from_numpy(np.stack([each.visibility for each in examples]))
        labelled = visibility > 0
        truth = {
            "keypoints": points,
            "visibility": visibility,
            "head_size": torch.tensor([each.head_size for each in examples], dtype=torch.float64),
            "area": torch.tensor([each.area for each in examples], dtype=torch.float64),
        }
        return self._domain.states(points, labelled), Conditioning(
            {"frames": self._domain.network_frames(np.stack([each.frames for each in examples]))},
            truth=truth,
            loss_weight=labelled[..., None, None].float(),
        )

    def case_labels(self, indices: Sequence[int]) -> list[str]:
        """The name of each clip, as of a picture; videos of other motions, settings or seeds have other names."""
        told = content_hash(f"{RENDERER};{self._shelf.key}")[:8]
        folder = f"{self.name.rpartition('/')[2]}-{self.split}-{told}"
        return [f"{folder}/{range(self.size)[index]:06d}.png" for index in indices]


@dataclasses.dataclass(frozen=True)
class _Clips:
    """Clips that compare by their content."""

    clips: tuple[Clip, ...]

    @functools.cached_property
    def digest(self) -> str:
        return content_hash(*(part for clip in self.clips for part in (clip.name, clip.positions.astype("<f8"))))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Clips) and self.digest == other.digest


class _Shelf:
    """Examples rendered so far, shared by all data sets of one process that are made alike."""

    def __init__(self, key: str, seed: NDArray[np.uint64], settings: ClipSettings, clips: tuple[Clip, ...]) -> None:
        self.key, self.seed, self.settings, self.clips = key, seed, settings, clips
        self.examples: dict[int, Example] = {}

    def example(self, index: int) -> Example:
        found = self.examples.get(index)
        if found is None:
            counter = np.array([0, 0, 0, index], dtype=np.uint64)
            generator = np.random.Generator(np.random.Philox(counter=counter, key=self.seed))
            found = self.examples[index] = render_example(self.clips, generator, self.settings)
        return found


@functools.lru_cache(maxsize=8)
def _shelf(split: str, seed: int, settings: ClipSettings, clips: _Clips) -> _Shelf:
    key = f"{split};{seed};{settings};{clips.digest}"
    stream = hashlib.blake2b(f"anydiff-pose/{split}/{seed}".encode(), digest_size=16).digest()
    return _Shelf(key, np.frombuffer(stream, dtype="<u8").astype(np.uint64), settings, clips.clips)


def _part(clip: Clip, split: str) -> Clip:
    """The frames of ``clip`` that belong to ``split``."""
    first_of_test = round(len(clip.positions) * (1 - TEST_SHARE))
    frames = slice(first_of_test, None) if split == "test" else slice(0, first_of_test - APART)
    return Clip(clip.name, clip.positions[frames])


class DeepMimicVideo(HumanoidVideo):
    """As :class:`HumanoidVideo`, from DeepMimic's 15 clips: ``anydiff data get pose/deepmimic-video`` first.

    Args:
        split: ``train`` or ``test``.
        path: the wheel of pybullet; None for the fetched one.
        domain: the recipe's; see :class:`HumanoidVideo`.
        options: ``size``, ``seed`` and ``scene`` of :class:`HumanoidVideo`.
    """

    name = "pose/deepmimic-video"

    def __init__(
        self,
        split: Split = "train",
        path: str | None = None,
        domain: Domain | dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(split, domain=domain, clips=deepmimic_clips(Path(path) if path else None), **options)
