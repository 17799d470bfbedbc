"""Motions of a humanoid in three dimensions: the bundled clips, and DeepMimic's by container.

A clip holds the positions of the 15 joints of the skeleton ``humanoid15`` in metres, x forward, y left, z up, at 60
frames a second. The bundled ``motions.npz`` was made by ``python -m anydiff_pose.motion WHEEL_OF_ISAACLAB``.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anydiff.data import cached_container, read_members
from anydiff.errors import FileFormatError
from anydiff.files import atomic_path
from anydiff_pose import ledger
from anydiff_pose.skeletons import load_skeleton

Array = NDArray[np.float64]

BUNDLE = Path(__file__).with_name("motions.npz")
FPS = 60
HEAD_OFFSET = (0.0, 0.0, 0.175)
"""From the neck joint to the centre of the head, in the head's own frame (both humanoids have the same)."""

BODIES = {
    "neck": "head", "pelvis": "pelvis",
    **{f"{side}_{joint}": f"{side}_{body}" for side in ("right", "left") for joint, body in (
        ("shoulder", "upper_arm"), ("elbow", "lower_arm"), ("wrist", "hand"),
        ("hip", "thigh"), ("knee", "shin"), ("ankle", "foot"),
    )},
}  # fmt: skip
"""Joint of the skeleton -> the body of the Isaac Lab humanoid whose origin it is."""


@dataclass(frozen=True)
class Clip:
    """One motion: ``positions [T, 15, 3]`` (float64, metres) at 60 frames a second."""

    name: str
    positions: Array


def bundled_clips() -> list[Clip]:
    """Walk, run and dance, as bundled.

    Raises:
        FileFormatError: the file is missing or damaged.
    """
    try:
        with np.load(BUNDLE, allow_pickle=False) as arrays:
            return [Clip(name, arrays[name].astype(np.float64)) for name in ledger.HUMANOID_MEMBERS]
    except (OSError, ValueError, KeyError) as error:
        raise FileFormatError(
            f"the bundled {BUNDLE.name!r} cannot be read ({error}); install anydiff-pose again."
        ) from error


def humanoid_clips(source: Path) -> list[Clip]:
    """The clips of the wheel of isaaclab at ``source``."""
    members = read_members(source, ledger.HUMANOID_MEMBERS.values())
    clips = []
    for name, member in ledger.HUMANOID_MEMBERS.items():
        with np.load(io.BytesIO(members[member]), allow_pickle=False) as arrays:
            bodies = [str(body) for body in arrays["body_names"]]
            places, turns = arrays["body_positions"].astype(np.float64), arrays["body_rotations"].astype(np.float64)
        joints = {joint: places[:, bodies.index(body)] for joint, body in BODIES.items()}
        joints["head"] = joints["neck"] + rotate(turns[:, bodies.index("head")], np.array(HEAD_OFFSET))
        clips.append(Clip(name, _stacked(joints)))
    return clips


def deepmimic_clips(source: Path | None = None) -> list[Clip]:
    """DeepMimic's clips from the wheel of pybullet (default: the fetched one), by forward kinematics.

    Raises:
        AnydiffError: it was not fetched yet.
        FileFormatError: the file is not that wheel.
    """
    members = read_members(source or cached_container(ledger.DEEPMIMIC), ledger.DEEPMIMIC_MEMBERS.values())
    clips = []
    for name, member in ledger.DEEPMIMIC_MEMBERS.items():
        rows = np.array(json.loads(members[member])["Frames"], dtype=np.float64)
        positions = deepmimic_kinematics(rows[:, 1:])
        seconds = np.concatenate([[0.0], np.cumsum(rows[:-1, 0])])
        wanted = np.arange(0.0, seconds[-1] + 1e-9, 1 / FPS)
        flat = positions.reshape(len(rows), -1)
        resampled = np.stack([np.interp(wanted, seconds, column) for column in flat.T], axis=1)
        clips.append(Clip(f"deepmimic_{name}", resampled.reshape(-1, *positions.shape[1:])))
    return clips


