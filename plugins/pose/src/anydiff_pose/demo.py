"""A rendered video of several people with everybody's exact key points: to try things on, and for the documentation."""

from __future__ import annotations

import numpy as np

from anydiff.errors import natural_number
from anydiff_pose.motion import bundled_clips
from anydiff_pose.poses import OCCLUDED, VISIBLE, Pose
from anydiff_pose.render import HEAD_RADIUS, SKELETON, Occluder, Person, Scene, random_background, random_colours, view
from anydiff_pose.video import Frames


def rendered_video(
    frames: int = 24, people: int = 2, height: int = 96, width: int = 160, gap: int = 5, seed: int = 0
) -> tuple[Frames, list[Pose]]:
    """Frames uint8 ``[frames, height, width, 3]`` and one pose per person and frame, in the frames' coordinates.

    The people walk, run or dance side by side in the last quarter of the bundled motions, which no training saw; a box
    passes in front of them. ``visibility`` is exact, and joints outside the frame are not labelled.

    Args:
        frames: how many.
        people: how many.
        height: of a frame, pixels.
        width: of a frame, pixels.
        gap: source frames (1/60 s) from one frame to the next.
        seed: of clothes, moments, background and the box.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 77], dtype=np.uint64)))
    count = natural_number("frames", frames)
    scale = 0.55 * height
    bodies = [
        _body(generator, count, gap, scale, ((number + 1) / (people + 1) * width, 0.9 * height))
        for number in range(natural_number("people", people))
    ]
    start = generator.uniform(0.1, 0.3) * width
    centre = np.stack([start + np.arange(count) * 0.6 * width / count, np.full(count, 0.7 * height)], axis=1)
    box = Occluder(centre, np.array([0.05, 0.14]) * height, generator.uniform(0, 1, 3), False)
    scene = Scene(bodies, random_background(generator, height, width, 10), (box,))
    pictures = scene.draw() + 0.02 * generator.standard_normal((count, height, width, 3))
    poses = [_pose(scene, moment, person, (height, width)) for moment in range(count) for person in range(people)]
    return np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8), poses


def _body(generator: np.random.Generator, count: int, gap: int, scale: float, foot: tuple[float, float]) -> Person:
    """Somebody whose pelvis starts above ``foot``; a motion that ends begins anew."""
    clip = bundled_clips()[int(generator.choice(3, p=(0.2, 0.2, 0.6)))]
    unseen = clip.positions[len(clip.positions) * 3 // 4 :]
    positions = unseen[(int(generator.integers(len(unseen))) + gap * np.arange(count)) % len(unseen)]
    positions = positions - positions[:, [SKELETON.index("pelvis")]] * (1, 1, 0)
    place = view(positions, generator.uniform(0, 2 * np.pi), np.deg2rad(5)) * scale
    place[..., :2] += foot
    return Person(place, scale, random_colours(generator))


def _pose(scene: Scene, moment: int, person: int, size: tuple[int, int]) -> Pose:
    body = scene.people[person]
    points = body.joints[moment, :, :2]
    inside = ((points >= 0) & (points <= size[::-1])).all(axis=1)
    flags = np.where(inside, np.where(scene.visible(moment, person), VISIBLE, OCCLUDED), 0)
    low, extent = points.min(axis=0), points.max(axis=0) - points.min(axis=0)
    box = (float(low[0]), float(low[1]), float(extent[0]), float(extent[1]))
    head = 0.6 * 2 * np.sqrt(2) * HEAD_RADIUS * body.scale
    return Pose(points, flags, image=moment, track=person, box=box, area=box[2] * box[3], head_size=float(head))
