"""Key points as heatmaps: a state is one heatmap per joint, the condition a short clip around the keyframe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor

from anydiff.domains import Domain, LabelledArray, Measurement
from anydiff.domains.kit import Limits
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning, Leaf, StateSpec
from anydiff_pose import cases
from anydiff_pose.coco import SUFFIXES, read_poses, write_poses
from anydiff_pose.heatmaps import Decoding, decode_heatmaps, draw_heatmaps
from anydiff_pose.poses import EDGE, VISIBLE, Pose, outside
from anydiff_pose.skeletons import load_skeleton

if TYPE_CHECKING:
    from anydiff.states import ArrayCondition

UNIT, BYTES = Limits(0.0, 1.0), Limits(0.0, 255.0)
"""Heatmaps and pictures onto [-1, 1]."""


class Poses(Domain):
    """Poses in crops of one size as states ``[B, J, height/stride, width/stride]``, x = scale (2 h - 1), h in [0, 1].

    Args:
        skeleton: name of a skeleton of this package, or the path of a YAML file.
        height: of the crop in pixels, a multiple of ``stride``.
        width: of the crop.
        stride: pixels per cell of a heatmap.
        sigma: of the Gaussians, in cells.
        scale: s, the range of the state is [-s, s]; the signal-to-noise ratio at a time grows with its square.
        frames: odd number of frames of the condition, the keyframe in the middle.
        decoding: how heatmaps become coordinates, see :func:`~anydiff_pose.heatmaps.decode_heatmaps`.
        threshold: a joint whose heatmap stays below it counts as not labelled.
    """

    name = "pose"
    condition_help = MappingProxyType({"frames": "FOLDER_OR_VIDEO"})
    suffixes = SUFFIXES

    def __init__(
        self,
        skeleton: str = "humanoid15",
        height: int = 64,
        width: int = 48,
        stride: int = 4,
        sigma: float = 1.25,
        scale: float = 1.0,
        frames: int = 3,
        decoding: Decoding = "dark",
        threshold: float = 0.1,
    ) -> None:
        self.skeleton = load_skeleton(skeleton)
        self.stride = natural_number("stride", stride)
        self.height, self.width = natural_number("height", height), natural_number("width", width)
        if height % stride or width % stride or min(height, width) < 3 * stride:
            raise AnydiffError(
                f"height and width are {height} and {width}, but must be multiples of the stride {stride}, at least 3."
            )
        if not (sigma > 0 and scale > 0 and 0 <= threshold < 1):
            raise AnydiffError(
                f"sigma, scale and threshold are {sigma}, {scale} and {threshold}, but sigma and scale must be "
                "positive and threshold in [0, 1)."
            )
        if natural_number("frames", frames) % 2 == 0:
            raise AnydiffError(f"frames is {frames}, but must be odd: the keyframe stands in the middle.")
        if decoding not in get_args(Decoding):
            raise UnknownNameError("decoding", str(decoding), get_args(Decoding))
        self.sigma, self.scale, self.threshold = float(sigma), float(scale), float(threshold)
        self.frames, self.decoding = frames, decoding
        shape = (len(self.skeleton), height // stride, width // stride)
        self._spec = StateSpec([Leaf("heatmaps", shape, range=(-self.scale, self.scale))])

    @property
    def spec(self) -> StateSpec:
        """One leaf named ``heatmaps``, ``(joints, height / stride, width / stride)``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """Which joint each heatmap is of, and how coordinates and heatmaps become one another."""
        return {
            "joints": list(self.skeleton.joints),
            "limbs": [list(limb) for limb in self.skeleton.limbs],
            "pairs": [list(pair) for pair in self.skeleton.pairs],
            "sigmas": list(self.skeleton.sigmas),
            "height": self.height,
            "width": self.width,
            "stride": self.stride,
            "sigma": self.sigma,
            "scale": self.scale,
            "frames": self.frames,
            "decoding": self.decoding,
            "threshold": self.threshold,
        }

    @property
    def conditions(self) -> dict[str, ArrayCondition]:
        """``frames``: ``[frames, 3, height, width]``, RGB in [-1, 1]."""
        from anydiff.states import ArrayCondition

        return {"frames": ArrayCondition((self.frames, 3, self.height, self.width))}

    def heatmaps(self, states: Tensor) -> Tensor:
        """Heatmaps h in [0, 1] of states."""
        return UNIT.decode(states / self.scale)

    def states(self, keypoints: Tensor, labelled: Tensor, scores: Tensor | None = None) -> Tensor:
        """States float32 ``[B, J, h, w]`` of key points ``[B, J, 2]``; joints not ``labelled`` are background.

        Rows of ``scores [B, J]`` that are not all one become the greatest values of their heatmaps.
        """
        rows, columns = self.spec.shape[1:]
        drawn = draw_heatmaps(keypoints, labelled, rows, columns, self.stride, self.sigma)
        if scores is not None:
            estimated = (scores != 1).any(dim=1)[:, None, None, None]
            ranked = drawn * (scores.clamp(0, 1) / drawn.amax(dim=(2, 3)).clamp_min(1e-12))[..., None, None]
            drawn = torch.where(estimated, ranked, drawn)
        return (self.scale * UNIT.encode(drawn)).float()

    def encode(self, objects: Sequence[Pose]) -> Tensor:
        """States of poses in crop coordinates; joints that are not labelled have an empty heatmap.

        An estimate (a pose with scores other than one) has its joints' scores as greatest values, so that
        :meth:`decode` gives them back and metrics that rank by score judge a file as they judged what was written.

        A labelled joint a little outside the crop (:data:`~anydiff_pose.poses.EDGE`) is drawn at the crop's edge.

        Raises:
            AnydiffError: a pose of another number of joints, or a labelled joint far outside the crop.
        """
        for number, pose in enumerate(objects):
            if len(pose.keypoints) != len(self.skeleton):
                raise AnydiffError(
                    f"pose {number} has {len(pose.keypoints)} joints, but the skeleton {self.skeleton.name!r} has "
                    f"{len(self.skeleton)}; choose the skeleton of your file."
                )
            beyond = outside(pose.keypoints, pose.visibility > 0, self.width, self.height)
            if beyond.max() > EDGE * max(self.width, self.height):
                joint = int(beyond.argmax())
                x, y = pose.keypoints[joint]
                raise AnydiffError(
                    f"key point {self.skeleton.joints[joint]!r} of pose {number} lies at ({x:g}, {y:g}), outside the "
                    f"frame of {self.width}x{self.height} pixels; crop around the person, or set its visibility to 0."
                )
        if not objects:
            return torch.empty(0, *self.spec.shape)
        points = torch.from_numpy(np.clip([pose.keypoints for pose in objects], 0, (self.width, self.height)))
        drawn = torch.from_numpy(np.stack([pose.visibility > 0 for pose in objects]))
        return self.states(points, drawn, torch.from_numpy(np.stack([np.asarray(pose.scores) for pose in objects])))

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Pose]:
        """Poses in crop coordinates; each carries its keyframe where the condition has ``frames``.

        A joint is flagged visible where its heatmap reaches ``threshold``, else not labelled (heatmaps do not tell
        visible from occluded).

        Raises:
            AnydiffError: states of another shape or with values that are not finite.
        """
        self.spec.check(states)
        if not states.isfinite().all():
            raise AnydiffError("the states hold a value that is not finite, so they are no poses; look at the sampler.")
        points, scores = decode_heatmaps(self.heatmaps(states.detach().double()), self.stride, self.decoding)
        points = np.clip(points, 0, (self.width, self.height))
        flags = np.where(scores >= self.threshold, VISIBLE, 0)
        frames = None if condition is None else condition.given.get("frames")
        keyframes = None if frames is None else self.pictures(frames)[:, self.frames // 2]
        return [
            Pose(points[i], flags[i], scores[i], image=i, frame=None if keyframes is None else keyframes[i])
            for i in range(len(states))
        ]

    def pictures(self, frames: Tensor) -> np.ndarray:
        """``frames [..., 3, height, width]`` in [-1, 1] as uint8 ``[..., height, width, 3]``."""
        values = BYTES.decode(frames.detach().cpu().double())
        out: np.ndarray = values.round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).numpy()
        return out

    def network_frames(self, frames: np.ndarray) -> Tensor:
        """uint8 ``[..., height, width, 3]`` as float32 ``[..., 3, height, width]`` in [-1, 1]."""
        return BYTES.encode(torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float())

    def read(self, path: str | Path) -> list[Pose]:
        """Poses of a COCO or PoseTrack key point file; see :func:`anydiff_pose.coco.read_poses`."""
        return read_poses(path, self.skeleton)

    def read_measurement(self, path: str | Path, output: Sequence[int], mask: str | Path | None = None) -> Measurement:
        """Key points that are set by hand: the heatmaps of labelled joints are measured, all others are not.

        Raises:
            AnydiffError: no joint is labelled; a file of masks; or an operator that measures no whole heatmaps.
        """
        if mask is not None:
            raise AnydiffError(
                f"--mask is {str(mask)!r}, but key points tell by their visibility what was set; leave it out."
            )
        if tuple(output) != tuple(self.spec.shape):
            raise AnydiffError(
                f"key points tell whole heatmaps {self.spec.shape}, but this operator gives {tuple(output)}; leave "
                "--operator out."
            )
        poses = self.read(path)
        labelled = torch.from_numpy(np.stack([pose.visibility > 0 for pose in poses]))
        return Measurement(torch.where(labelled[..., None, None], self.encode(poses).double(), torch.nan))

    def write(self, objects: Sequence[Pose], path: str | Path) -> None:
        """Write a COCO key point file; see :func:`anydiff_pose.coco.write_poses`."""
        write_poses(objects, path, self.skeleton, (self.height, self.width))

    def draw(self, objects: Sequence[Pose], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write the skeletons over their frames as one PNG."""
        from anydiff_pose.pictures import draw_poses

        draw_poses(objects, path, self.skeleton, titles, size=(self.height, self.width))

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"frames": PATH}``: a folder of pictures, a video or an ``.npz``; sample i is of keyframe i (cycled).

        The whole frame is the person's crop; for several people, or boxes, use :func:`anydiff_pose.estimate_video`.

        Raises:
            UnknownNameError: a condition this domain does not have.
            AnydiffError: nothing there to read.
        """
        self._check_asked(text)
        if not text:
            return {}
        from anydiff_pose.crops import whole_frame_crops, windows
        from anydiff_pose.video import read_frames

        crops = whole_frame_crops(read_frames(text["frames"]), self.height, self.width)
        clips = windows(crops, self.frames)
        rows = np.arange(count) % len(clips)
        return {"frames": self.network_frames(clips[rows])}

    def labels(self, text: Mapping[str, str]) -> list[Any] | None:
        """The frames that ``{"frames": PATH}`` names, each a case: the file names of pictures, else numbers from 0."""
        self._check_asked(text)
        if not text:
            return None
        from anydiff_pose.video import picture_files, read_frames

        path = Path(text["frames"]).expanduser()
        return [file.name for file in picture_files(path)] if path.is_dir() else list(range(len(read_frames(path))))

    def labelled(self, objects: Sequence[Pose], labels: Sequence[Any], members: Sequence[int]) -> list[Pose]:
        """Poses that name the clips they are of; see :func:`anydiff_pose.cases.labelled`."""
        return cases.labelled(objects, labels)

    def label_arrays(self, labels: Sequence[Any]) -> dict[str, LabelledArray]:
        """``image [case]`` and, of several people in one, ``track [case]``; see :func:`anydiff_pose.cases.arrays`."""
        return cases.arrays(labels)

    def match(self, objects: Sequence[Pose], labels: Sequence[Any]) -> list[int] | None:
        """The held-out clip of each pose, by the name of its image; see :func:`anydiff_pose.cases.match`."""
        return cases.match(objects, labels)

    def _check_asked(self, text: Mapping[str, str]) -> None:
        for name in text:
            if name != "frames":
                raise UnknownNameError("condition", name, ["frames"])