_ARM = ((0.0, -0.274788, 0.0), (0.0, -0.258947, 0.0))
_LEG = ((0.0, -0.421546, 0.0), (0.0, -0.409870, 0.0))


def deepmimic_kinematics(rows: Array) -> Array:
    """Joint positions ``[T, 15, 3]`` from DeepMimic's 43 numbers a frame (y up, z to the right; angles in radians).

    Root position (3) and quaternion wxyz (4); then chest, neck (quaternions), right hip (quaternion), knee (angle about
    z), ankle (quaternion), shoulder (quaternion), elbow (angle about z), and the same on the left.
    """
    cut = np.split(rows, np.cumsum([3, 4, 4, 4, 4, 1, 4, 4, 1, 4, 1, 4, 4]), axis=1)
    root, turn, chest, neck = cut[:4]
    joints = {"pelvis": root}
    chest_place, chest_turn = root + rotate(turn, np.array([0, 0.236151, 0])), multiply(turn, chest)
    joints["neck"] = chest_place + rotate(chest_turn, np.array([0, 0.223894, 0]))
    joints["head"] = joints["neck"] + rotate(multiply(chest_turn, neck), np.array([0, 0.175, 0]))
    for side, sign, (hip, knee, _, shoulder, elbow) in (("right", 1.0, cut[4:9]), ("left", -1.0, cut[9:14])):
        leg = (root, turn, (0.0, 0.0, sign * 0.084887), hip, knee, _LEG, ("hip", "knee", "ankle"))
        arm = (
            chest_place,
            chest_turn,
            (-0.02405, 0.2435, sign * 0.18311),
            shoulder,
            elbow,
            _ARM,
            ("shoulder", "elbow", "wrist"),
        )
        for start, frame, offset, ball, hinge, bones, names in (leg, arm):
            first = start + rotate(frame, np.array(offset))
            upper = multiply(frame, ball)
            second = first + rotate(upper, np.array(bones[0]))
            third = second + rotate(multiply(upper, about_z(hinge[:, 0])), np.array(bones[1]))
            joints |= {f"{side}_{name}": place for name, place in zip(names, (first, second, third), strict=True)}
    stacked = _stacked(joints)
    return np.stack([stacked[..., 0], -stacked[..., 2], stacked[..., 1]], axis=-1)


def _stacked(joints: Mapping[str, Array]) -> Array:
    return np.stack([joints[name] for name in load_skeleton("humanoid15").joints], axis=1)


def rotate(quaternion: Array, vector: Array) -> Array:
    """``vector [3]`` turned by unit quaternions wxyz ``[T, 4]``: ``[T, 3]``."""
    unit = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    w, axis = unit[:, :1], unit[:, 1:]
    crossed = 2 * np.cross(axis, vector)
    turned: Array = vector + w * crossed + np.cross(axis, crossed)
    return turned


def multiply(one: Array, other: Array) -> Array:
    """Product of quaternions wxyz ``[T, 4]``: first ``other`` turns, then ``one``."""
    w1, x1, y1, z1 = one.T
    w2, x2, y2, z2 = other.T
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=1,
    )


def about_z(angle: Array) -> Array:
    """Quaternions wxyz ``[T, 4]`` of a turn by ``angle [T]`` (radians) about z."""
    zero = np.zeros_like(angle)
    return np.stack([np.cos(angle / 2), zero, zero, np.sin(angle / 2)], axis=1)


if __name__ == "__main__":
    with atomic_path(BUNDLE) as temporary, temporary.open("wb") as file:
        arrays = {clip.name: clip.positions.astype(np.float32) for clip in humanoid_clips(Path(sys.argv[1]))}
        np.savez_compressed(file, allow_pickle=False, **arrays)
    print(f"{BUNDLE}: {BUNDLE.stat().st_size} bytes")
