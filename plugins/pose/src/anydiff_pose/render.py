"""Moving humanoids as small video with exact key points: limbs, occluders, motion blur, clutter, several people.

Bodies are capsules with a soft edge one pixel wide, painted from far to near in an orthographic camera; everything is
arithmetic on arrays, so a clip is a pure function of its random generator. A joint is visible where no other part of a
body stands in front of it by more than that part's own radius, and no occluder covers it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff_pose.skeletons import load_skeleton

Array = NDArray[np.float64]
Picture = NDArray[np.float32]

SKELETON = load_skeleton("humanoid15")
HEAD_RADIUS = 0.105
"""Metres; the head box is the square around it."""

# A part: first joint, second joint (if None, an offset along the gaze from the first), offset, radius (m), material.
_PARTS: tuple[tuple[str, str | None, float, float, str], ...] = (
    ("head", "neck", 0.0, 0.05, "skin"),
    ("head", None, 0.0, HEAD_RADIUS, "hair"),
    ("head", None, 0.06, 0.08, "skin"),
    ("neck", "pelvis", 0.0, 0.125, "shirt"),
    ("right_shoulder", "left_shoulder", 0.0, 0.07, "shirt"),
    ("right_hip", "left_hip", 0.0, 0.09, "trousers"),
    *((f"{side}_shoulder", f"{side}_elbow", 0.0, 0.05, "sleeve") for side in ("right", "left")),
    *((f"{side}_elbow", f"{side}_wrist", 0.0, 0.042, "skin") for side in ("right", "left")),
    *((f"{side}_hip", f"{side}_knee", 0.0, 0.075, "trousers") for side in ("right", "left")),
    *((f"{side}_knee", f"{side}_ankle", 0.0, 0.055, "stocking") for side in ("right", "left")),
    *((f"{side}_ankle", None, 0.14, 0.04, "shoe") for side in ("right", "left")),
)  # fmt: skip
_FACE = 2
_TOUCHES = {"hair": ("head",), "skin": ("head", "neck")}


@dataclass(frozen=True)
class Person:
    """One body in front of the camera.

    Attributes:
        joints: ``[T, 15, 3]``: x and y in pixels, and the depth towards the viewer in pixels.
        scale: pixels per metre.
        colours: material -> RGB in [0, 1].
    """

    joints: Array
    scale: float
    colours: dict[str, Array]

    def parts(self) -> tuple[Array, Array, Array, Array]:
        """Both ends ``[T, P, 3]``, radius ``[P]`` in pixels and colour ``[P, 3]`` of each capsule."""
        index = SKELETON.index
        across = self.joints[:, index("left_shoulder")] - self.joints[:, index("right_shoulder")]
        up = self.joints[:, index("neck")] - self.joints[:, index("pelvis")]
        # The image's y axis points down, which turns the handedness of the cross product.
        gaze = np.cross(up, across)
        gaze = gaze / np.maximum(np.linalg.norm(gaze, axis=-1, keepdims=True), 1e-9)
        first = np.stack([self.joints[:, index(a)] for a, *_ in _PARTS], axis=1)
        second = first.copy()
        for number, (_, b, offset, _, _) in enumerate(_PARTS):
            second[:, number] = self.joints[:, index(b)] if b else first[:, number] + offset * self.scale * gaze
            if number == _FACE:
                first[:, number] = second[:, number]  # a disc before the head, not a capsule through it
        radius = np.array([radius for *_, radius, _ in _PARTS]) * self.scale
        return first, second, radius, np.stack([self.colours[material] for *_, material in _PARTS])


@dataclass(frozen=True)
class Occluder:
    """A box or an ellipse in front of everybody: centre ``[T, 2]``, half sizes ``[2]``, RGB."""

    centre: Array
    half: Array
    colour: Array
    round: bool

    def distance(self, x: NDArray[Any], y: NDArray[Any]) -> Array:
        """Signed distance (pixels, roughly; negative inside) of points to the shape; broadcasts over ``[T, ...]``."""
        extra = (1,) * (np.ndim(x) - 1)
        dx = np.abs(x - self.centre[:, 0].reshape(-1, *extra))
        dy = np.abs(y - self.centre[:, 1].reshape(-1, *extra))
        if self.round:
            level = np.sqrt((dx / self.half[0]) ** 2 + (dy / self.half[1]) ** 2)
            return np.asarray((level - 1) * self.half.min())
        return np.asarray(np.maximum(dx - self.half[0], dy - self.half[1]))


@dataclass(frozen=True)
class Scene:
    """People and occluders over a background, at T instants.

    Attributes:
        people: the first is the one whose key points are asked for.
        occluders: in front of all.
        background: ``[height, width, 3]`` in [0, 1].
    """

    people: Sequence[Person]
    background: Array
    occluders: Sequence[Occluder] = field(default=())

    def draw(self) -> Picture:
        """The pictures ``[T, height, width, 3]`` in [0, 1]."""
        height, width = self.background.shape[:2]
        first, second, radius, colour = self._all_parts()
        instants = first.shape[0]
        depth = (first[..., 2] + second[..., 2]) / 2
        picture = np.broadcast_to(self.background.astype(np.float32), (instants, height, width, 3)).copy()
        y = (np.arange(height, dtype=np.float32) + 0.5)[:, None]
        x = (np.arange(width, dtype=np.float32) + 0.5)[None, :]
        for instant in range(instants):
            canvas = picture[instant]
            for part in np.argsort(depth[instant], kind="stable"):
                paint_capsule(canvas, x, y, first[instant, part], second[instant, part], radius[part], colour[part])
        for occluder in self.occluders:
            distance = occluder.distance(x[None], y[None]).astype(np.float32)
            alpha = np.clip(0.5 - distance, 0, 1)[..., None]
            picture += alpha * (occluder.colour.astype(np.float32) - picture)
        return picture

    def visible(self, instant: int, person: int = 0) -> NDArray[np.bool_]:
        """Which joints of ``person`` can be seen at ``instant``: bool ``[15]``."""
        first, second, radius, _ = self._all_parts()
        first, second = first[instant], second[instant]
        joints = self.people[person].joints[instant]
        nearest, distance = _nearest_depth(joints, first, second)
        front = nearest - joints[:, None, 2] > radius
        covered = (distance < radius) & front
        own = np.arange(len(_PARTS)) + person * len(_PARTS)
        for joint, name in enumerate(SKELETON.joints):
            mine = [number for number, (a, b, *_, material) in enumerate(_PARTS) if _belongs(name, a, b, material)]
            covered[joint, own[mine]] = False
        seen: NDArray[np.bool_] = ~covered.any(axis=1)
        for occluder in self.occluders:
            instants = len(occluder.centre)
            points = np.broadcast_to(joints, (instants, *joints.shape))
            seen &= occluder.distance(points[..., 0], points[..., 1])[instant] > 0
        return seen

    def _all_parts(self) -> tuple[Array, Array, Array, Array]:
        found = [person.parts() for person in self.people]
        joined = [np.concatenate([each[k] for each in found], axis=1 if k < 2 else 0) for k in range(4)]
        return joined[0], joined[1], joined[2], joined[3]


def _belongs(joint: str, first: str, second: str | None, material: str) -> bool:
    """Whether a part is what the joint is a joint of, so that it cannot hide it."""
    return joint in (first, second) or (first == "head" and joint in _TOUCHES.get(material, ()))


def _nearest_depth(points: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Depth of each segment at the place nearest to each point in the image, and the distance there: ``[J, P]``."""
    along = second - first
    length = np.maximum((along[:, :2] ** 2).sum(-1), 1e-9)
    share = ((points[:, None, :2] - first[None, :, :2]) * along[None, :, :2]).sum(-1) / length
    place = first[None] + np.clip(share, 0, 1)[..., None] * along[None]
    return place[..., 2], np.linalg.norm(points[:, None, :2] - place[..., :2], axis=-1)


