"""Person crops from rendered motion: one example is a short clip around a keyframe with the keyframe's exact truth.

The crop is that of the keyframe's box enlarged by a quarter, and the same for all frames of the clip (boxes of their
own would break the alignment in time). Frames lie ``gap`` source frames (of 60 a second) apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, natural_number
from anydiff_pose.motion import Clip
from anydiff_pose.render import (
    HEAD_RADIUS,
    SKELETON,
    Array,
    Occluder,
    Person,
    Scene,
    random_background,
    random_colours,
    view,
)

BLUR = (-1, 0, 1)
"""Source frames, relative to the instant, over which a moving exposure is averaged."""


@dataclass(frozen=True)
class ClipSettings:
    """What is rendered.

    Attributes:
        height: of the crop, pixels.
        width: of the crop, pixels.
        frames: odd number of frames, the keyframe in the middle.
        gap: source frames (1/60 s) between neighbours.
        others: mean number of further people near the first.
        occluders: mean number of things that pass in front.
        clutter: mean number of shapes in the background.
        blur: share of clips with motion blur.
        noise: standard deviation of the pixel noise, of a range of 1.
    """

    height: int = 64
    width: int = 48
    frames: int = 3
    gap: int = 5
    others: float = 0.6
    occluders: float = 1.2
    clutter: float = 6.0
    blur: float = 0.4
    noise: float = 0.03

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames", "gap"):
            natural_number(name, getattr(self, name))
        if self.frames % 2 == 0:
            raise AnydiffError(f"frames is {self.frames}, but must be odd: the keyframe stands in the middle.")
        for name in ("others", "occluders", "clutter", "blur", "noise"):
            if not 0 <= float(getattr(self, name)) < 100 or (name == "blur" and self.blur > 1):
                raise AnydiffError(
                    f"{name} is {getattr(self, name)!r}, but must be a number of at least 0 (blur: <= 1)."
                )


@dataclass(frozen=True)
class Example:
    """One clip and its truth, in pixels of the crop.

    Attributes:
        frames: uint8 ``[frames, height, width, 3]``.
        keypoints: ``[15, 2]`` of the keyframe.
        visibility: ``[15]``: 2 visible, 1 occluded, 0 outside the crop.
        head_size: 0.6 times the diagonal of the head box (the reference of PCKh).
        area: of the box of all joints (the reference of OKS).
    """

    frames: NDArray[np.uint8]
    keypoints: Array
    visibility: NDArray[np.int64]
    head_size: float
    area: float


def render_example(motions: Sequence[Clip], generator: np.random.Generator, settings: ClipSettings) -> Example:
    """Draw one example: motion, moment, camera, clothes, company, occluders, all from ``generator``."""
    reach = settings.frames // 2
    blurred = generator.random() < settings.blur
    spread = BLUR if blurred else (0,)
    offsets = np.array([settings.gap * step + inner for step in range(-reach, reach + 1) for inner in spread])
    middle = reach * len(spread) + len(spread) // 2
    body = _moment(motions, generator, offsets, middle)
    scale, origin = _crop(body[middle], generator, settings)
    place = body.copy()
    place[..., :2] = (body[..., :2] - origin) * scale
    place[..., 2] *= scale
    people = [Person(place, scale, random_colours(generator))]
    for _ in range(int(generator.poisson(settings.others))):
        people.append(_company(motions, generator, offsets, middle, settings, place, scale))
    occluders = [
        _occluder(generator, settings, place[middle], len(offsets), len(spread), middle)
        for _ in range(int(generator.poisson(settings.occluders)))
    ]
    background = random_background(generator, settings.height, settings.width, int(generator.poisson(settings.clutter)))
    scene = Scene(people, background, occluders)
    pictures = scene.draw().reshape(settings.frames, len(spread), settings.height, settings.width, 3).mean(axis=1)
    pictures = pictures * generator.uniform(0.8, 1.1) + settings.noise * generator.standard_normal(pictures.shape)
    frames = np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)
    keypoints = place[middle, :, :2]
    inside = (keypoints >= 0).all(1) & (keypoints < (settings.width, settings.height)).all(1)
    visibility = np.where(inside, np.where(scene.visible(middle), 2, 1), 0)
    size = keypoints.max(0) - keypoints.min(0)
    return Example(frames, keypoints, visibility, 0.6 * 2 * np.sqrt(2) * HEAD_RADIUS * scale, float(size.prod()))


def _moment(motions: Sequence[Clip], generator: np.random.Generator, offsets: NDArray[np.int64], middle: int) -> Array:
    """A body ``[T, 15, 3]`` in camera coordinates (metres), the keyframe's pelvis at the origin, by chance mirrored."""
    lengths = np.array([len(clip.positions) for clip in motions], dtype=np.float64)
    clip = motions[int(generator.choice(len(motions), p=lengths / lengths.sum()))]
    low, high = -int(offsets.min()), len(clip.positions) - int(offsets.max())
    moment = int(generator.integers(low, max(high, low + 1)))
    positions = clip.positions[np.clip(moment + offsets, 0, len(clip.positions) - 1)]
    positions = positions - positions[middle, SKELETON.index("pelvis")]
    if generator.random() < 0.5:
        positions = (positions * (1, -1, 1))[:, SKELETON.mirror]
    return view(positions, generator.uniform(0, 2 * np.pi), np.deg2rad(generator.uniform(-5, 25)))


def _crop(keyframe: Array, generator: np.random.Generator, settings: ClipSettings) -> tuple[float, Array]:
    """Pixels per metre, and the crop's corner in metres: the joints' box and a quarter, as inexact as a detector's."""
    low, high = keyframe[:, :2].min(0), keyframe[:, :2].max(0)
    extent = np.maximum(high - low, 0.3) * 1.25
    side = max(extent[0] / settings.width, extent[1] / settings.height) * generator.uniform(0.95, 1.2)
    crop = side * np.array([settings.width, settings.height])
    centre = (low + high) / 2 + generator.normal(0, 0.02, 2) * crop
    return 1 / side, centre - crop / 2


def _company(
    motions: Sequence[Clip],
    generator: np.random.Generator,
    offsets: NDArray[np.int64],
    middle: int,
    settings: ClipSettings,
    place: Array,
    scale: float,
) -> Person:
    """Somebody else, beside the first, before or behind."""
    body = _moment(motions, generator, offsets, middle) * scale * generator.uniform(0.85, 1.1)
    side = generator.choice([-1.0, 1.0]) * generator.uniform(0.35, 0.9) * settings.width
    centre = place[middle, SKELETON.index("pelvis"), :2] + (side, generator.normal(0, 0.05) * settings.height)
    body[..., :2] += centre
    body[..., 2] += generator.choice([-1.0, 1.0]) * scale
    return Person(body, scale, random_colours(generator))


def _occluder(
    generator: np.random.Generator, settings: ClipSettings, keyframe: Array, instants: int, exposures: int, middle: int
) -> Occluder:
    """Something that passes before a joint at the keyframe, at up to a fifth of the crop's width per frame."""
    joint = keyframe[int(generator.integers(len(keyframe))), :2]
    half = generator.uniform(0.05, 0.17, 2) * settings.width
    angle, speed = generator.uniform(0, 2 * np.pi), generator.uniform(0.0, 0.22) * settings.width
    step = speed * np.array([np.cos(angle), np.sin(angle)]) / exposures
    centre = joint + generator.uniform(-0.7, 0.7, 2) * half + (np.arange(instants) - middle)[:, None] * step
    return Occluder(centre, half, generator.uniform(0, 1, 3), bool(generator.random() < 0.5))
