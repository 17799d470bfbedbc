"""A spread for each voxel: what it is before training, what it makes of a prediction, and when it is refused."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff_volumes.ellipsoids import Ellipsoids
from anydiff_volumes.networks import SequenceUNet

SPREAD = 0.2


@pytest.fixture(scope="module")
def data():
    return Ellipsoids("test", test_size=3, missing=0.0)


def _network(data, encoder, **more):
    torch.manual_seed(0)
    options = {"channels": 8, "multipliers": [1], "width": 16, "layers": 1, "heads": 2, **more}
    return SequenceUNet(data.spec, data.conditions, encoder=encoder, spread=SPREAD, sigma_data=SPREAD, **options).eval()


def _noised(x, log_snr):
    """The state as a network is handed it, and κ."""
    noise = math.exp(-log_snr)
    y = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return y, y / math.sqrt(SPREAD**2 + noise**2), noise


@pytest.mark.parametrize("encoder", ["attention", "previous", "course"])
def test_before_training_all_voxels_have_the_spread_of_the_volume(data, encoder):
    x, condition = data.batch(range(3))
    _, given, _ = _noised(x, 1.0)
    with torch.no_grad():
        plain = _network(data, encoder)(given, torch.ones(3), condition)
        local = _network(data, encoder, local_spread=True)(given, torch.ones(3), condition)
    assert torch.allclose(plain, local, atol=1e-5)


def test_a_voxel_that_cannot_change_stays_at_its_centre_whatever_the_noise(data):
    x, condition = data.batch(range(3))
    network = _network(data, "previous", local_spread=True)
    torch.nn.init.normal_(network.unet.exit.weight, std=1.0)
    y, given, noise = _noised(x, 2.0)
    with torch.no_grad():
        encoded = network.encode_condition(condition)
        parts = dict(encoded.parts["frames"])
        spread = torch.full_like(parts["spread"], SPREAD)
        spread[..., :4, :, :] = 1e-6
        told = condition.with_parts("frames", **{**parts, "spread": spread})
        made = network(given, torch.full((3,), 2.0), told)
    latest = parts["known"][:, 1:2]
    assert torch.allclose(made[..., :4, :, :], latest[..., :4, :, :], atol=1e-4)
    linear = latest + SPREAD**2 / (SPREAD**2 + noise**2) * (y - latest)
    assert not torch.allclose(made[..., 4:, :, :], linear[..., 4:, :, :], atol=1e-2), "the U-Net corrects the others"


def test_the_weights_of_a_motion_are_told_by_the_voxels_that_are_certain(data):
    x, condition = data.batch(range(3))
    network = _network(data, "course", local_spread=True)
    y, given, noise = _noised(x, 0.5)
    with torch.no_grad():
        encoded = network.encode_condition(condition)
        parts = dict(encoded.parts["frames"])
        spread = torch.rand(parts["spread"].shape, generator=torch.Generator().manual_seed(2)) + 0.01
        told = condition.with_parts("frames", **{**parts, "spread": spread})
        made = network(given, torch.full((3,), 0.5), told)
    known = parts["differences"].double().flatten(2)
    latest = parts["known"][:, :1]
    precision = 1 / (spread.double() ** 2 + noise**2).flatten(1)
    for row in range(3):
        root, mean = parts["root"][row].double(), parts["mean"][row].double()
        prior = torch.linalg.pinv(root @ root.T)
        gram = known[row] * precision[row] @ known[row].T
        said = known[row] * precision[row] @ (y - latest)[row].double().flatten()
        seen = root.abs().sum(1) > 0
        weights = torch.linalg.solve((prior + gram)[seen][:, seen], (prior @ mean + said)[seen])
        centre = latest[row].double().flatten() + weights @ known[row][seen]
        gain = (spread[row].double() ** 2).flatten() * precision[row]
        expected = centre + gain * (y[row].double().flatten() - centre)
        assert torch.allclose(made[row].double().flatten(), expected, atol=1e-4)


def test_frames_that_are_not_seen_have_no_influence(data):
    condition = data.batch(range(3))[1]
    network = _network(data, "course", local_spread=True)
    torch.nn.init.normal_(network.local.exit.weight)
    seen = condition.given["seen"].clone()
    seen[:, 1:3] = 0
    frames = condition.given["frames"].clone()
    frames[:, 1:3] = 0
    spoilt = frames.clone()
    spoilt[:, 1:3] = float("nan")
    with torch.no_grad():
        one = network.encode_condition(condition.with_given(frames=frames, seen=seen)).parts["frames"]["spread"]
        two = network.encode_condition(condition.with_given(frames=spoilt, seen=seen)).parts["frames"]["spread"]
    assert torch.equal(one, two)
    assert bool((one > 0).all())
    assert float(one.max()) > float(one.min())


def test_a_spread_of_voxels_without_one_of_the_volume_is_refused(data):
    with pytest.raises(AnydiffError, match="set spread above 0"):
        SequenceUNet(data.spec, data.conditions, channels=8, multipliers=[1], local_spread=True)
