"""Key point files whose ids do not say which image or category is meant: one sentence, and nothing dropped unsaid."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anydiff.errors import AnydiffError
from anydiff_pose.annotated import AnnotatedVideo
from anydiff_pose.coco import read_poses
from anydiff_pose.skeletons import load_skeleton

SKELETON = load_skeleton("humanoid15")


def coco(count=4):
    flat = [value for joint in range(15) for value in (joint + 1.5, joint + 2.5, 2)]
    return {
        "images": [{"id": n, "frame_id": n, "width": 60, "height": 40} for n in range(count)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "keypoints": list(flat)} for n in range(count)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(SKELETON.joints)}, {"id": 2, "name": "dog"}],
    }


@pytest.mark.parametrize(
    ("place", "change", "sentence"),
    [
        ("annotations", {"category_id": "1"}, r"annotation 1 .* category '1', but the file's categories are \[1, 2\]"),
        ("annotations", {"image_id": 77}, "image_id of annotation 1 .* is 77, which is no id of the file's images"),
        ("annotations", {"image_id": "1"}, "image_id of annotation 1 .* is '1', which is no id"),
        ("images", {"id": 0}, "image 1 .* has the id 0, as one before it"),
        ("images", {"id": None}, "image 1 .* has no id"),
        ("images", {"frame_id": True}, "frame_id of image 1 .* is True"),
        ("categories", {"keypoints": [*SKELETON.joints, "neck"]}, "name 'neck' twice"),
    ],
)
def test_ids_that_name_nothing_or_two_things_are_refused(tmp_path, place, change, sentence):
    data = coco()
    data[place][0 if place == "categories" else 1].update(change)
    (tmp_path / "k.json").write_text(json.dumps(data))
    with pytest.raises(AnydiffError, match=sentence):
        read_poses(tmp_path / "k.json", SKELETON)


def test_annotations_of_other_categories_are_counted(tmp_path):
    data = coco()
    data["annotations"].append({"id": 9, "image_id": 0, "category_id": 2, "bbox": [0, 0, 1, 1]})
    (tmp_path / "k.json").write_text(json.dumps(data))
    with pytest.warns(UserWarning, match="1 of 5 annotations of .* are of other categories than 'person'"):
        assert len(read_poses(tmp_path / "k.json", SKELETON)) == 4


def test_frames_of_another_size_than_was_annotated_are_refused(tmp_path):
    (tmp_path / "k.json").write_text(json.dumps(coco()))
    AnnotatedVideo(np.zeros((4, 40, 60, 3), np.uint8), tmp_path / "k.json")
    with pytest.raises(AnydiffError, match="images of 60x40 pixels, but the frames have 30x20"):
        AnnotatedVideo(np.zeros((4, 20, 30, 3), np.uint8), tmp_path / "k.json")
