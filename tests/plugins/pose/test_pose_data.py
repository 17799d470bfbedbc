"""Motions, the renderer and the data set: exact where they claim to be, and the same for ever."""

from __future__ import annotations

import dataclasses
import json
import zipfile

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.states import Conditioning
from anydiff_pose import ledger, motion
from anydiff_pose.clips import ClipSettings, render_example
from anydiff_pose.data import APART, HumanoidVideo
from anydiff_pose.motion import about_z, bundled_clips, deepmimic_clips, deepmimic_kinematics, multiply, rotate
from anydiff_pose.render import SKELETON, Occluder, Person, Scene, random_colours, view

BONES = [limb for limb in SKELETON.limbs if SKELETON.joints[limb[0]] != "neck"] + [(0, 1)]
IDENTITY = np.array([1.0, 0, 0, 0])


def stream(index=0, seed=0):
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))


def lengths(positions):
    return np.stack([np.linalg.norm(positions[:, a] - positions[:, b], axis=-1) for a, b in BONES], axis=1)


def standing():
    """Upright, facing x, arms down: metres, z up."""
    joints = {"pelvis": (0, 0, 0.9), "neck": (0, 0, 1.4), "head": (0, 0, 1.575)}
    for side, y in (("left", 1), ("right", -1)):
        for name, out, z in (("shoulder", 0.18, 1.38), ("elbow", 0.2, 1.1), ("wrist", 0.22, 0.85)):
            joints[f"{side}_{name}"] = (0, y * out, z)
        for name, z in (("hip", 0.88), ("knee", 0.47), ("ankle", 0.06)):
            joints[f"{side}_{name}"] = (0, y * 0.1, z)
    return np.array([joints[name] for name in SKELETON.joints])


def scene(positions, yaw=np.pi, occluders=(), scale=30.0, background=0.5):
    camera = view(positions, yaw, 0.0) * scale
    camera[..., :2] += (24, 55)
    person = Person(camera[None], scale, random_colours(stream()))
    return Scene([person], np.full((64, 48, 3), background), occluders), camera


# Motions


def test_the_bundled_motions_have_rigid_bones():
    clips = bundled_clips()
    assert [(clip.name, len(clip.positions)) for clip in clips] == [("walk", 154), ("run", 82), ("dance", 902)]
    for clip in clips:
        found = lengths(clip.positions)
        assert (found.std(axis=0) / found.mean(axis=0)).max() < 0.02, clip.name
        assert clip.positions[..., 2].min() > -0.1


def test_quaternions_turn_as_matrices_do():
    quarter = about_z(np.array([np.pi / 2]))
    np.testing.assert_allclose(rotate(quarter, np.array([1.0, 0, 0])), [[0, 1, 0]], atol=1e-12)
    twice = multiply(quarter, quarter)
    np.testing.assert_allclose(rotate(twice, np.array([1.0, 0, 0])), [[-1, 0, 0]], atol=1e-12)
    generator = np.random.default_rng(0)
    one, two = generator.normal(size=(2, 5, 4))
    vector = generator.normal(size=3)
    inner = np.stack([rotate(two[[i]], vector)[0] for i in range(5)])
    outer = np.stack([rotate(one[[i]], inner[i])[0] for i in range(5)])
    unit = multiply(one / np.linalg.norm(one, axis=1)[:, None], two / np.linalg.norm(two, axis=1)[:, None])
    np.testing.assert_allclose(rotate(unit, vector), outer, atol=1e-12)


def deepmimic_row(knee=0.0, root=(0, 1, 0)):
    arm, leg = [*IDENTITY, 0.0], [*IDENTITY, knee, *IDENTITY]
    return np.array([[*root, *IDENTITY, *IDENTITY, *IDENTITY, *leg, *arm, *leg, *arm]])


def test_deepmimic_at_rest_stands_upright_and_a_bent_knee_moves_the_ankle_alone():
    rest, bent = (deepmimic_kinematics(deepmimic_row(angle))[0] for angle in (0.0, -np.pi / 2))
    index = SKELETON.index
    np.testing.assert_allclose(rest[index("head")], [0, 0, 1 + 0.236151 + 0.223894 + 0.175])
    np.testing.assert_allclose(rest[index("right_ankle")], [0, -0.084887, 1 - 0.421546 - 0.409870])
    np.testing.assert_allclose(
        rest[index("left_wrist")], [-0.02405, 0.18311, 1 + 0.236151 + 0.2435 - 0.533735], atol=1e-9
    )
    moved = np.flatnonzero(np.abs(rest - bent).max(axis=1) > 1e-9)
    assert {SKELETON.joints[joint] for joint in moved} == {"right_ankle", "left_ankle"}
    np.testing.assert_allclose(bent[index("right_ankle")], [-0.409870, -0.084887, 1 - 0.421546], atol=1e-9)


