"""Your own video with key points: frames from anywhere, annotations from a COCO or PoseTrack file, as a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset, overlapping
from anydiff.data.frames import Conversion
from anydiff.domains import Domain
from anydiff.domains.kit import check_split, domain_of_data
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning
from anydiff_pose.cases import Label, person_labels
from anydiff_pose.coco import KeypointFile, read_keypoint_file
from anydiff_pose.crops import Crop
from anydiff_pose.domain import Poses
from anydiff_pose.metrics import head_size_of
from anydiff_pose.poses import Pose
from anydiff_pose.video import Footage, Frames, read_footage


class AnnotatedVideo(Dataset):
    """One example per annotated person and frame; the last quarter of the frames is for testing.

    Joints that fall outside the crop count as not labelled. Conditions, weights of the loss and truth are those of
    :class:`~anydiff_pose.data.HumanoidVideo`.

    Args:
        frames: a folder of pictures, an ``.npz`` or a video file, or the frames themselves.
        annotations: the JSON file, or poses. Their ``image`` is the frame's file name, or its number.
        split: ``train`` or ``test``.
        gap: frames from one frame of a clip to the next.
        domain: the recipe's, or options of :class:`~anydiff_pose.domain.Poses`; its skeleton names the file's joints.
        first_frame: 0 or 1, the number of a video's first frame in a file that names frames by numbers; None where the
            file tells it: it numbers a frame 0, or one as high as there are frames.
        value_range: what becomes black and white in frames of more than eight bits.
        background: red, green and blue behind transparent pixels of the frames.

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
        domain: Domain | dict[str, Any] | None = None,
        first_frame: int | None = None,
        value_range: Sequence[float] | None = None,
        background: Sequence[int] | None = None,
    ) -> None:
        check_split(split)
        self._domain = domain_of_data(Poses, domain)
        footage = read_footage(frames, Conversion.of(3, value_range, background))
        self.frames = footage.frames
        numbering = _Numbering(footage, first_frame)
        poses = annotations
        if isinstance(annotations, (str, Path)):
            file = read_keypoint_file(annotations, self._domain.skeleton)
            poses = file.poses
            numbering.count_as(file, str(annotations))
            _check_sizes(file, str(annotations), self.frames.shape[1:3])
        assert not isinstance(poses, (str, Path))
        border = len(self.frames) * 3 // 4
        reach = natural_number("gap", gap) * np.arange(-(self._domain.frames // 2), self._domain.frames // 2 + 1)
        self.examples: list[tuple[Pose, Crop, np.ndarray]] = []
        keyframes: list[int] = []
        for count, pose in enumerate(poses):
            number = numbering.of(pose)
            if number is None:
                raise AnydiffError(
                    f"annotation {count} is of frame {pose.image!r}, but the video has {len(self.frames)} frames "
                    f"({numbering.examples}, ...); name frames by their file or their number."
                )
            if (number >= border) == (split == "test") and (pose.visibility > 0).any():
                moments = np.clip(
                    number + reach, *((border, len(self.frames) - 1) if split == "test" else (0, border - 1))
                )
                crop = self._crop(pose, count)
                self.examples.append((pose, crop, moments))
                keyframes.append(number)
        names = footage.names or range(len(self.frames))
        before, after = -int(reach[0]), int(reach[-1]) + 1
        self._stretches = [each - before for each in keyframes], [each + after for each in keyframes]
        self._labels = person_labels([names[each] for each in keyframes], [pose.track for pose, _, _ in self.examples])
        skeleton, nobody = self._domain.skeleton, np.zeros((len(self._domain.skeleton), 2))
        has_head = head_size_of(nobody, np.zeros(len(skeleton), dtype=bool), skeleton) is not None
        self._heads_known = has_head or any(pose.head_size for pose, _, _ in self.examples)
        if not self.examples:
            raise AnydiffError(f"the {split} split of {len(poses)} annotations is empty; annotate more frames.")

    @property
    def domain(self) -> Poses:
        """Crops and heatmaps with the file's skeleton."""
        return self._domain

    @property
    def dependence(self) -> int:
        """How far apart examples are, at most, that see a moment of the video in common."""
        return overlapping(*self._stretches)

    def __len__(self) -> int:
        return len(self.examples)

    def pose(self, index: int) -> Pose:
        """Example ``index`` in crop coordinates."""
        pose, crop, _ = self.examples[index]
        points = crop.to_crop(pose.keypoints)
        inside = ((points >= 0) & (points <= (crop.width, crop.height))).all(axis=1)
        return dataclasses.replace(pose, keypoints=points, visibility=np.where(inside, pose.visibility, 0))

    def case_labels(self, indices: Sequence[int]) -> list[Label]:
        """The name or number of each one's frame; with the number of the person where several are in it."""
        return [self._labels[index] for index in indices]

    def _crop(self, pose: Pose, count: int) -> Crop:
        try:
            return Crop.around(pose.labelled_box, self._domain.height, self._domain.width)
        except AnydiffError as error:
            raise AnydiffError(f"annotation {count} of frame {pose.image!r}: {error}") from error

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, J, h, w]`` with frames, weights of the loss and truth."""
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
        truth = {
            "keypoints": points,
            "visibility": visibility,
            "area": torch.from_numpy(areas * scales**2),
            "side": torch.from_numpy(boxes.max(axis=1) * scales),
            **({"head_size": self._heads(chosen)} if self._heads_known else {}),
        }
        return self._domain.states(points, visibility > 0), Conditioning(
            {"frames": self._domain.network_frames(clips)},
            truth=truth,
            loss_weight=(visibility > 0)[..., None, None].float(),
        )

    def _heads(self, chosen: Sequence[tuple[Pose, Crop, np.ndarray]]) -> Tensor:
        """Head sizes in crop pixels ``[B]``; NaN for a person of whom neither it nor head and neck are known."""
        sizes = []
        for pose, crop, _ in chosen:
            labelled = pose.visibility > 0
            found = pose.head_size or head_size_of(pose.keypoints, labelled, self._domain.skeleton)
            sizes.append(float("nan") if found is None else float(found) * crop.scale)
        return torch.tensor(sizes, dtype=torch.float64)


def _check_sizes(file: KeypointFile, path: str, size: Sequence[int]) -> None:
    """Refuse coordinates in pictures of another size than the frames.

    Raises:
        AnydiffError: the file states such a size.
    """
    other = sorted(file.sizes - {(size[0], size[1])})
    if other:
        height, width = other[0]
        raise AnydiffError(
            f"{path!r} is of images of {width}x{height} pixels, but the frames have {size[1]}x{size[0]}; give the "
            "frames that were annotated, or scale the key points with the frames."
        )


class _Numbering:
    """Which frame an annotation is of.

    Args:
        footage: the frames.
        first: the number of the first frame in the annotations' file, where the user says so.
    """

    def __init__(self, footage: Footage, first: int | None) -> None:
        if first not in (None, 0, 1):
            raise AnydiffError(f"first_frame is {first!r}, but must be 0 or 1: what the file calls the first frame.")
        self.count, self.first, self.by_number = len(footage.frames), first, False
        self.names = {name: number for number, name in enumerate(footage.names or ())}

    def count_as(self, file: KeypointFile, path: str) -> None:
        """Take the numbers of a file that does not name the frames: from 0 or from 1, as it tells or the user says."""
        if all(self._by_name(pose) is not None for pose in file.poses):
            return
        self.by_number = True
        if len(file.videos) > 1:
            raise AnydiffError(
                f"{path!r} annotates {len(file.videos)} videos (vid_id {', '.join(sorted(file.videos)[:3])}, ...), but "
                "frames are of one; cut the file into one for each video."
            )
        if self.first is not None or not file.numbers:
            return
        if 0 in file.numbers or max(file.numbers) == self.count:
            self.first = 0 if 0 in file.numbers else 1
        elif max(file.numbers) < self.count:
            raise AnydiffError(
                f"{path!r} numbers its frames {min(file.numbers)} to {max(file.numbers)} and the video has "
                f"{self.count}, so whether the first one is 0 or 1 is not told; say first_frame=0 or first_frame=1."
            )

    def of(self, pose: Pose) -> int | None:
        """The frame of an annotation, counted from 0; None if it is none of the video."""
        number = self._by_name(pose)
        named = bool(self.names) and isinstance(pose.image, str)
        if number is None and self.by_number and pose.number is not None and not named:
            number = pose.number - (self.first or 0)
        return number if number is not None and 0 <= number < self.count else None

    def _by_name(self, pose: Pose) -> int | None:
        # COCO and PoseTrack name files with their folder ("images/val/000007.jpg").
        name = str(pose.image)
        found = self.names.get(name, self.names.get(PurePath(name).name))
        # A number in place of a name counts from 0: anydiff writes so, and poses made in Python are so.
        return int(name) if found is None and pose.number is None and name.isdecimal() else found

    @property
    def examples(self) -> str:
        """The names or numbers of the first frames."""
        return ", ".join([*self.names, *(str(number) for number in range(self.count))][:2])
