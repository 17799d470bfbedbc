"""Data with known truth, the encoder's oracles, and the loop that fills sequences in."""

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance import ClassifierFree
from anydiff.pipeline import Pipeline
from anydiff.recipes import load_recipe
from anydiff.states import Conditioning
from anydiff_volumes import baselines, extrapolation, sadm
from anydiff_volumes.data import Population, Sequences
from anydiff_volumes.deformation import compose, flow, jacobian_determinant, random_velocity
from anydiff_volumes.ellipsoids import Ellipsoids, ellipsoid, radius_of
from anydiff_volumes.networks import SequenceUNet, _stacked
from anydiff_volumes.sequence_encoder import SequenceEncoder
from anydiff_volumes.subjects import GRID, Anatomy, affine, anatomies, course, images, motion_velocity
from anydiff_volumes.templates import mni152

SMALL = [
    "domain={name: volumes, options: {shape: [8, 16, 16], voxel_size: 1.0, frames: 6}}",
    "dataset=volumes/ellipsoids",
    "network.options={channels: 8, multipliers: [1], patch_size: 2, width: 16, layers: 1, heads: 2}",
]


# Data ---------------------------------------------------------------------------------------------------------------


def test_without_deformation_a_subject_is_the_template():
    still = images(torch.zeros(1, 3, *GRID), [0], Anatomy(contrast=0.0))
    blocks = mni152().t1.reshape(28, 2, 32, 2, 28, 2).mean((1, 3, 5))
    assert np.abs(still[0, 0].numpy() - blocks).max() < 1e-5
    corner = mni152().affine @ [0.5, 0.5, 0.5, 1]
    assert np.allclose(affine()[:, 3], corner), "the first 6 mm voxel lies between the first eight of 3 mm"


def test_deformations_are_diffeomorphisms_with_the_inverse_flow():
    velocity = random_velocity((14, 16, 14), 0, [0, 1], amplitude=1.6)
    there, back = flow(velocity), flow(-velocity)
    assert float(jacobian_determinant(there).min()) > 0
    inner = (slice(None), slice(None), *[slice(4, -4)] * 3)
    assert float(compose(back, there)[inner].abs().max()) < 0.1 < float(there[inner].abs().max())
    assert torch.equal(random_velocity((14, 16, 14), 0, [1], amplitude=1.6)[0], velocity[1])
    assert float(jacobian_determinant(anatomies([0, 1], Anatomy())).min()) > 0
    for motion in ("ageing", "cardiac"):
        extreme = flow(torch.tensor([-2.0, 4.5]).reshape(2, 1, 1, 1, 1) * motion_velocity(motion))
        assert float(jacobian_determinant(extreme).min()) > 0, motion


def test_courses_are_what_they_say():
    ageing = course(3, "ageing", 6, 0)
    assert (ageing.times.diff() > 0).all()
    rates = ageing.extent.diff() / ageing.times.diff()
    assert torch.allclose(rates, rates[:1].expand(5)), "a constant rate, at irregular times"
    assert 0.5 <= float(rates[0]) <= 4.5
    cardiac = course(3, "cardiac", 6, 0)
    assert torch.allclose(cardiac.times, torch.arange(6).double() / 6, atol=1e-12)
    assert float(cardiac.extent.abs().max()) <= 2


def test_an_example_shows_the_past_only_and_splits_share_no_subject():
    data = Sequences("train", train_size=2)
    states, condition = data.batch([0, 9, 21])
    for row, index in enumerate([0, 9, 21]):
        subject, target, _ = data.where(index)
        frames, times = data.sequence(subject)
        seen = condition.given["seen"][row] > 0.5
        assert torch.equal(states[row, 0], frames[target])
        assert seen[[0, target - 1]].all()
        assert not seen[target:].any()
        assert torch.equal(condition.given["frames"][row][seen], frames[seen])
        assert (condition.given["frames"][row][~seen] == 0).all()
        assert float(condition.given["target_time"][row]) == float(times[target])
        assert (condition.given["times"][row][~seen] == 0).all()
    assert len({tuple(data.seen(index).tolist()) for index in range(16, 20)}) > 1, "several choices of gaps"
    assert [data.motion_of(subject) for subject in (0, 1)] == ["ageing", "cardiac"]
    test = Sequences("test", test_size=2)
    assert [test.where(index)[:2] for index in range(len(test))] == [(0, 5), (1, 5)]
    assert not torch.equal(test.sequence(0)[0], data.sequence(0)[0])
    assert data.tissues(0).shape == (6, 2, *GRID)