def paint_capsule(
    canvas: Picture, x: Picture, y: Picture, first: Array, second: Array, radius: float, colour: Array
) -> None:
    """Paint one capsule onto ``canvas [height, width, 3]`` in place, darker towards its edge."""
    height, width = canvas.shape[:2]
    margin = radius + 1
    low, high = np.minimum(first, second) - margin, np.maximum(first, second) + margin
    left, right = max(int(low[0]), 0), min(math.ceil(high[0]) + 1, width)
    top, bottom = max(int(low[1]), 0), min(math.ceil(high[1]) + 1, height)
    if left >= right or top >= bottom:
        return
    px, py = x[:, left:right] - np.float32(first[0]), y[top:bottom] - np.float32(first[1])
    dx, dy = np.float32(second[0] - first[0]), np.float32(second[1] - first[1])
    share = np.clip((px * dx + py * dy) / max(float(dx * dx + dy * dy), 1e-9), 0, 1)
    distance = np.sqrt((px - share * dx) ** 2 + (py - share * dy) ** 2)
    alpha = np.clip(np.float32(radius + 0.5) - distance, 0, 1)[..., None]
    shade = 1 - 0.4 * np.minimum(distance / np.float32(radius), 1)[..., None] ** 2
    region = canvas[top:bottom, left:right]
    region += alpha * (colour.astype(np.float32) * shade - region)


