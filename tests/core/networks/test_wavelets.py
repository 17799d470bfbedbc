"""The Haar transform and its inverse, gates, and a U-Net that is resampled by them."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import UNet
from anydiff.networks.wavelets import GatedDown, GatedUp, Gates, haar, inverse_haar
from anydiff.states import StateSpec

SHAPES = [(2, 3, 8), (2, 3, 7), (2, 1, 1), (2, 3, 6, 8), (2, 3, 5, 8), (1, 2, 7, 3), (2, 2, 4, 6, 2), (1, 2, 5, 4, 3)]


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_inverse_is_exact_and_energy_is_kept(shape):
    x = normal(*shape)
    bands = haar(x)
    assert bands.shape == (shape[0], 2 ** (len(shape) - 2), shape[1], *(-(-n // 2) for n in shape[2:]))
    assert torch.allclose(inverse_haar(bands, shape[2:]), x, rtol=0, atol=1e-12)
    if all(n % 2 == 0 for n in shape[2:]):
        assert bands.square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-12)


def test_a_constant_has_no_details():
    bands = haar(torch.full((1, 1, 4, 6), 3.0, dtype=torch.float64))
    assert torch.allclose(bands[:, 0], torch.full((1, 1, 2, 3), 6.0, dtype=torch.float64))
    assert bands[:, 1:].abs().max() < 1e-12


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_plain_sum_of_all_bands_is_one_corner(dimensions):
    x = normal(2, 3, *(4,) * dimensions)
    corner = x[(slice(None), slice(None), *[slice(1, None, 2)] * dimensions)]
    assert torch.allclose(haar(x).sum(1), math.sqrt(2) ** dimensions * corner)


def test_bands_by_hand():
    (low, high) = haar(torch.tensor([[[1.0, 3.0]]]))[0]
    assert low.item() == pytest.approx(4 / math.sqrt(2))
    assert high.item() == pytest.approx(2 / math.sqrt(2))
    ramp = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # rises along the last axis: that bit alone
    assert haar(ramp)[0, :, 0, 0, 0].tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0])


def test_a_wrong_number_of_bands():
    with pytest.raises(AnydiffError, match="3 bands were given, but 2 axes have 4"):
        inverse_haar(torch.zeros(1, 3, 1, 2, 2))


def test_gates_begin_at_one_and_have_mean_one():
    gates = Gates(4, 3, 5)
    bands, embedding = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 5)
    assert torch.allclose(gates(bands, embedding), bands)
    torch.nn.init.normal_(gates.exit.weight)
    ratio = (gates(bands, embedding) / bands)[:, :, 0, 0, 0]
    assert torch.allclose(ratio.mean(1), torch.ones(2))
    assert ratio.std() > 0.01
    other = (gates(bands, embedding + 1) / bands)[:, :, 0, 0, 0]
    assert not torch.allclose(ratio, other), "the time decides too"


def test_modules_have_the_shapes_of_what_they_replace():
    embedding = torch.randn(2, 5)
    assert GatedDown(4, 5, torch.nn.Conv2d(4, 6, 1), 2)(torch.randn(2, 4, 8, 6), embedding).shape == (2, 6, 4, 3)
    assert GatedUp(8, 5, torch.nn.Conv2d(2, 4, 1), 2)(torch.randn(2, 8, 4, 3), embedding).shape == (2, 4, 8, 6)


@pytest.mark.parametrize("shape", [(1, 13), (2, 9, 12), (1, 5, 6, 4)])
def test_a_network_resampled_by_gates(shape):
    network = UNet(StateSpec.single(shape), {}, channels=8, multipliers=(1, 2), resampling="gated-wavelets")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(3, *shape)
    made = network(x, torch.zeros(3))
    assert made.shape == x.shape
    made.square().mean().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in network.parameters())
    assert network.down[0].gates.exit.weight.grad.abs().max() > 0
    assert network.up[0].gates.exit.weight.grad.abs().max() > 0


def test_what_is_refused():
    with pytest.raises(AnydiffError, match="use 'mlp' for flat states"):
        UNet(StateSpec.single((6,)), {}, resampling="gated-wavelets")
    with pytest.raises(AnydiffError, match="6 channels cannot be shared by 4 sub-bands"):
        UNet(StateSpec.single((1, 8, 8)), {}, channels=3, multipliers=(1, 2), resampling="gated-wavelets", heads=1)
    with pytest.raises(UnknownNameError, match="resampling"):
        UNet(StateSpec.single((1, 8, 8)), {}, resampling="haar")