def test_deepmimic_is_read_from_its_container(tmp_path):
    rows = [[0.0333, *deepmimic_row(root=(0.1 * frame, 1, 0))[0].tolist()] for frame in range(4)]
    wheel = tmp_path / "pybullet.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member in ledger.DEEPMIMIC_MEMBERS.values():
            archive.writestr(member, json.dumps({"Loop": "wrap", "Frames": rows}))
    clips = deepmimic_clips(wheel)
    assert len(clips) == 15
    # Three steps of 1/30 s are six of 1/60 s, and the root moves evenly.
    steps = np.diff(clips[0].positions[:, SKELETON.index("pelvis"), 0])
    np.testing.assert_allclose(steps, 0.1 / 0.0333 / 60, rtol=1e-9)
    with pytest.raises(FileFormatError, match="no member"):
        motion.humanoid_clips(wheel)


# The renderer


def test_the_camera_turns_about_the_vertical():
    point = np.array([[1.0, 0.0, 2.0]])
    np.testing.assert_allclose(view(point, np.pi, 0), [[0, -2, 1]], atol=1e-12)  # seen from the front: nearest
    np.testing.assert_allclose(view(point, -np.pi / 2, 0), [[1, -2, 0]], atol=1e-12)
    lengths_seen = np.linalg.norm(view(standing(), 0.7, 0.3)[1:] - view(standing(), 0.7, 0.3)[:-1], axis=1)
    np.testing.assert_allclose(lengths_seen, np.linalg.norm(np.diff(standing(), axis=0), axis=1))


def test_from_the_front_the_face_is_seen_and_from_behind_the_hair():
    for yaw, material in ((np.pi, "skin"), (0.0, "hair")):
        made, camera = scene(standing(), yaw)
        x, y = camera[SKELETON.index("head"), :2]
        pixel = made.draw()[0, int(y), int(x)]
        colour = made.people[0].colours[material]
        assert np.abs(pixel / pixel.max() - colour / colour.max()).max() < 0.05, material


def test_left_is_on_the_right_of_a_picture_from_the_front():
    _, camera = scene(standing(), np.pi)
    assert camera[SKELETON.index("left_wrist"), 0] > camera[SKELETON.index("right_wrist"), 0]


def test_a_limb_is_as_wide_as_its_radius():
    made, camera = scene(standing(), np.pi, scale=60.0)
    row = int(camera[SKELETON.index("left_knee"), 1]) + 8
    changed = np.abs(made.draw()[0, row] - 0.5).max(axis=1)
    x = camera[SKELETON.index("left_knee"), 0]
    here = changed[max(0, int(x) - 6) : int(x) + 7]
    assert (here > 0.01).sum() == pytest.approx(2 * 0.055 * 60, abs=1.5)


def test_all_joints_of_a_spread_body_are_visible_from_the_front():
    seen = scene(standing())[0].visible(0)
    assert {SKELETON.joints[joint] for joint in np.flatnonzero(~seen)} == set()


def test_from_the_side_the_far_limbs_are_hidden():
    seen = scene(standing(), -np.pi / 2)[0].visible(0)
    hidden = {SKELETON.joints[joint] for joint in np.flatnonzero(~seen)}
    # Looking along y, the viewer stands on the right of the body.
    assert {f"left_{joint}" for joint in ("knee", "ankle", "elbow", "wrist")} <= hidden
    assert not {f"right_{joint}" for joint in ("knee", "ankle", "elbow", "wrist")} & hidden


def test_an_occluder_hides_what_it_covers_and_is_drawn_there():
    plain, camera = scene(standing())
    for round_ in (False, True):
        place = camera[SKELETON.index("right_elbow"), :2]
        box = Occluder(place[None], np.array([3.0, 4.0]), np.array([1.0, 0, 0]), round_)
        covered = dataclasses.replace(plain, occluders=(box,))
        before, after = plain.visible(0), covered.visible(0)
        assert {SKELETON.joints[joint] for joint in np.flatnonzero(before & ~after)} == {"right_elbow"}
        assert covered.draw()[0, int(place[1]), int(place[0])].tolist() == [1.0, 0, 0]