def view(positions: Array, yaw: float, pitch: float) -> Array:
    """World positions ``[..., 3]`` (z up) in camera coordinates (metres): x right, y down, depth towards the viewer."""
    x = -positions[..., 0] * math.sin(yaw) - positions[..., 1] * math.cos(yaw)
    away = positions[..., 0] * math.cos(yaw) - positions[..., 1] * math.sin(yaw)
    y = -positions[..., 2] * math.cos(pitch) - away * math.sin(pitch)
    depth = positions[..., 2] * math.sin(pitch) - away * math.cos(pitch)
    return np.stack([x, y, depth], axis=-1)


def random_colours(generator: np.random.Generator) -> dict[str, Array]:
    """Clothes: sleeves and stockings are bare, or of the shirt's and trousers' colour."""
    skin = np.array([0.85, 0.62, 0.48]) * generator.uniform(0.35, 1.1) + generator.uniform(-0.04, 0.04, 3)
    shirt, trousers, hair, shoe = generator.uniform(0.05, 0.95, (4, 3))
    return {
        "skin": np.clip(skin, 0, 1),
        "hair": hair * 0.6,
        "shirt": shirt,
        "sleeve": shirt if generator.random() < 0.6 else np.clip(skin, 0, 1),
        "trousers": trousers,
        "stocking": trousers if generator.random() < 0.7 else np.clip(skin, 0, 1),
        "shoe": shoe * 0.7,
    }


def random_background(generator: np.random.Generator, height: int, width: int, clutter: int) -> Array:
    """A gradient with ``clutter`` soft boxes, discs and limb-like bars: ``[height, width, 3]`` in [0, 1]."""
    y = (np.arange(height) + 0.5)[:, None]
    x = (np.arange(width) + 0.5)[None, :]
    corners = generator.uniform(0.1, 0.9, (3, 3))
    picture = corners[0] + (corners[1] - corners[0]) * (y / height)[..., None] + np.zeros((height, width, 3))
    picture += 0.3 * (corners[2] - 0.5) * (x / width)[..., None]
    canvas = np.clip(picture, 0, 1).astype(np.float32)
    size = min(height, width)
    for _ in range(clutter):
        centre = generator.uniform(0, 1, 2) * (width, height)
        colour = generator.uniform(0, 1, 3)
        if generator.random() < 0.5:
            half = generator.uniform(0.03, 0.3, 2) * size
            box = Occluder(centre[None], half, colour, bool(generator.random() < 0.4))
            alpha = np.clip(0.5 - box.distance(x[None], y[None])[0], 0, 1)[..., None] * generator.uniform(0.3, 1)
            canvas += (alpha * (colour - canvas)).astype(np.float32)
        else:
            angle, length = generator.uniform(0, math.pi), generator.uniform(0.1, 0.5) * size
            end = centre + length * np.array([math.cos(angle), math.sin(angle)])
            ends = np.append(centre, 0.0), np.append(end, 0.0)
            paint_capsule(
                canvas, x.astype(np.float32), y.astype(np.float32), *ends, generator.uniform(0.01, 0.05) * size, colour
            )
    return np.asarray(np.clip(canvas, 0, 1), dtype=np.float64)
