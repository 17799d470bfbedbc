"""Poses from video with a trained pipeline: crops, clips, several estimates per person, and back to the frame.

The images are encoded once per person and keyframe, whatever the number of steps and estimates (see
:meth:`anydiff.denoisers.Denoiser.encode_condition`); the number of refinement steps is chosen at each call, one
included, without training again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.metrics import members_per_case
from anydiff.pipeline import Pipeline
from anydiff_pose.crops import Crop, moments
from anydiff_pose.domain import Poses
from anydiff_pose.heatmaps import Reduction, aggregate, decode_heatmaps, mean_keypoints, mirror_heatmaps
from anydiff_pose.poses import EDGE, UNLABELLED, VISIBLE, Pose, outside
from anydiff_pose.video import Footage, Frames, read_footage

Box = tuple[float, float, float, float]


def estimate_clips(
    pipeline: Pipeline,
    clips: Tensor,
    *,
    steps: int | None = None,
    estimates: int = 1,
    reduction: Reduction = "mean-heatmap",
    flip: bool = False,
    seed: int = 0,
    **options: Any,
) -> list[Pose]:
    """Poses of the keyframes of ``clips [N, T, 3, height, width]`` (RGB in [-1, 1]), in crop coordinates.

    Args:
        pipeline: of a recipe in the domain ``pose``.
        clips: person crops, all frames cut by the keyframe's box.
        steps: network calls per estimate; the recipe's by default.
        estimates: how many are drawn per clip and aggregated.
        reduction: ``mean-heatmap`` (average, then the maximum), ``mean-keypoints`` or ``medoid``.
        flip: average with the estimates of the mirrored clip, left and right exchanged.
        seed: of the noise.
        options: as for :meth:`Pipeline.sample`.

    Raises:
        AnydiffError: the pipeline is of another domain, or an option is wrong.
    """
    domain = pose_domain(pipeline)
    if reduction not in get_args(Reduction):
        raise UnknownNameError("reduction", str(reduction), get_args(Reduction))
    count = natural_number("estimates", estimates)
    settings = {"nfe": steps, "seed": seed, **options}
    heat = domain.heatmaps(_members(pipeline, clips, count, settings))
    if flip:
        mirrored = domain.heatmaps(_members(pipeline, clips.flip(-1), count, settings))
        heat = (heat + mirror_heatmaps(mirrored, domain.skeleton.mirror)) / 2
    if reduction == "mean-keypoints":
        points, scores = mean_keypoints(heat, domain.stride, domain.decoding)
    else:
        points, scores = decode_heatmaps(aggregate(heat, reduction, domain.stride), domain.stride, domain.decoding)
    keyframes = domain.pictures(clips[:, clips.shape[1] // 2])
    flags = np.where(scores >= domain.threshold, VISIBLE, 0)
    inside = np.clip(points, 0, (domain.width, domain.height))
    return [Pose(inside[i], flags[i], scores[i], image=i, frame=keyframes[i]) for i in range(len(clips))]


def _members(pipeline: Pipeline, clips: Tensor, count: int, settings: Mapping[str, Any]) -> Tensor:
    samples = pipeline.ensemble_set(count, {"frames": clips}, **settings)
    return members_per_case(samples.states.double(), len(clips))


def estimate_video(
    pipeline: Pipeline,
    video: str | Path | Frames | Sequence[Any],
    boxes: Mapping[int, Sequence[Box]] | Sequence[Sequence[Box]] | None = None,
    **options: Any,
) -> list[Pose]:
    """Poses of everybody in a video, in the coordinates of its frames.

    A joint estimated far outside the frame (:data:`~anydiff_pose.poses.EDGE`) has visibility 0, as truth has it.

    Args:
        pipeline: of a recipe in the domain ``pose``.
        video: frames, a folder of pictures, an ``.npz`` or a video file; see :func:`anydiff_pose.video.read_frames`.
        boxes: per frame the boxes (x, y, width, height) of the people, from a detector or an annotation; None for one
            person who fills the frame. A box's place in its frame's list becomes the track number.
        options: as for :func:`estimate_clips`.

    Raises:
        AnydiffError: boxes of frames that do not exist, or nobody at all.
    """
    domain = pose_domain(pipeline)
    footage = read_footage(video)
    frames = footage.frames
    wanted = _boxes(boxes, frames)
    if not wanted:
        raise AnydiffError("boxes name nobody in any frame; give at least one box (x, y, width, height).")
    around = moments(len(frames), domain.frames)
    crops = [Crop.around(box, domain.height, domain.width) for _, _, box in wanted]
    clips = np.stack([crop.cut(frames[around[number]]) for crop, (number, _, _) in zip(crops, wanted, strict=True)])
    found = estimate_clips(pipeline, domain.network_frames(clips), **options)
    return [_in_frame(*each, footage) for each in zip(found, crops, wanted, strict=True)]


def _in_frame(pose: Pose, crop: Crop, wanted: tuple[int, int, Box], footage: Footage) -> Pose:
    """An estimate in a crop as one in its frame."""
    number, track, box = wanted
    frame = footage.frames[number]
    points = crop.to_frame(pose.keypoints)
    far = outside(points, pose.visibility > 0, frame.shape[1], frame.shape[0]) > EDGE * max(frame.shape[:2])
    return dataclasses.replace(
        pose,
        keypoints=points,
        visibility=np.where(far, UNLABELLED, pose.visibility),
        image=number,
        track=track,
        box=box,
        frame=frame,
        time=None if footage.times is None else float(footage.times[number]),
    )


def _boxes(
    boxes: Mapping[int, Sequence[Box]] | Sequence[Sequence[Box]] | None, frames: Frames
) -> list[tuple[int, int, Box]]:
    """(frame, place in it, box) of everybody."""
    if boxes is None:
        # The crop enlarges a box by a quarter; a person who fills the frame needs none of that.
        height, width = frames.shape[1] / 1.25, frames.shape[2] / 1.25
        whole = ((frames.shape[2] - width) / 2, (frames.shape[1] - height) / 2, width, height)
        return [(number, 0, whole) for number in range(len(frames))]
    pairs = boxes.items() if isinstance(boxes, Mapping) else enumerate(boxes)
    found = []
    for number, inside in pairs:
        if not 0 <= number < len(frames):
            raise AnydiffError(f"boxes name frame {number}, but the video has frames 0 to {len(frames) - 1}.")
        for track, box in enumerate(inside):
            if len(box) != 4:
                raise AnydiffError(f"box {track} of frame {number} is {tuple(box)}, but must be (x, y, width, height).")
            x, y, width, height = box
            if not (x < frames.shape[2] and y < frames.shape[1] and x + width > 0 and y + height > 0):
                raise AnydiffError(
                    f"box {track} of frame {number} is {tuple(box)}, which lies outside the frame of "
                    f"{frames.shape[2]}x{frames.shape[1]} pixels; give pixels, (x, y, width, height)."
                )
            found.append((number, track, box))
    return found


def pose_domain(pipeline: Pipeline) -> Poses:
    """The pipeline's domain.

    Raises:
        AnydiffError: it is not that of poses.
    """
    if not isinstance(pipeline.domain, Poses):
        raise AnydiffError(
            f"the pipeline's domain is {pipeline.domain.name!r}; load a recipe of poses (pose/diffpose)."
        )
    return pipeline.domain
