"""The field's own object: the key points of one person in one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError

Array = NDArray[np.float64]

VISIBLE, OCCLUDED, UNLABELLED = 2, 1, 0
"""COCO's flags: labelled and visible, labelled but not visible, not labelled."""

EDGE = 0.1
"""How far outside a picture a labelled joint may lie, as a share of the picture's longer side.

Annotators place joints that the edge cuts off where they must be. Farther outside, the coordinates are those of another
picture, or of another size of it.
"""


@dataclass(frozen=True, eq=False)
class Pose:
    """Key points of one person.

    Attributes:
        keypoints: ``[J, 2]`` image coordinates (x, y), the corner of the first pixel being (0, 0).
        visibility: ``[J]``: 2 visible, 1 occluded, 0 not labelled.
        scores: ``[J]`` confidence of each joint in [0, 1]; ones for truth.
        score: confidence of the person; by default the mean over labelled joints.
        image: name or number of the frame.
        track: number of the person in the video; None if unknown.
        box: (x, y, width, height) in pixels; None for the box of the labelled joints.
        area: in pixels², the reference of OKS; None for that of the box.
        head_size: in pixels, the reference of PCKh; None if unknown.
        frame: uint8 ``[height, width, 3]`` the frame itself, for pictures; None if it is not at hand.
        time: at which the frame is shown in its video, seconds; None if unknown.
        number: of the frame as another program's file counts them, from 0 or from 1; None where :attr:`image` tells it.
    """

    keypoints: Array
    visibility: NDArray[np.int64]
    scores: Array | None = None
    score: float | None = None
    image: str | int = 0
    track: int | None = None
    box: tuple[float, float, float, float] | None = None
    area: float | None = None
    head_size: float | None = None
    frame: NDArray[np.uint8] | None = None
    time: float | None = None
    number: int | None = None

    def __post_init__(self) -> None:
        points = np.asarray(self.keypoints, dtype=np.float64)
        flags = np.asarray(self.visibility, dtype=np.int64)
        scores = np.ones(len(flags)) if self.scores is None else np.asarray(self.scores, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or flags.shape != points.shape[:1] or scores.shape != flags.shape:
            raise AnydiffError(
                f"a pose has key points {points.shape}, visibility {flags.shape} and scores {scores.shape}, but must "
                "have [joints, 2], [joints] and [joints]."
            )
        if not np.isfinite(points).all():
            raise AnydiffError(f"key point {int(np.argwhere(~np.isfinite(points))[0, 0])} of a pose is not finite.")
        if not np.isin(flags, (UNLABELLED, OCCLUDED, VISIBLE)).all():
            raise AnydiffError(f"visibility is {flags.tolist()}, but every flag must be 0, 1 or 2.")
        object.__setattr__(self, "keypoints", points)
        object.__setattr__(self, "visibility", flags)
        object.__setattr__(self, "scores", scores)
        if self.score is None:
            labelled = flags > 0
            object.__setattr__(self, "score", float(scores[labelled].mean()) if labelled.any() else 0.0)

    @property
    def labelled_box(self) -> tuple[float, float, float, float]:
        """:attr:`box`, or the box of the labelled joints."""
        if self.box is not None:
            return self.box
        points = self.keypoints[self.visibility > 0]
        if not len(points):
            return (0.0, 0.0, 0.0, 0.0)
        low, size = points.min(0), points.max(0) - points.min(0)
        return (float(low[0]), float(low[1]), float(size[0]), float(size[1]))


def outside(keypoints: Array, labelled: NDArray[np.bool_], width: float, height: float) -> Array:
    """How far each joint lies outside a picture of this size ``[J]``: pixels, 0 inside and where it is not labelled."""
    beyond = np.maximum(np.maximum(-keypoints, keypoints - (width, height)), 0).max(axis=1)
    return np.asarray(np.where(labelled, beyond, 0.0))