def test_a_person_in_front_hides_and_one_behind_does_not():
    made, _ = scene(standing())
    for depth, hidden in ((60.0, True), (-60.0, False)):
        other = dataclasses.replace(made.people[0], joints=made.people[0].joints + np.array([0, 0, depth]))
        seen = dataclasses.replace(made, people=(made.people[0], other)).visible(0)
        assert seen[SKELETON.index("left_knee")] != hidden


# The data set


def test_an_example_is_a_pure_function_of_its_stream():
    clips = bundled_clips()
    one, two = (render_example(clips, stream(3), ClipSettings()) for _ in range(2))
    assert (one.frames == two.frames).all()
    assert (one.keypoints == two.keypoints).all()
    other = render_example(clips, stream(4), ClipSettings())
    assert (one.frames != other.frames).any()


def test_splits_share_no_moment():
    train, test = (HumanoidVideo(split, size=2) for split in ("train", "test"))
    for whole, first, last in zip(bundled_clips(), train._shelf.clips, test._shelf.clips, strict=True):
        assert (whole.positions[: len(first.positions)] == first.positions).all()
        assert (whole.positions[-len(last.positions) :] == last.positions).all()
        assert len(first.positions) + len(last.positions) + APART == len(whole.positions)
    assert train.hash != test.hash


def test_a_batch_says_what_it_promises():
    data = HumanoidVideo("test", size=24, seed=77)
    cut = data.example(0)
    outside = dataclasses.replace(cut, visibility=np.where(np.arange(15) < 2, 0, cut.visibility))
    data._shelf.examples[0] = outside  # the figure is always whole in its crop, so a joint outside is made
    states, condition = data.batch(range(24))
    assert (condition.truth["visibility"] == 0).sum() == 2
    assert states.shape == (24, 15, 16, 12)
    assert condition.given["frames"].shape == (24, 3, 3, 64, 48)
    assert condition.given["frames"].abs().max() <= 1
    flags = condition.truth["visibility"]
    assert set(flags.unique().tolist()) <= {0, 1, 2}
    assert 0.1 < (flags == 1).float().mean() < 0.5
    assert (condition.loss_weight.flatten(1) == (flags > 0)).all()
    assert (states[flags == 0] == -1).all()
    decoded = data.domain.decode(states)
    inside = flags.numpy() > 0
    for row, pose in enumerate(decoded):
        error = np.abs(pose.keypoints - condition.truth["keypoints"][row].numpy()).max(axis=1)
        assert error[inside[row]].max() < 1e-2


def test_the_same_crop_serves_all_frames_and_blur_is_an_average():
    clips = bundled_clips()
    still = ClipSettings(noise=0.0, blur=0.0, others=0.0, occluders=0.0)
    moving = [render_example(clips, stream(i), still) for i in range(8)]
    corner = np.stack([example.frames[:, 0, 0].astype(int) for example in moving])
    assert np.abs(corner - corner[:, :1]).max() <= 1  # the background stands still


def test_bad_options_of_the_data_set():
    for options, message in (
        ({"split": "valid"}, "split"),
        ({"size": 0}, "size is 0"),
        ({"scene": {"blur": 2.0}}, "blur is 2.0"),
        ({"scene": {"gap": 0}}, "gap is 0"),
    ):
        with pytest.raises(AnydiffError, match=message):
            HumanoidVideo(**{"split": "train", **options})


def test_targets_of_unlabelled_joints_leave_the_loss_unchanged():
    from anydiff.denoisers import FunctionDenoiser
    from anydiff.objectives import Denoising
    from anydiff.paths import VPCosine

    states, condition = HumanoidVideo("test", size=4).batch(range(4))
    mask = condition.loss_weight.clone()
    mask[0, 3] = 0
    denoiser = FunctionDenoiser(lambda x, t, _: 0.3 * x, VPCosine())
    noise = torch.zeros_like(states)
    changed = states.clone()
    changed[0, 3] += 5
    uniform = torch.full((4,), 0.4, dtype=torch.float64)
    weights = Conditioning(loss_weight=mask)
    one, two = (Denoising("data")(denoiser, each, noise, uniform, weights) for each in (states, changed))
    assert torch.equal(one, two)
