"""Your own video with a COCO file: the truth in the crop is the truth in the frame, and what does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.states import Conditioning
from anydiff_pose.annotated import AnnotatedVideo
from anydiff_pose.coco import write_poses
from anydiff_pose.domain import Poses
from anydiff_pose.metrics import PCK, OKSMeanAveragePrecision, PCKh, judge
from anydiff_pose.poses import Pose
from anydiff_pose.skeletons import load_skeleton


@pytest.fixture
def folder(tmp_path):
    """Eight frames of 120x100 with a white dot per joint, two people, annotated in COCO's joints."""
    skeleton = load_skeleton("coco17")
    generator = np.random.default_rng(0)
    poses = []
    (tmp_path / "frames").mkdir()
    for number in range(8):
        frame = np.zeros((100, 120, 3), dtype=np.uint8)
        for person in range(2):
            points = generator.uniform(10, 40, (17, 2)) * (1, 2) + (55 * person, 0)
            flags = np.full(17, 2)
            flags[0] = 0
            poses.append(Pose(points, flags, image=f"{number:02d}.png", track=person))
            for x, y in points:
                frame[int(y), int(x)] = 255
        Image.fromarray(frame).save(tmp_path / "frames" / f"{number:02d}.png")
    write_poses(poses, tmp_path / "poses.json", skeleton, (100, 120))
    return tmp_path, poses


def build(path, split="train", **options):
    return AnnotatedVideo(path / "frames", path / "poses.json", split, domain={"skeleton": "coco17"}, **options)


def test_people_of_frames_that_a_clip_shares_depend_on_each_other(folder):
    """Two people in each frame; a clip sees the frame before and the one behind, so clips two apart share one."""
    path, _ = folder
    assert build(path).dependence == 5
    assert build(path, "test").dependence == 3


def test_examples_are_people_and_splits_are_times(folder):
    path, poses = folder
    train, test = build(path), build(path, "test")
    assert (len(train), len(test)) == (12, 4)
    states, condition = test.batch(range(4))
    assert states.shape == (4, 17, 16, 12)
    assert "head_size" not in condition.truth
    for row in range(4):
        pose, crop, moments = test.examples[row]
        truth = poses[12 + row]
        np.testing.assert_allclose(crop.to_frame(condition.truth["keypoints"][row].numpy()), truth.keypoints, atol=1e-9)
        assert pose.image == truth.image
        assert moments.min() >= 6  # no frame of the training part
    assert (condition.loss_weight[:, 0] == 0).all()
    assert (condition.loss_weight[:, 1:] == 1).all()


def test_the_metrics_that_need_no_head_work_and_the_others_say_why_not(folder):
    test = build(folder[0], "test")
    states, condition = test.batch(range(4))
    real = SampleSet(states, condition, test.domain)
    assert PCK().compute(real, real) == 1.0
    assert OKSMeanAveragePrecision().compute(real, real) == pytest.approx(1.0)
    with pytest.raises(AnydiffError, match="'coco17' has no head and neck"):
        PCKh().compute(real, real)


def test_joints_that_are_not_labelled_lend_no_length(folder):
    """COCO writes (0, 0, 0) for them: a head or a box that reached there would forgive every error."""
    generator = np.random.default_rng(1)
    poses = []
    for number in range(8):
        points, flags = generator.uniform(30, 60, (15, 2)), np.full(15, 2)
        for joint in (0, 12) if number % 2 else (12,):  # nose, left_ankle
            points[joint], flags[joint] = 0, 0
        if number == 7:
            points[[1, 2]], flags[[1, 2]] = 0, 0  # head_bottom, head_top
        poses.append(Pose(points, flags, image=f"{number:02d}.png"))
    data = AnnotatedVideo(folder[0] / "frames", poses, "test", domain={"skeleton": "posetrack15"})
    states, condition = data.batch([0, 1])
    real = SampleSet(states, condition, data.domain)
    judged = judge(real, real)
    for row, (pose, crop, _) in enumerate(data.examples):
        labelled = pose.keypoints[pose.visibility > 0]
        side = (labelled.max(axis=0) - labelled.min(axis=0)).max()
        assert judged.side[row] == pytest.approx(side * crop.scale)
    heads = condition.truth["head_size"].numpy()
    pose, crop, _ = data.examples[0]
    assert heads[0] == pytest.approx(np.linalg.norm(pose.keypoints[1] - pose.keypoints[2]) * crop.scale)
    assert np.isnan(heads[1])
    # A sixth of the box's longer side away from the truth: none of these is correct.
    away = condition.truth["keypoints"].clone()
    away += torch.from_numpy(np.array([1, 1]) * 0.12 * judged.side[:, None, None])
    moved = SampleSet(data.domain.states(away, condition.truth["visibility"] > 0), Conditioning(), data.domain)
    assert PCK().compute(moved, real) == 0.0
    assert PCKh().compute(real, real) == 1.0


def test_frames_are_found_by_the_last_part_of_their_name(folder):
    path, poses = folder
    long = [Pose(each.keypoints, each.visibility, image=f"images/val/{each.image}") for each in poses]
    assert len(AnnotatedVideo(path / "frames", long, domain={"skeleton": "coco17"})) == 12
    alone = Pose(np.tile(poses[0].keypoints[:1], (17, 1)), np.eye(17, dtype=int)[0] * 2, image="00.png")
    with pytest.raises(AnydiffError, match=r"annotation 0 of frame '00.png': box is"):
        AnnotatedVideo(path / "frames", [alone], domain={"skeleton": "coco17"})


def test_the_crop_shows_the_person(folder):
    test = build(folder[0], "test")
    _, condition = test.batch([0])
    frames = (condition.given["frames"][0, 1].mean(dim=0) + 1) / 2
    for x, y in condition.truth["keypoints"][0].numpy():
        near = frames[max(0, int(y) - 1) : int(y) + 2, max(0, int(x) - 1) : int(x) + 2]
        assert near.max() > 0.05


def test_annotations_that_do_not_fit_the_video_are_named(folder):
    path, poses = folder
    with pytest.raises(AnydiffError, match=r"annotation 0 is of frame '77.png', but the video has 8 frames"):
        AnnotatedVideo(
            path / "frames",
            [Pose(poses[0].keypoints, poses[0].visibility, image="77.png")],
            domain={"skeleton": "coco17"},
        )
    with pytest.raises(AnydiffError, match="the test split of 1 annotations is empty"):
        AnnotatedVideo(path / "frames", poses[:1], "test", domain={"skeleton": "coco17"})
    with pytest.raises(AnydiffError, match="unknown joint"):
        AnnotatedVideo(path / "frames", path / "poses.json", domain={"skeleton": "humanoid15"})
    numbered = AnnotatedVideo(
        np.zeros((8, 100, 120, 3), dtype=np.uint8),
        [Pose(poses[0].keypoints, poses[0].visibility, image=2)],
        domain={"skeleton": "coco17"},
    )
    assert len(numbered) == 1
    assert Poses().name == numbered.domain.name
