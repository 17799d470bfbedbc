"""Poses of a file are judged with the clip that their image names, in whatever order they come; others are refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from anydiff.errors import AnydiffError
from anydiff.metrics.ensembles import in_layout
from anydiff_pose.annotated import AnnotatedVideo
from anydiff_pose.cases import match, person_labels
from anydiff_pose.data import HumanoidVideo
from anydiff_pose.poses import Pose


@pytest.fixture(scope="module")
def video():
    return HumanoidVideo("test", size=4)


def _poses(data):
    states, _ = data.batch(range(len(data)))
    return data.domain.labelled(data.domain.decode(states), data.case_labels(range(len(data))), [0] * len(data))


def test_the_clip_stands_in_the_file(video, tmp_path):
    labels = video.case_labels(range(4))
    assert labels[3].endswith("/000003.png")
    assert labels[3].startswith("humanoid-video-test-")
    poses = _poses(video)
    video.domain.write([poses[row] for row in (2, 0, 2, 0)], tmp_path / "p.json")
    images = json.loads((tmp_path / "p.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [labels[2], labels[0]]
    found = video.domain.match(video.domain.read(tmp_path / "p.json"), labels)
    assert found == [2, 0, 2, 0]
    assert in_layout(found) == ([1, 0, 3, 2], [0, 2])


def test_clips_of_another_video_are_refused(video):
    other = HumanoidVideo("test", size=4, seed=1).case_labels(range(4))
    with pytest.raises(AnydiffError, match=r"pose 0 is of image .*none of the 4 held-out clips .*--cases N"):
        video.domain.match(_poses(video), other)


def test_poses_without_names_tell_no_clip(video):
    states, _ = video.batch([0, 1])
    assert video.domain.match(video.domain.decode(states), video.case_labels(range(4))) is None


def test_persons_of_one_frame_are_told_by_their_numbers():
    pose = Pose(np.ones((3, 2)), np.ones(3))
    labels = person_labels(["a.png", "b.png", "b.png", 7, 7], [1, 5, 3, None, 2])
    assert labels == ["a.png", ("b.png", 5), ("b.png", 3), (7, 0), (7, 1)]
    given = [("images/b.png", 3), ("a.png", None), (7, 1), ("b.png", 5)]
    poses = [dataclasses.replace(pose, image=image, track=track) for image, track in given]
    assert match(poses, labels) == [2, 0, 4, 1]
    with pytest.raises(AnydiffError, match=r"pose 0 is of image 'b.png' and track 4, which is none"):
        match([dataclasses.replace(pose, image="b.png", track=4)], labels)
    with pytest.raises(AnydiffError, match="two held-out clips have one name"):
        match(poses, ["a.png", "a.png"])


def test_annotated_people_come_back_from_a_file(tmp_path):
    frames = np.zeros((8, 64, 48, 3), dtype=np.uint8)
    points = np.linspace(10, 40, 30).reshape(15, 2)
    people = [Pose(points + x, np.full(15, 2), image=number) for number in range(8) for x in (0, 2)]
    data = AnnotatedVideo(frames, people, "test")
    assert data.case_labels(range(len(data))) == [(6, 0), (6, 1), (7, 0), (7, 1)]
    data.domain.write(_poses(data)[::-1], tmp_path / "p.json")
    read = data.domain.read(tmp_path / "p.json")
    assert data.domain.match(read, data.case_labels(range(len(data)))) == [3, 2, 1, 0]
