"""DiffPose's network and estimates: the encoder runs once, frames matter or not as told, steps and seeds are free."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.domains.kit.pictures import picture_grid
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import Pipeline
from anydiff.recipes import load_recipe
from anydiff.states import Conditioning, StateSpec, VectorCondition
from anydiff_pose import Pose, estimate_clips, estimate_video, pictures
from anydiff_pose.data import HumanoidVideo
from anydiff_pose.domain import Poses
from anydiff_pose.networks import VideoHeatmaps
from anydiff_pose.pictures import animate, heat_colours, joint_colours, overlay
from anydiff_pose.reverse_process import draw_reverse_process
from anydiff_pose.tasks import mean_pose, video

SMALL = [
    "network.options.channels=8",
    "network.options.width=16",
    "network.options.heads=2",
    "network.options.layers=1",
]


def network(domain=None, **options):
    domain = domain or Poses()
    torch.manual_seed(0)
    return VideoHeatmaps(domain.spec, domain.conditions, channels=8, width=16, heads=2, layers=1, **options).eval()


@pytest.fixture(scope="module")
def pipeline():
    made = Pipeline.untrained(load_recipe("pose/diffpose", SMALL))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.fixture(scope="module")
def clips():
    return HumanoidVideo("test", size=6).batch(range(3))[1].given["frames"]


def inputs(rows=2):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(rows, 15, 16, 12, generator=generator)
    return x, torch.zeros(rows), torch.rand(rows, 3, 3, 64, 48, generator=generator) * 2 - 1


def test_what_was_encoded_gives_what_the_frames_give():
    net = network()
    x, log_snr, frames = inputs()
    encoded = net.encode_condition(Conditioning({"frames": frames}))
    assert torch.equal(net(x, log_snr, Conditioning({"frames": frames})), net(x, log_snr, encoded))
    assert [tuple(encoded.parts["frames"][str(number)].shape[1:]) for number in range(3)] == [
        (8, 16, 12),
        (16, 8, 6),
        (16, 4, 3),
    ]


def test_neighbours_and_the_state_matter_exactly_where_they_should():
    x, log_snr, frames = inputs()
    other = frames.clone()
    other[:, 0] = -other[:, 0]
    for options, beside, state in (
        ({}, True, True),
        ({"neighbours": False}, False, True),
        ({"reads_state": False}, True, False),
    ):
        net = network(**options)
        first = net(x, log_snr, Conditioning({"frames": frames}))
        assert torch.equal(first, net(x, log_snr, Conditioning({"frames": other}))) != beside, options
        assert torch.equal(first, net(-x, log_snr + 1, Conditioning({"frames": frames}))) != state, options


def test_a_still_clip_is_the_single_frame_setting_of_the_same_network():
    net = network()
    x, log_snr, frames = inputs()
    still = frames[:, 1:2].expand(-1, 3, -1, -1, -1)
    moved = still.clone()
    moved[:, [0, 2]] = moved[:, [2, 0]]
    one, two = (net(x, log_snr, Conditioning({"frames": each})) for each in (still, moved))
    assert torch.equal(one, two)


def test_absent_frames_are_not_read_even_if_they_are_nan():
    net = network()
    x, log_snr, frames = inputs()
    broken = frames.clone()
    broken[1] = float("nan")
    present = {"frames": torch.tensor([True, False])}
    found = net(x, log_snr, Conditioning({"frames": broken}, present))
    assert torch.equal(found[0], net(x, log_snr, Conditioning({"frames": frames}, present))[0])
    torch.testing.assert_close(found[1], net(x, log_snr)[1])


@pytest.mark.parametrize(
    ("spec", "conditions", "message"),
    [
        ((15, 16, 12), {}, "needs frames"),
        ((15, 16, 12), {"frames": VectorCondition(3)}, "needs frames"),
        ((15, 18, 12), Poses().conditions, "multiples of 4"),
        ((15, 16, 16), Poses().conditions, "same even multiple"),
    ],
)
def test_states_and_frames_that_do_not_fit_are_named(spec, conditions, message):
    with pytest.raises(AnydiffError, match=message):
        VideoHeatmaps(StateSpec.single(spec), conditions)
    x, log_snr, frames = inputs()
    with pytest.raises(AnydiffError, match="condition 'frames' has shape"):
        network()(x, log_snr, Conditioning({"frames": frames[:, :2]}))


# Estimates


@pytest.mark.parametrize(("steps", "estimates"), [(1, 1), (3, 1), (2, 4)])
def test_the_encoder_runs_once_whatever_the_steps_and_estimates(pipeline, clips, monkeypatch, steps, estimates):
    calls = []
    encoder = pipeline.denoiser.network.encoder
    monkeypatch.setattr(
        encoder, "forward", lambda frames, run=encoder.forward: calls.append(len(frames)) or run(frames)
    )
    found = estimate_clips(pipeline, clips, steps=steps, estimates=estimates)
    assert calls == [3]
    assert len(found) == 3
    assert all(pose.frame is not None for pose in found)


def test_one_step_from_the_prior_is_the_prediction_there(pipeline, clips):
    seen = []
    drawn = pipeline.sample_set(
        3,
        nfe=1,
        seed=0,
        temperature=1.0,
        condition={"frames": clips},
        callbacks=[lambda step: seen.append((step.t, step.state.clone(), step.prediction.clone()))],
    )
    ((t, state, prediction),) = seen
    assert t == pipeline.denoiser.path.t_start
    # The path ends at t_end, not at 0, where 0.0064 of the noise is left.
    assert (drawn.states - prediction).abs().max() < 0.0075 * (state - prediction).abs().max()


def test_more_estimates_keep_those_that_were_drawn(pipeline, clips):
    few = pipeline.ensemble_set(2, {"frames": clips}, nfe=2).states
    many = pipeline.ensemble_set(5, {"frames": clips}, nfe=2).states
    # Another batch is rounded otherwise; other draws would differ by about 1.
    torch.testing.assert_close(many[:6], few, rtol=1e-3, atol=2e-4)


def test_flip_averages_with_the_mirror_and_every_reduction_works(pipeline, clips):
    plain = estimate_clips(pipeline, clips, steps=1)
    for options in ({"flip": True}, {"reduction": "mean-keypoints"}, {"reduction": "medoid"}):
        found = estimate_clips(pipeline, clips, steps=1, estimates=3, **options)
        assert np.isfinite([pose.keypoints for pose in found]).all()
        assert any((one.keypoints != other.keypoints).any() for one, other in zip(plain, found, strict=True))
    with pytest.raises(UnknownNameError, match="reduction"):
        estimate_clips(pipeline, clips, reduction="best")


def test_a_video_with_two_people_comes_back_in_its_own_coordinates(pipeline):
    frames = np.random.default_rng(0).integers(0, 255, (4, 100, 120, 3), dtype=np.uint8)
    boxes = {1: [(10.0, 20.0, 30.0, 60.0), (70.0, 20.0, 30.0, 60.0)], 3: [(10.0, 20.0, 30.0, 60.0)]}
    found = estimate_video(pipeline, frames, boxes, steps=1)
    assert [(pose.image, pose.track) for pose in found] == [(1, 0), (1, 1), (3, 0)]
    # A crop is the box enlarged by a quarter, so everything lies around it.
    for pose, left in zip(found, (10, 70, 10), strict=True):
        assert (np.abs(pose.keypoints[:, 0] - (left + 15)) <= 1.25 * 30 * 48 / 48 * 1.01).all()
        assert pose.box is not None
    whole = estimate_video(pipeline, frames[:, :64, :48], steps=1)
    assert [pose.image for pose in whole] == [0, 1, 2, 3]
    with pytest.raises(AnydiffError, match="boxes name frame 9"):
        estimate_video(pipeline, frames, {9: [(0, 0, 5, 5)]})
    with pytest.raises(AnydiffError, match=r"box 1 of frame 0 is \(900, 0, 5, 5\), which lies outside the frame"):
        estimate_video(pipeline, frames, {0: [(0, 0, 5, 5), (900, 0, 5, 5)]})
    with pytest.raises(AnydiffError, match=r"box 0 of frame 0 is \(0, 0, 5\), but must be"):
        estimate_video(pipeline, frames, {0: [(0, 0, 5)]})
    with pytest.raises(AnydiffError, match="nobody"):
        estimate_video(pipeline, frames, {})


# Pictures


def test_pictures_are_written(pipeline, clips, tmp_path):
    found = estimate_video(pipeline, pipeline.domain.pictures(clips[0]), steps=1)
    animate(found, tmp_path / "poses.gif", pipeline.domain.skeleton)
    with Image.open(tmp_path / "poses.gif") as picture:
        assert (picture.n_frames, picture.size) == (3, (48 * 4, 64 * 4))
    draw_reverse_process(pipeline, clips[0], tmp_path / "reverse.png", steps=3)
    with Image.open(tmp_path / "reverse.png") as picture:
        assert picture.size[0] > 3 * 48
    with pytest.raises(UnknownNameError, match="joint"):
        draw_reverse_process(pipeline, clips[0], tmp_path / "reverse.png", joint="tail")
    with pytest.raises(AnydiffError, match="carries no frame"):
        animate([Pose(np.zeros((15, 2)), np.zeros(15))], tmp_path / "no.gif", pipeline.domain.skeleton)
    assert not (tmp_path / "no.gif").exists()


def test_a_skeleton_is_drawn_where_the_key_points_are():
    skeleton = Poses().skeleton
    points = np.tile([10.0, 20.0], (15, 1))
    flags = np.zeros(15, dtype=int)
    flags[5] = 2
    picture = overlay([Pose(points, flags)], skeleton, zoom=4)
    assert picture[80, 40].tolist() == list(joint_colours(skeleton)[5])
    assert (picture[:60] == 96).all()
    assert heat_colours(np.array([[0.0, 1.0]])).tolist() == [[[0, 0, 0], [252, 255, 164]]]


def test_people_of_one_frame_share_a_tile_and_others_do_not(tmp_path, monkeypatch):
    frame = np.zeros((64, 48, 3), dtype=np.uint8)
    at = [Pose(np.tile([x, 20.0], (15, 1)), np.full(15, 2), image=0, frame=frame.copy()) for x in (10.0, 30.0)]
    later = Pose(np.tile([10.0, 20.0], (15, 1)), np.full(15, 2), image=1, frame=frame)
    other_video = Pose(at[0].keypoints, np.full(15, 2), image=0, frame=frame + 9)
    count = []
    monkeypatch.setattr(
        pictures,
        "picture_grid",
        lambda tiles, titles, *more, **options: (
            count.append((len(tiles), titles)),
            picture_grid(tiles, titles, *more, **options),
        )[1],
    )
    for number, poses in enumerate(([at[0]], at, [*at, later], [*at, other_video])):
        Poses().draw(poses, tmp_path / f"{number}.png", list("abc")[: len(poses)])
    assert count == [(1, ["a"]), (1, ["a"]), (2, ["a", "c"]), (2, ["a", "c"])]
    both = np.asarray(Image.open(tmp_path / "1.png"))
    assert both[84, 44].any()
    assert both[84, 124].any()


# The task


def test_the_mean_pose_is_one_pose_for_everybody():
    data = HumanoidVideo("train", size=20)
    states = mean_pose(data, Conditioning(), 4, 0)
    assert torch.equal(states[0], states[3])
    truth = data.batch(range(20))[1].truth["keypoints"].mean(dim=0).numpy()
    assert np.abs(data.domain.decode(states)[0].keypoints - truth).max() < 0.01
    assert video().recipe == "pose/video"


def test_cases_of_the_command_line_are_held_out_frames_and_nothing_else(pipeline):
    from anydiff.cli.cases import cases_named

    condition, cases, _ = cases_named(pipeline, {}, 3)
    assert cases == 3
    assert [name for name, _ in condition.tensors()] == ["given.frames"]
