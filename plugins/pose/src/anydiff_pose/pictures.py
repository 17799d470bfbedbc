"""What an expert looks at: skeletons over frames, heatmaps along the reverse process, and an animated GIF."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from anydiff.domains.kit.pictures import enlarged, picture_grid, write_animation, write_picture
from anydiff.errors import AnydiffError
from anydiff_pose.poses import OCCLUDED, UNLABELLED, Pose
from anydiff_pose.skeletons import Skeleton

Picture = NDArray[np.uint8]


def joint_colours(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """One colour per joint: warm on the right side, cool on the left, green between."""
    hue = {"right": 0.05, "left": 0.6}
    colours = []
    for number, joint in enumerate(skeleton.joints):
        side = joint.split("_")[0]
        shift = 0.10 * number / len(skeleton.joints)
        red, green, blue = colorsys.hsv_to_rgb(hue.get(side, 0.33) + shift, 0.85, 1.0)
        colours.append((int(255 * red), int(255 * green), int(255 * blue)))
    return colours


def overlay(poses: Sequence[Pose], skeleton: Skeleton, size: tuple[int, int] = (64, 48), zoom: int = 4) -> Picture:
    """The skeletons over the first pose's frame (grey without): uint8 ``[zoom * height, zoom * width, 3]``.

    Occluded joints are open circles; joints that are not labelled are left out.
    """
    frame = poses[0].frame if poses[0].frame is not None else np.full((*size, 3), 96, dtype=np.uint8)
    picture = enlarged(frame, zoom)
    for pose in poses:
        draw_skeleton(ImageDraw.Draw(picture), pose, skeleton, zoom)
    return np.asarray(picture)


def draw_skeleton(draw: ImageDraw.ImageDraw, pose: Pose, skeleton: Skeleton, zoom: int) -> None:
    """Limbs and joints of one pose, onto a picture enlarged by ``zoom``."""
    colours = joint_colours(skeleton)
    points = pose.keypoints * zoom
    for a, b in skeleton.limbs:
        if min(pose.visibility[a], pose.visibility[b]) > UNLABELLED:
            draw.line([tuple(points[a]), tuple(points[b])], fill=colours[b], width=max(1, zoom // 2))
    radius = max(1.5, 0.6 * zoom)
    for number, (x, y) in enumerate(points):
        if pose.visibility[number] > UNLABELLED:
            place = (x - radius, y - radius, x + radius, y + radius)
            fill = None if pose.visibility[number] == OCCLUDED else colours[number]
            draw.ellipse(place, fill=fill, outline=(255, 255, 255) if fill is None else colours[number])


def draw_poses(
    poses: Sequence[Pose],
    path: str | Path,
    skeleton: Skeleton,
    titles: Sequence[str] | None = None,
    size: tuple[int, int] = (64, 48),
    zoom: int = 4,
) -> None:
    """Write the poses over their frames as one PNG; poses of the same frame share a tile, under the first one's title.

    Raises:
        AnydiffError: there is nothing to draw.
    """
    if not poses:
        raise AnydiffError("there are no poses to draw; give at least one.")
    groups: list[list[int]] = []
    for number, pose in enumerate(poses):
        shared = next((inside for inside in groups if _same_frame(poses[inside[0]], pose)), None)
        if shared is None:
            groups.append([number])
        else:
            shared.append(number)
    tiles = [overlay([poses[number] for number in inside], skeleton, size, zoom) for inside in groups]
    chosen = [titles[inside[0]] for inside in groups if inside[0] < len(titles)] if titles else None
    columns = max(1, int(np.ceil(np.sqrt(len(tiles) * 1.8))))  # crops of people are upright
    write_picture(picture_grid(tiles, chosen, columns, dark=True), path)


def _same_frame(one: Pose, other: Pose) -> bool:
    """Whether two poses are of one picture: samples of several videos count their frames from zero each."""
    if one.image != other.image or (one.frame is None) != (other.frame is None):
        return False
    return one.frame is None or other.frame is None or np.array_equal(one.frame, other.frame)


def heat_colours(heat: NDArray[np.float64]) -> Picture:
    """Numbers, 0 cold and 1 hot, as RGB: black, purple, orange, white."""
    stops = np.array([[0, 0, 0], [87, 15, 109], [229, 92, 48], [252, 255, 164]], dtype=np.float64)
    place = np.clip(heat, 0, 1) * (len(stops) - 1)
    low = np.minimum(place.astype(int), len(stops) - 2)
    share = (place - low)[..., None]
    return np.asarray(np.rint(stops[low] * (1 - share) + stops[low + 1] * share), dtype=np.uint8)


def animate(
    poses: Sequence[Pose], path: str | Path, skeleton: Skeleton, *, zoom: int = 4, frames_per_second: float = 12.0
) -> None:
    """Write an animated GIF: the poses over their frames, one picture per ``image``, in order.

    Raises:
        AnydiffError: there are no poses, or their frames have different sizes.
    """
    groups: dict[str | int, list[Pose]] = {}
    for pose in poses:
        groups.setdefault(pose.image, []).append(pose)
    pictures = []
    for inside in groups.values():
        frame = inside[0].frame
        if frame is None:
            raise AnydiffError("a pose carries no frame to draw on; estimate from video, or give Pose(frame=...).")
        picture = enlarged(frame, zoom)
        for pose in inside:
            draw_skeleton(ImageDraw.Draw(picture), pose, skeleton, zoom)
        pictures.append(picture)
    if not pictures:
        raise AnydiffError("there are no poses to animate; give at least one.")
    write_animation(pictures, path, frames_per_second)
