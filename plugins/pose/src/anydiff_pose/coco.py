"""COCO and PoseTrack key point files (JSON): annotations and results, read and written.

A file is an annotation file (``images``, ``annotations``, ``categories``; PoseTrack 2018 and 2021 add ``vid_id``,
``frame_id``, ``track_id`` and ``bbox_head``) or a list of results (``image_id``, ``keypoints``, ``score``). Joints are
found by the names in ``categories``, so a file may hold them in another order, or more of them; annotations of other
categories (a file of all COCO) are left out. A list of results names no joints, so it must have the skeleton's; where
its third numbers are no flags they are the joints' confidences, as most estimators write them. Coordinates are
continuous, the corner of the first pixel being (0, 0). A labelled joint may lie a little outside its image
(:data:`~anydiff_pose.poses.EDGE`), as COCO's do: it is kept as it is, and a warning counts such joints.

Images are numbered by ``frame_id``, which may count from 0 or from 1, else by ``image_id``. Files written here have ids
from 1, as COCO's, and the frames of a video have their number from 0 both as ``frame_id`` and as ``file_name``.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anydiff.data.reading import read_json, reading
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.files import check_suffix, write_atomic
from anydiff_pose.poses import EDGE, Pose, outside
from anydiff_pose.skeletons import Skeleton

SUFFIXES = (".json",)
"""What :func:`write_poses` takes."""
WHAT, ADVICE = "a COCO or PoseTrack key point file", "give such a file"


@dataclass(frozen=True)
class KeypointFile:
    """What a key point file holds.

    Attributes:
        poses: in the file's order.
        numbers: by which it counts its frames, those of images without anybody too.
        videos: that its images name (``vid_id``).
        sizes: (height, width) of its images, where they state them.
    """

    poses: list[Pose]
    numbers: set[int]
    videos: set[str]
    sizes: set[tuple[int, int]]


@dataclass
class _Source:
    """The file that is read, and how many of its joints lie a little outside their images, and how far."""

    path: Path
    images: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)
    beyond: list[float] = field(default_factory=list)


def read_poses(path: str | Path, skeleton: Skeleton) -> list[Pose]:
    """The poses of a file, in its order; arguments and errors as of :func:`read_keypoint_file`."""
    return read_keypoint_file(path, skeleton).poses


def read_keypoint_file(path: str | Path, skeleton: Skeleton) -> KeypointFile:
    """The poses of a file, in its order, with the joints of ``skeleton``.

    Raises:
        AnydiffError: the file does not exist, a key point lies far outside its image, flags are missing or wrong, or
            results have another number of joints.
        FileFormatError: it is no JSON, or lacks what a key point file has.
        UnknownNameError: the file has no joint of a name that the skeleton has.
    """
    source = _Source(Path(path))
    data = read_json(source.path, WHAT, ADVICE)
    with reading(source.path, WHAT, ADVICE):
        poses = _results(data, source, skeleton) if isinstance(data, list) else _annotations(data, source, skeleton)
    if source.beyond:
        warnings.warn(
            f"{str(source.path)!r} has {len(source.beyond)} labelled key points outside their images, by up to "
            f"{max(source.beyond):.3g} pixels; they are kept as they are.",
            stacklevel=3,
        )
    counted = [_frame_number(image) for image in source.images.values()]
    numbers = {number for number in (counted or [pose.number for pose in poses]) if number is not None}
    listed = list(source.images.values())
    sizes = {(int(each["height"]), int(each["width"])) for each in listed if each.get("height") and each.get("width")}
    return KeypointFile(poses, numbers, {str(each["vid_id"]) for each in listed if "vid_id" in each}, sizes)


def _annotations(data: Any, source: _Source, skeleton: Skeleton) -> list[Pose]:
    if not isinstance(data, Mapping) or not isinstance(data.get("annotations"), list):
        raise FileFormatError(
            f"{str(source.path)!r} has no list 'annotations' and is no list of results; give a COCO or PoseTrack file."
        )
    category = _category(data, source.path)
    order = _joint_order(category, skeleton, source.path)
    source.images = _images(data, source.path)
    entries = list(enumerate(data["annotations"]))
    chosen = [each for each in entries if _is_of(each[1], each[0], category, data, source.path)]
    if len(chosen) < len(entries):
        warnings.warn(
            f"{len(entries) - len(chosen)} of {len(entries)} annotations of {str(source.path)!r} are of other "
            f"categories than {category.get('name', category.get('id'))!r} and are left out.",
            stacklevel=4,
        )
    return [_pose(entry, number, source, order) for number, entry in chosen]


def _is_of(entry: Any, number: int, category: Mapping[str, Any], data: Mapping[str, Any], path: Path) -> bool:
    """Whether an annotation is of the category with key points; one that names none is.

    Raises:
        FileFormatError: it names a category that the file does not have.
    """
    named = entry.get("category_id") if isinstance(entry, Mapping) else None
    if named is None or named == category.get("id"):
        return True
    known = [each.get("id") for each in data["categories"] if isinstance(each, Mapping)]
    if named not in known:
        raise FileFormatError(
            f"annotation {number} of {str(path)!r} is of category {named!r}, but the file's categories are {known}; "
            "correct its category_id, or the id of the category."
        )
    return False


def _images(data: Mapping[str, Any], path: Path) -> dict[Any, Mapping[str, Any]]:
    """The images by their ids, sizes checked."""
    listed = data.get("images") or []
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise FileFormatError(f"'images' of {str(path)!r} is no list of mappings; correct or remove it.")
    for number, image in enumerate(listed):
        where = f"image {number} of {str(path)!r}"
        for name in ("id", "file_name", "frame_id"):
            _identity(image, name, where)
        for name in ("height", "width", "time"):
            _number(image, name, where)
    found: dict[Any, Mapping[str, Any]] = {}
    for number, image in enumerate(listed):
        if image.get("id") is None or image["id"] in found:
            what = "has no id" if image.get("id") is None else f"has the id {image['id']!r}, as one before it"
            raise FileFormatError(f"image {number} of {str(path)!r} {what}; give each image an id of its own.")
        found[image["id"]] = image
    return found


def _frame_number(image: Mapping[str, Any]) -> int | None:
    """By which a file counts a frame: ``frame_id``, or its id if it has no name; None where its name is a number."""
    name = image.get("file_name")
    if isinstance(name, str) and name.isdecimal():
        return None
    number = image.get("frame_id", image.get("id") if name is None else None)
    return number if isinstance(number, int) else None


def _results(data: Sequence[Any], source: _Source, skeleton: Skeleton) -> list[Pose]:
    path = source.path
    poses = []
    for number, entry in enumerate(data):
        flat = entry.get("keypoints") if isinstance(entry, Mapping) else None
        if isinstance(flat, list) and len(flat) > 3 * len(skeleton):
            raise FileFormatError(
                f"keypoints of annotation {number} of {str(path)!r} are {len(flat)} numbers, but the {len(skeleton)} "
                f"joints of {skeleton.name!r} are {3 * len(skeleton)}; choose the skeleton of the results."
            )
        if isinstance(flat, list) and len(flat) == 3 * len(skeleton) and not set(flat[2::3]) <= {0, 1, 2}:
            entry = {"scores": flat[2::3], **entry, "keypoints": list(flat)}
            entry["keypoints"][2::3] = [2] * len(skeleton)
        poses.append(_pose(entry, number, source, list(range(len(skeleton)))))
    return poses


def write_poses(
    poses: Sequence[Pose], path: str | Path, skeleton: Skeleton, size: tuple[int, int] | None = None
) -> None:
    """Write an annotation file that :func:`read_poses` gives back digit for digit.

    Every annotation also has ``score`` and ``scores`` (one per joint, as PoseTrack's predictions), so that the list
    ``annotations`` alone is a COCO results file.

    Args:
        poses: in any order; equal ``image`` means the same frame.
        path: of the JSON file.
        skeleton: names the joints.
        size: (height, width) of the images, where the poses carry no frame.
    """
    check_suffix(path, SUFFIXES, "key points")
    frames: dict[str | int, Pose] = {}
    for pose in poses:
        frames.setdefault(pose.image, pose)
    identities = {name: number + 1 for number, name in enumerate(frames)}
    data = {
        "images": [_image(pose, identities[name], size) for name, pose in frames.items()],
        "annotations": [_annotation(pose, number, identities[pose.image]) for number, pose in enumerate(poses)],
        "categories": [
            {
                "id": 1,
                "name": "person",
                "keypoints": list(skeleton.joints),
                "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
            }
        ],
    }
    write_atomic(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def _image(pose: Pose, identity: int, size: tuple[int, int] | None) -> dict[str, Any]:
    """The frame of a pose; the frame of a video is called by its number, from 0."""
    known = size if pose.frame is None else pose.frame.shape[:2]
    return {
        "id": identity,
        "file_name": str(pose.image),
        **({"frame_id": pose.image} if isinstance(pose.image, int) else {}),
        **({} if known is None else {"height": int(known[0]), "width": int(known[1])}),
        **({} if pose.time is None else {"time": pose.time}),
    }


def _annotation(pose: Pose, number: int, image: int) -> dict[str, Any]:
    rows = np.column_stack([pose.keypoints, pose.visibility])
    box = pose.labelled_box
    return {
        "id": number + 1,
        "image_id": image,
        "category_id": 1,
        "keypoints": [value if column < 2 else int(value) for row in rows.tolist() for column, value in enumerate(row)],
        "num_keypoints": int((pose.visibility > 0).sum()),
        "bbox": list(box),
        "area": box[2] * box[3] if pose.area is None else pose.area,
        "iscrowd": 0,
        "score": pose.score,
        "scores": pose.scores.tolist() if pose.scores is not None else [],
        **({} if pose.track is None else {"track_id": pose.track}),
        **({} if pose.head_size is None else {"head_size": pose.head_size}),
    }


def _category(data: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The category that has key points.

    Raises:
        FileFormatError: none has, or several.
    """
    listed = data.get("categories")
    found = [
        {**each, "keypoints": [str(name) for name in each["keypoints"]]}
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, Mapping) and each.get("keypoints") and isinstance(each["keypoints"], list)
    ]
    if len(found) != 1:
        names = [each.get("name") for each in found]
        raise FileFormatError(
            f"{str(path)!r} names no joints (categories[0].keypoints); add the list of joint names in the file's order."
            if not found
            else f"{str(path)!r} has {len(found)} categories with key points, {names}; leave one of them in the file."
        )
    return found[0]