def test_wrong_options_of_data():
    for build, message in [
        (lambda: Population("val"), "unknown split"),
        (lambda: Sequences(motion="running"), "unknown motion"),
        (lambda: Sequences(missing=1.5), "missing is 1.5"),
        (lambda: Sequences(frames=1), "at least 2"),
        (lambda: Sequences(targets=[6]), "frames from 1 to 5"),
        (lambda: Ellipsoids(missing=-1), "missing is -1"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            build()


def test_the_radius_of_an_ellipsoid_is_found():
    radii = torch.tensor([2.5, 4.0, 5.5], dtype=torch.float64)
    assert torch.allclose(radius_of(ellipsoid(radii) * 2 - 1), radii, atol=0.15)


# The encoder's oracles ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """A small network whose every parameter was moved from its initial value."""
    data = Ellipsoids("test", test_size=5)
    torch.manual_seed(0)
    made = SequenceUNet(data.spec, data.conditions, channels=8, multipliers=[1], width=16, layers=1, heads=2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch():
    data = Ellipsoids("test", test_size=5, missing=0.6)
    return data.batch(range(5))


def predict(network, x, condition):
    return network(x, torch.linspace(-1, 1, len(x)), condition)


def test_what_stands_in_missing_frames_has_no_influence(network, batch):
    x, condition = batch
    before = predict(network, x, condition)
    hidden = (condition.given["seen"] < 0.5)[:, :, None, None, None]
    assert hidden.any()
    spoilt = condition.with_given(
        frames=torch.where(hidden, float("nan"), condition.given["frames"]),
        times=torch.where(condition.given["seen"] < 0.5, 0.77, condition.given["times"]),
    )
    assert torch.allclose(predict(network, x, spoilt), before, atol=1e-6)
    changed = condition.with_given(frames=condition.given["frames"] * 0.5)
    assert not torch.allclose(predict(network, x, changed), before, atol=1e-4), "what was seen does"


def test_frames_at_or_behind_the_target_are_not_looked_at(network, batch):
    x, condition = batch
    late = condition.clone()
    late.given["seen"][:, 5], late.given["frames"][:, 5] = 1.0, 3.0
    late.given["times"][:, 5] = condition.given["target_time"][:, 0]
    assert torch.allclose(predict(network, x, late), predict(network, x, condition), atol=1e-6)


def test_no_frames_is_no_condition(network, batch):
    x, condition = batch
    alone = predict(network, x, Conditioning())
    nothing_seen = condition.with_given(seen=torch.zeros_like(condition.given["seen"]))
    assert torch.allclose(predict(network, x, nothing_seen), alone, atol=1e-5)
    for name in ("frames", "target_time"):
        hidden = condition.hidden([name])
        assert torch.allclose(predict(network, x, hidden), alone, atol=1e-6)
    some = condition.hidden(["frames"], torch.tensor([False, True, False, False, True]))
    mixed = predict(network, x, some)
    assert torch.allclose(mixed[[1, 4]], alone[[1, 4]], atol=1e-6)
    assert torch.allclose(mixed[[0, 2, 3]], predict(network, x, condition)[[0, 2, 3]], atol=1e-6)


def test_all_frames_seen_is_the_encoder_without_a_mask(batch):
    torch.manual_seed(1)
    encoder = SequenceEncoder(3, (8, 16, 16), width=16, layers=1, heads=2).eval()
    frames, since = torch.randn(2, 3, 8, 16, 16), torch.tensor([[-0.6, -0.4, -0.2]] * 2)
    full = encoder(frames, torch.ones(2, 3, dtype=torch.bool), since)
    longer = SequenceEncoder(4, (8, 16, 16), width=16, layers=1, heads=2).eval()
    longer.load_state_dict(encoder.state_dict())
    padded = torch.cat([frames, torch.full((2, 1, 8, 16, 16), 5.0)], dim=1)
    seen = torch.tensor([[True, True, True, False]] * 2)
    assert torch.allclose(longer(padded, seen, torch.cat([since, since[:, :1]], dim=1)), full, atol=1e-6)
    order = torch.tensor([2, 0, 1])
    turned = encoder(frames[:, order], torch.ones(2, 3, dtype=torch.bool), since[:, order])
    assert torch.allclose(turned, full, atol=1e-5), "frames are known by their times, not by their slots"


def test_patients_in_another_order_and_odd_sizes(network, batch):
    x, condition = batch
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = network(x[order], torch.linspace(-1, 1, 5)[order], condition.rows(order))
    assert torch.allclose(turned, predict(network, x, condition)[order], atol=1e-5)
    odd = SequenceEncoder(2, (5, 9, 11), width=16, layers=1, heads=2)
    assert odd(torch.randn(1, 2, 5, 9, 11), torch.ones(1, 2).bool(), torch.tensor([[-2.0, -1.0]])).shape[2:] == (
        5,
        9,
        11,
    )


def test_an_encoded_condition_gives_the_same_prediction(network, batch):
    x, condition = batch
    encoded = network.encode_condition(condition)
    assert torch.equal(predict(network, x, encoded), predict(network, x, condition))
    assert not network.encode_condition()
    with pytest.raises(AnydiffError, match="'times' is missing"):
        network.encode_condition(condition.without(["times"]))
    with pytest.raises(AnydiffError, match=r"'frames' has shape \(5, 5, 8, 16, 16\)"):
        predict(network, x, condition.with_given(frames=condition.given["frames"][:, 1:]))
    with pytest.raises(UnknownNameError, match="'label'"):
        predict(network, x, condition.with_given(label=torch.zeros(5)))


def test_the_network_sees_the_latest_frame_and_the_line_but_a_single_image_model_no_line(batch):
    x, condition = batch
    seen = condition.given["seen"] > 0.5
    given = (condition.given["frames"], seen, condition.given["times"], condition.given["target_time"])
    spoilt = condition.with_given(frames=torch.where(seen[:, :, None, None, None], given[0], float("nan")))
    data = Ellipsoids("test", test_size=5)
    options = {"channels": 8, "multipliers": [1], "width": 16, "layers": 1, "heads": 2, "spread": 0.3}
    for encoder, sees_line in (("attention", True), ("concatenation", True), ("previous", False)):
        torch.manual_seed(0)
        network = SequenceUNet(data.spec, data.conditions, encoder=encoder, **options)
        torch.nn.init.normal_(network.unet.exit.weight, std=0.1)
        known = network.encode_condition(spoilt).parts["frames"]["known"]
        assert torch.equal(known[:, 0], known[:, 1]), "an untrained network predicts about the latest frame"
        assert torch.equal(known[:, 1], extrapolation.last_frame(*given))
        assert torch.allclose(known[:, 2], extrapolation.interpolation(*given), atol=1e-6)
        encoded = network.encode_condition(condition)
        other = encoded.with_parts("frames", known=torch.stack([known[:, 0], known[:, 1], -known[:, 2]], dim=1))
        changed = not torch.allclose(predict(network, x, encoded), predict(network, x, other), atol=1e-6)
        assert changed == sees_line


def test_changes_are_weighed_differences_and_the_first_moves_the_centre(batch):
    """By hand: with equal tokens everywhere, Σ_t w_t (f_t - f_latest) + g (line - f_latest)."""
    torch.manual_seed(0)
    encoder = SequenceEncoder(3, (8, 16, 16), width=16, layers=1, heads=2, changes=2)
    frames, seen = torch.randn(1, 3, 8, 16, 16), torch.tensor([[True, False, True]])
    since = torch.tensor([[-0.6, -0.4, -0.2]])
    assert not encoder(frames, seen, since)[:, :2].any(), "untrained, nothing is changed"
    tokens = torch.randn(1, 4, 1, 16).expand(1, 4, 4, 16)
    torch.nn.init.normal_(encoder.query.weight)
    torch.nn.init.normal_(encoder.gate.weight)
    latest, line = frames[:, 2], frames[:, 2] + (frames[:, 2] - frames[:, 0]) / 2
    differences = torch.stack([frames[:, 0] - latest, 0 * latest, 0 * latest, line - latest], dim=1)
    query, keys = encoder.query(tokens[0, 3, 0]).reshape(2, 16), encoder.key(tokens[0, :3, 0]).reshape(3, 2, 16)
    weights, gate = torch.einsum("hw,thw->ht", query, keys) / 4, encoder.gate(tokens[0, 3, 0])
    expected = weights[:, 0, None, None, None] * differences[:, 0] + gate[:, None, None, None] * differences[:, 3]
    assert torch.allclose(encoder._changes(tokens, differences, seen)[0], expected, atol=1e-5)


def test_all_frames_as_channels_stand_the_latest_first(batch):
    frames = torch.arange(1.0, 5).reshape(1, 4, 1, 1, 1).expand(1, 4, 2, 2, 2)
    seen, since = torch.tensor([[True, False, True, False]]), torch.tensor([[-0.6, -0.4, -0.2, 0.1]])
    stacked = _stacked(frames, seen, since)[0, :, 0, 0, 0]
    assert torch.allclose(stacked, torch.tensor([3.0, 1, 0, 0, 1, 1, 0, 0, -0.2, -0.6, 0, 0]))


def test_an_untrained_network_gives_the_posterior_mean_about_the_latest_frame(batch):
    x, condition = batch
    data = Ellipsoids("test", test_size=5)
    options = {"channels": 8, "multipliers": [1], "width": 16, "layers": 1, "heads": 2}
    network = SequenceUNet(data.spec, data.conditions, spread=0.3, sigma_data=0.3, **options)
    latest = network.encode_condition(condition).parts["frames"]["known"][:, 1:2]
    noise = torch.exp(-torch.linspace(-1, 1, 5)).reshape(-1, 1, 1, 1, 1)
    scaled = x / torch.sqrt(0.3**2 + noise**2)  # as the denoiser hands x_t / α to a network
    expected = latest + 0.3**2 / (0.3**2 + noise**2) * (x - latest)
    assert torch.allclose(predict(network, scaled, condition), expected, atol=1e-5)


# Filling in ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.untrained(load_recipe("volumes/sadm", SMALL))


def test_guidance_weights_agree_with_the_papers(pipeline, batch):
    """The paper's (1 + w) eps_c - w eps_u is our scale 1 + w: w = 0 is conditional, w = -1 unconditional."""
    x, condition = batch
    denoiser = pipeline.denoiser
    with torch.no_grad():
        conditional, alone = denoiser.predict(x, 0.4, "noise", condition), denoiser.predict(x, 0.4, "noise")
        for w in (-1.0, 0.0, 0.2):
            guided = ClassifierFree(1 + w)(denoiser).predict(x, 0.4, "noise", condition)
            assert torch.allclose(guided, (1 + w) * conditional - w * alone, atol=1e-5)


def test_missing_frames_are_filled_in_and_given_ones_stay(pipeline):
    data = Ellipsoids("test", test_size=3)
    seen = torch.tensor([[1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 0]]).bool()
    times = data.times.expand(3, -1)
    frames = torch.where(seen[:, :, None, None, None], data.sequences, float("nan"))
    options = {"nfe": 2, "seed": 4}
    done = sadm.generate(pipeline, frames, seen, times, **options)
    assert done.known.all()
    assert torch.equal(done.values[seen], data.sequences[seen])
    assert float(done.values.abs().max()) <= 1
    alone = sadm.generate(pipeline, frames[2:], seen[2:], times[2:], samples=[2], **options)
    assert torch.allclose(alone.values[0], done.values[2], atol=1e-5)
    future = sadm.generate(pipeline, frames, seen, times, positions=[5], **options)
    assert future.known[:, 5].all()
    assert not future.known[0, 1]
    for change, message in [
        ({"seen": seen[:, :5]}, "unequal length"),
        ({"seen": ~seen}, "sequence 0 begins with a missing frame"),
        ({"times": times.flip(1)}, "times do not increase"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            sadm.generate(pipeline, **{"frames": frames, "seen": seen, "times": times, **change})


def test_baselines_by_hand():
    frames = torch.tensor([0.1, 0.2, 0.4, 9.0]).reshape(1, 4, 1, 1, 1).expand(2, 4, 2, 2, 2)
    seen = torch.tensor([[True, False, True, False], [True, False, False, False]])
    times, target = torch.tensor([[0.0, 0.1, 0.2, 0.3]] * 2), torch.tensor([[0.3], [0.3]])
    assert extrapolation.last_frame(frames, seen, times, target)[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.1])
    assert extrapolation.interpolation(frames, seen, times, target)[:, 0, 0, 0].tolist() == pytest.approx([0.55, 0.1])
    data = Ellipsoids("train", train_size=4)
    condition = data.batch([0, 5, 9])[1]
    for function in (baselines.last_frame, baselines.interpolation, baselines.population_mean):
        assert function(data, condition, 3, 0).shape == (3, 1, 8, 16, 16)
    mean = baselines.population_mean(data, condition, 3, 0)
    assert torch.allclose(mean[1], data.batch(range(20))[0].mean(0), atol=1e-5)
