"""COCO and PoseTrack key point files (JSON): annotations and results, read and written.

A file is an annotation file (``images``, ``annotations``, ``categories``; PoseTrack 2018 and 2021 add ``vid_id``,
``frame_id``, ``track_id`` and ``bbox_head``) or a list of results (``image_id``, ``keypoints``, ``score``). Joints are
found by the names in ``categories``, so a file may hold them in another order, or more of them; annotations of other
categories (a file of all COCO) are left out. A list of results names no joints, so it must have the skeleton's; where
its third numbers are no flags they are the joints' confidences, as most estimators write them. Coordinates are
continuous, the corner of the first pixel being (0, 0).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.files import write_atomic
from anydiff_pose.poses import Pose
from anydiff_pose.skeletons import Skeleton


def read_poses(path: str | Path, skeleton: Skeleton) -> list[Pose]:
    """The poses of a file, in its order, with the joints of ``skeleton``.

    Raises:
        AnydiffError: the file does not exist, a key point lies outside its image, flags are missing or wrong, or
            results have another number of joints.
        FileFormatError: it is no JSON, or lacks what a key point file has.
        UnknownNameError: the file has no joint of a name that the skeleton has.
    """
    source = Path(path)
    data = _read_json(source)
    if isinstance(data, list):
        return _results(data, source, skeleton)
    if not isinstance(data, Mapping) or not isinstance(data.get("annotations"), list):
        raise FileFormatError(
            f"{str(source)!r} has no list 'annotations' and is no list of results; give a COCO or PoseTrack file."
        )
    category = _category(data, source)
    order = _joint_order(category, skeleton, source)
    images = _images(data, source)
    return [
        _pose(entry, number, source, order, images)
        for number, entry in enumerate(data["annotations"])
        if not isinstance(entry, Mapping) or entry.get("category_id", category.get("id")) == category.get("id")
    ]


def _images(data: Mapping[str, Any], path: Path) -> dict[Any, Mapping[str, Any]]:
    """The images by their ids, sizes checked."""
    listed = data.get("images") or []
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise FileFormatError(f"'images' of {str(path)!r} is no list of mappings; correct or remove it.")
    for number, image in enumerate(listed):
        where = f"image {number} of {str(path)!r}"
        _identity(image, "id", where)
        for side in ("height", "width"):
            _number(image, side, where)
    return {image.get("id"): image for image in listed}


def _results(data: Sequence[Any], path: Path, skeleton: Skeleton) -> list[Pose]:
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
        poses.append(_pose(entry, number, path, list(range(len(skeleton))), {}))
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
    names = list(dict.fromkeys(pose.image for pose in poses))
    sizes = {pose.image: pose.frame.shape[:2] if pose.frame is not None else size for pose in poses}
    data = {
        "images": [
            {"id": number, "file_name": str(name), "frame_id": number}
            | ({} if (known := sizes[name]) is None else {"height": int(known[0]), "width": int(known[1])})
            for number, name in enumerate(names)
        ],
        "annotations": [_annotation(pose, number, names.index(pose.image)) for number, pose in enumerate(poses)],
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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnydiffError(f"cannot read {str(path)!r}: {error.strerror}; check the path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"{str(path)!r} is not JSON ({error}); give a COCO or PoseTrack key point file."
        ) from error


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
    for joint in skeleton.joints:
        if joint not in names:
            raise UnknownNameError(
                f"joint of {str(path)!r}",
                joint,
                names,
                f"The skeleton {skeleton.name!r} needs it; choose the file's skeleton.",
            )
    return [names.index(joint) for joint in skeleton.joints]


def _pose(entry: Any, number: int, path: Path, order: Sequence[int], images: Mapping[Any, Mapping[str, Any]]) -> Pose:
    where = f"annotation {number} of {str(path)!r}"
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
    image = images.get(_identity(entry, "image_id", where), {})
    _check_inside(rows, image, where)
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
        image=image.get("file_name", entry.get("image_id", number)),
        track=entry.get("track_id"),
        box=None if not box else (box[0], box[1], box[2], box[3]),
        area=_number(entry, "area", where),
        head_size=head_size,
    )


def _identity(entry: Mapping[str, Any], name: str, where: str) -> str | int | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, (str, int)):
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


def _check_inside(rows: np.ndarray, image: Mapping[str, Any], where: str) -> None:
    """Every labelled key point is a finite number within its image, where the file states the image's size."""
    if not np.isfinite(rows).all():
        raise FileFormatError(f"keypoints of {where} hold a value that is not finite; set the joint to 0, 0, 0.")
    height, width = image.get("height"), image.get("width")
    if not height or not width:
        return
    labelled = rows[:, 2] > 0
    outside = labelled & ((rows[:, :2] < 0) | (rows[:, :2] > (width, height))).any(axis=1)
    if outside.any():
        x, y = rows[int(np.argmax(outside)), :2]
        raise AnydiffError(
            f"key point {int(np.argmax(outside))} of {where} lies at ({x:g}, {y:g}), outside its image of "
            f"{width}x{height} pixels; correct it, or set its visibility to 0."
        )
