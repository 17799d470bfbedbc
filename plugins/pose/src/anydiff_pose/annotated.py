"""Your own video with key points: frames from anywhere, annotations from a COCO or PoseTrack file, as a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.pipeline.dataset import Dataset
from anydiff_pose.coco import read_poses
from anydiff_pose.crops import Crop
from anydiff_pose.domain import Poses
from anydiff_pose.metrics import head_size_of
from anydiff_pose.poses import Pose
from anydiff_pose.video import PICTURES, Frames, read_frames

SPLITS: tuple[str, ...] = ("train", "test")


class AnnotatedVideo(Dataset):
    """One example per annotated person and frame; the last quarter of the frames is for testing.

    Joints that fall outside the crop count as not labelled. Conditions, loss mask and truth are those of
    :class:`~anydiff_pose.data.HumanoidVideo`.

    Args:
        frames: a folder of pictures, an ``.npz`` or a video file, or the frames themselves.
        annotations: the JSON file, or poses. Their ``image`` is the frame's file name, or its number.
        split: ``train`` or ``test``.
        gap: frames from one frame of a clip to the next.
        domain: options of :class:`~anydiff_pose.domain.Poses`; its skeleton names the joints of the file.

    Raises:
        AnydiffError: an annotation of a frame that is not there, or a split without anybody.
    """

    name = "pose/annotated"

    def __init__(
        self,
        frames: str | Path | Frames,
        annotations: str | Path | Sequence[Pose],
        split: str = "train",
        gap: int = 1,
        domain: dict[str, Any] | None = None,
    ) -> None:
        if split not in SPLITS:
            raise UnknownNameError("split", str(split), SPLITS)
        self._domain = Poses(**(domain or {}))
        self.frames = read_frames(frames)
        poses = read_poses(annotations, self._domain.skeleton) if isinstance(annotations, (str, Path)) else annotations
        numbers = _frame_numbers(frames, len(self.frames))
        border = len(self.frames) * 3 // 4
        reach = natural_number("gap", gap) * np.arange(-(self._domain.frames // 2), self._domain.frames // 2 + 1)
        self.examples: list[tuple[Pose, Crop, np.ndarray]] = []
        for count, pose in enumerate(poses):
            number = numbers.get(str(pose.image))
            if number is None:
                raise AnydiffError(
                    f"annotation {count} is of frame {pose.image!r}, but the video has {len(self.frames)} frames "
                    f"({', '.join(list(numbers)[:2])}, ...); name frames by their file or their number."
                )
            if (number >= border) == (split == "test") and (pose.visibility > 0).any():
                moments = np.clip(
                    number + reach, *((border, len(self.frames) - 1) if split == "test" else (0, border - 1))
                )
                crop = Crop.around(pose.labelled_box, self._domain.height, self._domain.width)
                self.examples.append((pose, crop, moments))
        if not self.examples:
            raise AnydiffError(f"the {split} split of {len(poses)} annotations is empty; annotate more frames.")

    @property
    def domain(self) -> Poses:
        """Crops and heatmaps with the file's skeleton."""
        return self._domain

    def __len__(self) -> int:
        return len(self.examples)

    def pose(self, index: int) -> Pose:
        """Example ``index`` in crop coordinates."""
        pose, crop, _ = self.examples[index]
        points = crop.to_crop(pose.keypoints)
        inside = ((points >= 0) & (points <= (crop.width, crop.height))).all(axis=1)
        return dataclasses.replace(pose, keypoints=points, visibility=np.where(inside, pose.visibility, 0))

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """States float32 ``[B, J, h, w]`` with frames, loss mask and truth."""
        chosen = [self.examples[index] for index in indices]
        poses = [self.pose(index) for index in indices]
        clips = np.stack([crop.cut(self.frames[moments]) for _, crop, moments in chosen])
        points = torch.from_numpy(np.stack([pose.keypoints for pose in poses]))
        visibility = torch.from_numpy(np.stack([pose.visibility for pose in poses]))
        heads = [
            pose.head_size * crop.scale if pose.head_size else head_size_of(pose.keypoints, self._domain.skeleton)
            for pose, (_, crop, _) in zip(poses, chosen, strict=True)
        ]
        boxes = [
            pose.labelled_box[2] * pose.labelled_box[3] if pose.area is None else pose.area for pose, _, _ in chosen
        ]
        areas = [area * crop.scale**2 for area, (_, crop, _) in zip(boxes, chosen, strict=True)]
        return self._domain.states(points, visibility > 0), {
            "frames": self._domain.network_frames(clips),
            "loss_mask": (visibility > 0)[..., None, None].float(),
            "truth_keypoints": points,
            "truth_visibility": visibility,
            "truth_area": torch.tensor(areas, dtype=torch.float64),
            **({} if None in heads else {"truth_head_size": torch.tensor(heads, dtype=torch.float64)}),
        }


def _frame_numbers(source: str | Path | Frames, count: int) -> dict[str, int]:
    """Names of frames -> their numbers: the pictures' file names where there are any, and the numbers themselves."""
    names = {str(number): number for number in range(count)}
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        files = sorted(file.name for file in Path(source).iterdir() if file.suffix.lower() in PICTURES)
        names = {**{file: number for number, file in enumerate(files)}, **names}
    return names
