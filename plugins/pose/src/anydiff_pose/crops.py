"""Person crops by an affine map that is kept, so that key points go back to the frame exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError
from anydiff_pose.video import Frames

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Crop:
    """A box in a frame that becomes ``height`` by ``width`` pixels: crop = (frame - corner) * scale.

    Attributes:
        corner: (x, y) of the box in the frame.
        scale: crop pixels per frame pixel, the same along both axes.
        height: of the crop.
        width: of the crop.
    """

    corner: tuple[float, float]
    scale: float
    height: int
    width: int

    @classmethod
    def around(cls, box: tuple[float, float, float, float], height: int, width: int, enlarge: float = 1.25) -> Crop:
        """The crop around a person's ``box`` (x, y, width, height), enlarged, at the aspect of the crop.

        Raises:
            AnydiffError: a box without area or with a value that is not finite.
        """
        x, y, w, h = (float(value) for value in box)
        if not (np.isfinite([x, y, w, h]).all() and w > 0 and h > 0):
            raise AnydiffError(f"box is {tuple(box)}, but must be (x, y, width, height) with a positive size.")
        side = enlarge * max(w / width, h / height)
        return cls((x + w / 2 - side * width / 2, y + h / 2 - side * height / 2), 1 / side, height, width)

    def to_crop(self, points: Array) -> Array:
        """Frame coordinates ``[..., 2]`` as crop coordinates."""
        return (np.asarray(points, dtype=np.float64) - self.corner) * self.scale

    def to_frame(self, points: Array) -> Array:
        """Crop coordinates ``[..., 2]`` as frame coordinates: the inverse of :meth:`to_crop`."""
        return np.asarray(points, dtype=np.float64) / self.scale + self.corner

    def cut(self, frames: Frames) -> Frames:
        """``frames [T, H, W, 3]`` cropped: uint8 ``[T, height, width, 3]``; black outside.

        Bilinear between pixel centres; where the crop is smaller than the box, the mean over the pixel's area.
        """
        times = max(1, int(np.ceil(1 / self.scale)))
        x = (np.arange(self.width * times) + 0.5) / (times * self.scale) + self.corner[0] - 0.5
        y = (np.arange(self.height * times) + 0.5) / (times * self.scale) + self.corner[1] - 0.5
        columns, rows = _weights(x, frames.shape[2]), _weights(y, frames.shape[1])
        columns = columns.reshape(self.width, times, -1).mean(axis=1)
        rows = rows.reshape(self.height, times, -1).mean(axis=1)
        values = np.einsum("yh,thwc,xw->tyxc", rows, frames.astype(np.float64), columns, optimize=True)
        return np.asarray(np.rint(np.clip(values, 0, 255)), dtype=np.uint8)


def _weights(places: NDArray[Any], size: int) -> Array:
    """Linear interpolation at ``places`` (pixel numbers) as a matrix ``[places, size]``; zero outside."""
    weight: Array = np.clip(1 - np.abs(places[:, None] - np.arange(size)), 0, 1)
    inside = (places >= -0.5) & (places <= size - 0.5)
    # The outer half of the border pixels is theirs alone.
    total = weight.sum(axis=1, keepdims=True)
    return np.where(inside[:, None] & (total > 0), weight / np.maximum(total, 1e-12), 0)


def whole_frame_crops(frames: Frames, height: int, width: int) -> Frames:
    """The largest centred crops of the frames: uint8 ``[T, height, width, 3]``; the frames themselves if they fit."""
    if frames.shape[1:3] == (height, width):
        return frames
    box = (0.0, 0.0, float(frames.shape[2]), float(frames.shape[1]))
    side = min(box[2] / width, box[3] / height)
    corner = ((box[2] - side * width) / 2, (box[3] - side * height) / 2)
    return Crop(corner, 1 / side, height, width).cut(frames)


def moments(count: int, size: int) -> NDArray[np.int64]:
    """For each of ``count`` frames the numbers of the ``size`` around it, ends repeated: ``[count, size]``."""
    reach = size // 2
    numbers: NDArray[np.int64] = np.clip(np.arange(count)[:, None] + np.arange(-reach, reach + 1), 0, count - 1)
    return numbers


def windows(frames: Frames, size: int) -> Frames:
    """For each frame the clip of ``size`` frames around it: ``[T, size, H, W, 3]``."""
    return frames[moments(len(frames), size)]