def _joint_order(category: Mapping[str, Any], skeleton: Skeleton, path: Path) -> list[int]:
    """For each joint of the skeleton its place in the file's key points."""
    names = category["keypoints"]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FileFormatError(f"the category's keypoints of {str(path)!r} name {twice!r} twice; name each joint once.")
    for joint in skeleton.joints:
        if joint not in names:
            raise UnknownNameError(
                f"joint of {str(path)!r}",
                joint,
                names,
                f"The skeleton {skeleton.name!r} needs it; choose the file's skeleton.",
            )
    return [names.index(joint) for joint in skeleton.joints]


def _pose(entry: Any, number: int, source: _Source, order: Sequence[int]) -> Pose:
    where = f"annotation {number} of {str(source.path)!r}"
    if not isinstance(entry, Mapping) or "keypoints" not in entry:
        raise FileFormatError(f"{where} has no 'keypoints'; give x, y, visibility for every joint.")
    flat = entry["keypoints"]
    if not isinstance(flat, Sequence) or not all(isinstance(value, (int, float)) for value in flat):
        raise FileFormatError(f"keypoints of {where} are not a list of numbers; give x, y, visibility for every joint.")
    joints = max(order) + 1
    if len(flat) % 3 or len(flat) < 3 * joints:
        hint = (
            "the visibility flags are missing" if len(flat) >= 2 * joints and len(flat) % 2 == 0 else "some are missing"
        )
        raise FileFormatError(
            f"keypoints of {where} are {len(flat)} numbers, but {joints} joints need 3 each ({hint}); write x, y, v "
            "with v = 2 visible, 1 occluded, 0 not labelled."
        )
    rows = np.array(flat, dtype=np.float64).reshape(-1, 3)[list(order)]
    identity = _identity(entry, "image_id", where)
    if source.images and identity not in source.images:
        raise FileFormatError(
            f"image_id of {where} is {identity!r}, which is no id of the file's images ({next(iter(source.images))!r}, "
            "...); correct it."
        )
    image = source.images.get(identity, {} if identity is None else {"id": identity})
    source.beyond += _check_inside(rows, image, where)
    scores = _numbers(entry, "scores", len(flat) // 3, where)
    box, head = _numbers(entry, "bbox", 4, where), _numbers(entry, "bbox_head", 4, where)
    head_size = _number(entry, "head_size", where)
    if head_size is None and head:
        head_size = 0.6 * math.hypot(head[2], head[3])
    return Pose(
        rows[:, :2],
        _flags(rows[:, 2], where),
        None if not scores else np.array(scores, dtype=np.float64)[list(order)],
        _number(entry, "score", where),
        image=_image_name(image, number),
        track=entry.get("track_id"),
        box=None if not box else (box[0], box[1], box[2], box[3]),
        area=_number(entry, "area", where),
        head_size=head_size,
        time=_number(image, "time", where),
        number=_frame_number(image),
    )


def _image_name(image: Mapping[str, Any], number: int) -> str | int:
    """What a pose calls its frame: the file's name, the number of a video's frame that stands for one, or the id."""
    name: str | int | None = image.get("file_name", image.get("id"))
    if name is None:
        return number
    return int(name) if isinstance(name, str) and name.isdecimal() and image.get("frame_id") == int(name) else name


def _identity(entry: Mapping[str, Any], name: str, where: str) -> str | int | None:
    value = entry.get(name)
    if value is not None and (not isinstance(value, (str, int)) or isinstance(value, bool)):
        raise FileFormatError(f"{name} of {where} is {value!r}, but must be a number or a name; correct it.")
    return value


def _number(entry: Mapping[str, Any], name: str, where: str) -> float | None:
    """A finite number; None where the entry has none."""
    value = entry.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise FileFormatError(f"{name} of {where} is {value!r}, but must be a number; correct or remove it.")
    return float(value)


def _numbers(entry: Mapping[str, Any], name: str, count: int, where: str) -> list[float]:
    """A list of ``count`` numbers; empty where the entry has none."""
    values = entry.get(name)
    if not values:
        return []
    numbers = isinstance(values, list) and all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
    if not numbers or len(values) != count:
        raise FileFormatError(f"{name} of {where} is no list of {count} numbers; correct or remove it.")
    return [float(value) for value in values]


def _flags(values: np.ndarray, where: str) -> np.ndarray:
    if not np.isin(values, (0, 1, 2)).all():
        wrong = values[~np.isin(values, (0, 1, 2))][0]
        raise FileFormatError(f"a visibility flag of {where} is {wrong:g}, but must be 0, 1 or 2; correct it.")
    return values.astype(np.int64)


def _check_inside(rows: np.ndarray, image: Mapping[str, Any], where: str) -> list[float]:
    """Refuse labelled key points far outside their image, where the file states its size.

    Returns:
        By how many pixels each of those that lie a little outside does.
    """
    if not np.isfinite(rows).all():
        raise FileFormatError(f"keypoints of {where} hold a value that is not finite; set the joint to 0, 0, 0.")
    height, width = image.get("height"), image.get("width")
    if not height or not width:
        return []
    beyond = outside(rows[:, :2], rows[:, 2] > 0, width, height)
    if beyond.max() > EDGE * max(width, height):
        x, y = rows[int(beyond.argmax()), :2]
        raise AnydiffError(
            f"key point {int(beyond.argmax())} of {where} lies at ({x:g}, {y:g}), far outside its image of "
            f"{width}x{height} pixels; correct it, or set its visibility to 0."
        )
    return [float(each) for each in beyond[beyond > 0]]
