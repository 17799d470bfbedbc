"""Quantisers, packing and rounding: what their definitions say, exactly."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.compression import rounding
from anydiff.compression.integer import Geometry, IntegerLayer, available, reference
from anydiff.compression.quantisers import (
    Quantiser,
    checked_bits,
    min_max,
    of_range,
    pack,
    packed_bytes,
    searched,
    unpack,
    weight_quantiser,
)
from anydiff.errors import AnydiffError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sixteen_bits_are_the_float():
    values = normal(5, 40)
    for make in (min_max, searched):
        assert (make(values, 16, channels=True)(values) - values).abs().max() < 1e-4


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_what_stands_on_the_grid_stays(bits):
    values = normal(3, 50)
    quantiser = min_max(values, bits, channels=True)
    once = quantiser(values)
    assert torch.equal(quantiser(once), once)
    assert torch.equal(quantiser.levels(once), quantiser.levels(values))
    assert torch.equal(min_max(values, bits)(torch.zeros(3, 50)), torch.zeros(3, 50)), "zero is a level"


def test_an_error_is_at_most_half_a_step_within_the_range():
    values = normal(1000)
    quantiser = min_max(values, 4)
    assert (quantiser(values) - values).abs().max() <= quantiser.scale / 2 * (1 + 1e-6)
    assert quantiser.levels(values).unique().numel() <= 16


def test_the_search_is_never_worse_by_its_own_measure_and_better_with_outliers():
    values = normal(2, 2000)
    values[0, 0] = 40.0
    made = {make: make(values, 4, channels=True)(values) for make in (min_max, searched)}
    errors = {make: (each - values).abs().pow(2.4).mean(1) for make, each in made.items()}
    assert bool((errors[searched] <= errors[min_max]).all())
    assert errors[searched][0] < 0.8 * errors[min_max][0]


@pytest.mark.parametrize("make", [min_max, searched])
def test_constant_and_empty_channels_have_scale_one_or_are_exact(make):
    values = torch.stack([torch.zeros(4), torch.full((4,), 3.0), torch.full((4,), -2.0)])
    quantiser = make(values, 4, channels=True)
    assert quantiser.scale.isfinite().all()
    assert quantiser.scale[0] == 1
    assert torch.allclose(quantiser(values), values)
    empty = make(torch.zeros(2, 0), 4, channels=True)
    assert empty.scale.tolist() == [1, 1]
    assert empty(torch.zeros(2, 0)).shape == (2, 0)


def test_eight_bit_weights_fit_into_int8():
    """Fewer bits always do; with eight the zero point is the middle."""
    weight = normal(6, 30) + 1
    for bits in (2, 3, 4, 7, 8):
        quantiser = weight_quantiser(weight, bits)
        signed = quantiser.levels(weight) - quantiser.zero[:, None]
        assert signed.abs().max() <= 128
        assert signed.max() <= 127
        assert torch.equal(signed.to(torch.int8).float(), signed)
    assert weight_quantiser(weight, 8).zero.tolist() == [128] * 6
    assert weight_quantiser(weight, 4).zero.unique().numel() > 1


@pytest.mark.parametrize("bits", range(2, 17))
def test_packing(bits):
    levels = torch.randint(0, 2**bits, (3, 7), generator=torch.Generator().manual_seed(bits))
    levels[0, :2] = torch.tensor([0, 2**bits - 1])
    packed = pack(levels, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_bytes(21, bits) == math.ceil(21 * bits / 8)
    assert torch.equal(unpack(packed, bits, (3, 7)), levels.int())


@pytest.mark.parametrize("bits", [1, 0, 17, -4, 8.0, True, "8"])
def test_bits_out_of_range(bits):
    with pytest.raises(AnydiffError, match=r"weights is .* from 2 to 16"):
        checked_bits("weights", bits)


# Rounding -------------------------------------------------------------------------------------------------------------


def test_soft_weights_begin_as_the_weights():
    weight = normal(4, 25)
    # Beyond the last level a weight is cut off, whatever is rounded; here the range leaves room.
    quantiser = min_max(1.2 * weight, 4, channels=True)
    soft = rounding.start(weight, quantiser)
    assert (rounding.soft_weight(weight, quantiser, soft) - weight).abs().max() < 1e-6
    exact = weight / quantiser.scale[:, None]
    assert torch.allclose(rounding.rectified(soft), exact - exact.floor(), atol=1e-6)


def test_hard_rounding_is_down_or_up():
    weight = normal(4, 25)
    quantiser = of_range(torch.full((4,), -4.0), torch.full((4,), 4.0), 4)
    floor = (weight / quantiser.scale[:, None]).floor() + quantiser.zero[:, None]
    for soft in (rounding.start(weight, quantiser), normal(4, 25, seed=1)):
        assert set((rounding.hard_levels(weight, quantiser, soft) - floor).unique().tolist()) == {0.0, 1.0}
    nearest = rounding.hard_levels(weight, quantiser, rounding.start(weight, quantiser))
    assert torch.equal(quantiser.values(nearest), quantiser(weight)), "undisturbed it is the nearest"


def test_the_penalty_is_zero_where_all_is_decided_and_the_count_where_nothing_is():
    assert rounding.penalty(torch.tensor([-9.0, 9.0, 30.0]), 2.0) == 0
    assert rounding.penalty(torch.zeros(7), 20.0) == 7
    assert [rounding.beta_at(p) for p in (0.0, 0.19)] == [None, None]
    assert (rounding.beta_at(0.2), rounding.beta_at(1.0)) == (20.0, 2.0)


# Integer arithmetic ---------------------------------------------------------------------------------------------------


def test_the_probe_is_a_probe(monkeypatch):
    available.cache_clear()
    assert available() in (True, False)
    available.cache_clear()
    monkeypatch.setattr(IntegerLayer, "__call__", lambda *given: torch.zeros(3, 5))
    assert not available(), "operators that compute something else are not taken"
    monkeypatch.setattr(IntegerLayer, "__init__", lambda *given: (_ for _ in ()).throw(RuntimeError("none")))
    available.cache_clear()
    assert not available()
    monkeypatch.undo()
    available.cache_clear()


@pytest.mark.skipif(not available(), reason="this machine has no integer operators")
@pytest.mark.parametrize(
    ("shape", "weight_shape", "geometry"),
    [
        ((4, 6), (5, 6), None),
        ((2, 3, 6), (5, 6), None),
        ((2, 4, 9), (6, 4, 3), Geometry((1,), (1,), (1,), 1)),
        ((2, 4, 9, 9), (6, 2, 3, 3), Geometry((2, 2), (1, 1), (1, 1), 2)),
        ((2, 4, 9, 9), (6, 4, 3, 3), Geometry((1, 1), (2, 2), (2, 2), 1)),
        ((1, 2, 5, 6, 5), (3, 2, 3, 3, 3), Geometry((1, 1, 1), (1, 1, 1), (1, 1, 1), 1)),
    ],
)
def test_integers_multiply_as_floats_do(shape, weight_shape, geometry):
    """Padding is the value zero, whatever the zero point of the levels is."""
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    weight = torch.randint(-128, 128, weight_shape, generator=generator, dtype=torch.int8)
    factors = torch.rand(weight_shape[0], generator=generator) * 0.01 + 0.001
    layer = IntegerLayer(weight, factors, None, geometry)
    for scale, zero in ((0.02, 0), (0.5, 91), (0.003, 255)):  # packed once, called with any scale
        made = layer(levels, scale, zero)
        assert torch.allclose(made, reference(levels, scale, zero, weight, factors, geometry), rtol=1e-4, atol=1e-3)


def test_a_quantiser_per_channel_and_one_for_all():
    one = Quantiser(4, torch.tensor([0.5]), torch.tensor([8.0]))
    assert one.levels(torch.tensor([[0.0, 0.26, 99.0, -99.0]])).tolist() == [[8, 9, 15, 0]]
    two = Quantiser(4, torch.tensor([0.5, 1.0]), torch.tensor([8.0, 0.0]))
    assert two.levels(torch.tensor([[1.0], [1.0]])).tolist() == [[10], [1]]
