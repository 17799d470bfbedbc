"""Which held-out clip a pose is of: by the name of its image, and by the person where several are in one picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from anydiff.domains import LabelledArray
from anydiff.errors import AnydiffError
from anydiff_pose.poses import Pose

Label = str | int | tuple[str | int, int]
"""A clip: the name or number of its keyframe; with the number of the person where several are annotated in it."""


def person_labels(images: Sequence[str | int], tracks: Sequence[int | None]) -> list[Label]:
    """A label for each annotated person, all of them distinct.

    Args:
        images: name or number of each one's frame.
        tracks: number of each one in the video, where it is known. Persons of a frame in which one has no number, or
            two have the same, are counted from 0 in their order.
    """
    frames: dict[str | int, list[int]] = {}
    for row, image in enumerate(images):
        frames.setdefault(image, []).append(row)
    labels: list[Label] = list(images)
    for image, rows in frames.items():
        known = [tracks[row] for row in rows]
        usable = None not in known and len(set(known)) == len(known)
        for place, row in enumerate(rows if len(rows) > 1 else []):
            track = tracks[row]
            labels[row] = (image, track if usable and track is not None else place)
    return labels


def labelled(poses: Sequence[Pose], labels: Sequence[Label]) -> list[Pose]:
    """Poses that name the clips they are of, by :attr:`Pose.image` and, of several people in it, :attr:`Pose.track`."""
    made = []
    for pose, label in zip(poses, labels, strict=True):
        if isinstance(label, tuple):
            made.append(dataclasses.replace(pose, image=label[0], track=label[1]))
        else:
            made.append(dataclasses.replace(pose, image=label))
    return made


def arrays(labels: Sequence[Label]) -> dict[str, LabelledArray]:
    """The labels of n clips for a Zarr group.

    - ``image [case]``: places in the list of its attribute ``names``, or numbers of frames where frames have no names.
    - ``track [case]``: the number of the person, -1 where the label names none; only where one does.
    """
    images = [_image(label) for label in labels]
    tracks = [label[1] if isinstance(label, tuple) else -1 for label in labels]
    numbers = all(isinstance(image, int) for image in images)
    frames = LabelledArray(np.array(images, dtype=np.int64), ("case",)) if numbers else None
    found = {"image": frames or LabelledArray.of_texts([str(image) for image in images])}
    if any(isinstance(label, tuple) for label in labels):
        found["track"] = LabelledArray(np.array(tracks, dtype=np.int64), ("case",))
    return found


def match(poses: Sequence[Pose], labels: Sequence[Label]) -> list[int] | None:
    """The place among ``labels`` of the clip of each pose; None where no pose names its image.

    Images that are numbers name a clip only where held-out clips are frames of a video, which have numbers. Folders
    before the name of a picture do not count where the clips are called without them.

    Raises:
        AnydiffError: a pose of none of these clips, or labels that do not tell the clips apart.
    """
    places = {label: place for place, label in enumerate(labels)}
    if len(places) < len(labels):
        raise AnydiffError("two held-out clips have one name, so no pose can be told to be of one of them.")
    numbered = any(isinstance(_image(label), int) for label in labels)
    if not numbered and not any(isinstance(pose.image, str) for pose in poses):
        return None
    found = []
    for row, pose in enumerate(poses):
        names = [pose.image, *([PurePath(pose.image).name] if isinstance(pose.image, str) else [])]
        keys = [key for name in names for key in (name, (name, pose.track)) if key in places]
        if not keys:
            raise AnydiffError(
                f"pose {row} is of image {pose.image!r}{_of_track(pose)}, which is none of the {len(labels)} held-out "
                f"clips ({_image(labels[0])!r}, ...); draw poses of these with `anydiff sample --cases N`."
            )
        found.append(places[keys[0]])
    return found


def _image(label: Label) -> str | int:
    return label[0] if isinstance(label, tuple) else label


def _of_track(pose: Pose) -> str:
    return "" if pose.track is None else f" and track {pose.track}"
