"""Key points set by hand: poses of a clip keep them, and the other joints follow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from anydiff.cli.main import run
from anydiff.pipeline import load

RECIPE = "pose/video"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(folder, the true pose of the middle frame): three equal frames of a rendered person."""
    folder, pipeline = tmp_path_factory.mktemp("clip"), load(RECIPE)
    held_out = pipeline.reference(1)
    (pose,) = pipeline.domain.decode(held_out.states, held_out.condition)
    np.savez(folder / "clip.npz", frames=np.asarray(pose.frame)[None])
    return folder, pose


def set_by_hand(pipeline, pose, joints, shift=(0.0, 0.0)):
    seen = np.isin(pipeline.domain.skeleton.joints, joints)
    flags = np.where(seen, 2, 0)
    points = np.asarray(pose.keypoints, dtype=np.float64) + np.where(seen[:, None], shift, 0.0)
    return dataclasses.replace(pose, keypoints=points, visibility=flags, scores=np.ones(len(flags)))


def restored(clip, measurement, *arguments):
    folder, _ = clip
    ask = ["restore", RECIPE, "--condition", f"frames={folder / 'clip.npz'}", "--measurement", str(measurement)]
    return [*ask, "--nfe", "4", "--out", str(folder / "out.json"), "--overwrite", *map(str, arguments)]


def test_a_joint_stays_where_it_was_set(clip):
    folder, pose = clip
    pipeline = load(RECIPE)
    joint = pipeline.domain.skeleton.joints[3]
    hand = set_by_hand(pipeline, pose, [joint], (6.0, 4.0))
    hand = dataclasses.replace(hand, keypoints=np.clip(hand.keypoints, 2, 40))
    pipeline.domain.write([hand], folder / "hand.json")
    assert run(restored(clip, folder / "hand.json")) == 0
    (found,) = pipeline.domain.read(folder / "out.json")
    assert np.abs(found.keypoints[3] - hand.keypoints[3]).max() < 0.5
    assert (found.visibility > 0).sum() > 5


def test_only_labelled_joints_are_measured(clip):
    folder, pose = clip
    pipeline = load(RECIPE)
    joints = list(pipeline.domain.skeleton.joints[:2])
    pipeline.domain.write([set_by_hand(pipeline, pose, joints)], folder / "two.json")
    found = pipeline.domain.read_measurement(folder / "two.json", pipeline.domain.spec.shape).values
    assert (~found.isnan()).flatten(2).all(2)[0].tolist() == [True, True, *[False] * 13]


def test_what_is_refused(clip, capsys):
    folder, pose = clip
    pipeline = load(RECIPE)
    one = folder / "one.json"
    pipeline.domain.write([set_by_hand(pipeline, pose, [pipeline.domain.skeleton.joints[0]])], one)
    for arguments, sentence in (
        (["--mask", one], "key points tell by their visibility what was set"),
        (["--operator", "average-pooling"], "leave --operator out"),
    ):
        assert run(restored(clip, one, *arguments)) == 2
        assert sentence in capsys.readouterr().err
