"""Your own video with key points: frames from anywhere, annotations from a COCO or PoseTrack file, as a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePath
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
from anydiff_pose.video import Frames, picture_files, read_frames

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
            # COCO and PoseTrack name files with their folder ("images/val/000007.jpg").
            number = numbers.get(str(pose.image), numbers.get(PurePath(str(pose.image)).name))
            if number is None:
                raise AnydiffError(
                    f"annotation {count} is of frame {pose.image!r}, but the video has {len(self.frames)} frames "
                    f"({', '.join(list(numbers)[:2])}, ...); name frames by their file or their number."
                )
            if (number >= border) == (split == "test") and (pose.visibility > 0).any():
                moments = np.clip(
                    number + reach, *((border, len(self.frames) - 1) if split == "test" else (0, border - 1))
                )
                crop = self._crop(pose, count)
                self.examples.append((pose, crop, moments))
        skeleton, nobody = self._domain.skeleton, np.zeros((len(self._domain.skeleton), 2))
        has_head = head_size_of(nobody, np.zeros(len(skeleton), dtype=bool), skeleton) is not None
        self._heads_known = has_head or any(pose.head_size for pose, _, _ in self.examples)
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

    def _crop(self, pose: Pose, count: int) -> Crop:
        try:
            return Crop.around(pose.labelled_box, self._domain.height, self._domain.width)
        except AnydiffError as error:
            raise AnydiffError(f"annotation {count} of frame {pose.image!r}: {error}") from error

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """States float32 ``[B, J, h, w]`` with frames, loss mask and truth."""
        chosen = [self.examples[index] for index in indices]
        poses = [self.pose(index) for index in indices]
        clips = np.stack([crop.cut(self.frames[moments]) for _, crop, moments in chosen])
        points = torch.from_numpy(np.stack([pose.keypoints for pose in poses]))
        visibility = torch.from_numpy(np.stack([pose.visibility for pose in poses]))
        scales = np.array([crop.scale for _, crop, _ in chosen])
        boxes = np.array([pose.labelled_box[2:] for pose, _, _ in chosen])
        areas = np.array(
            [box.prod() if pose.area is None else pose.area for (pose, _, _), box in zip(chosen, boxes, strict=True)]
        )
        return self._domain.states(points, visibility > 0), {
            "frames": self._domain.network_frames(clips),
            "loss_mask": (visibility > 0)[..., None, None].float(),
            "truth_keypoints": points,
            "truth_visibility": visibility,
            "truth_area": torch.from_numpy(areas * scales**2),
            "truth_side": torch.from_numpy(boxes.max(axis=1) * scales),
            **({"truth_head_size": self._heads(chosen)} if self._heads_known else {}),
        }

    def _heads(self, chosen: Sequence[tuple[Pose, Crop, np.ndarray]]) -> Tensor:
        """Head sizes in crop pixels ``[B]``; NaN for a person of whom neither it nor head and neck are known."""
        sizes = []
        for pose, crop, _ in chosen:
            labelled = pose.visibility > 0
            found = pose.head_size or head_size_of(pose.keypoints, labelled, self._domain.skeleton)
            sizes.append(float("nan") if found is None else float(found) * crop.scale)
        return torch.tensor(sizes, dtype=torch.float64)


def _frame_numbers(source: str | Path | Frames, count: int) -> dict[str, int]:
    """Names of frames -> their numbers: the pictures' file names where there are any, and the numbers themselves."""
    names = {str(number): number for number in range(count)}
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        names = {**{file.name: number for number, file in enumerate(picture_files(Path(source)))}, **names}
    return names
