"""Networks: shapes in every dimension, conditioning, zero start, padding, batch rows that do not see each other."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import MLP, ConditionEncoder, DiT, LogSNREmbedding, UNet
from anydiff.networks.layers import depth_to_space, space_to_depth
from anydiff.states import UNCONDITIONAL, ArrayCondition, ClassCondition, Conditioning, StateSpec, VectorCondition

CONDITIONS = {"label": ClassCondition(3), "context": VectorCondition(4)}
CASES = [
    (MLP, (5,), {"width": 16, "blocks": 2}),
    (MLP, (2, 3), {"width": 16, "blocks": 1}),
    (UNet, (2, 13), {"channels": 8, "multipliers": (1, 2), "attention_levels": (1,)}),
    (UNet, (1, 7, 9), {"channels": 8, "multipliers": [1, 2], "patch_size": 2, "blocks": 2}),
    (UNet, (1, 5, 4, 6), {"channels": 8, "multipliers": (1, 2), "attention_levels": [0]}),
    (DiT, (2, 9), {"width": 16, "blocks": 2, "patch_size": 2}),
    (DiT, (1, 6, 7), {"width": 16, "blocks": 2, "patch_size": 4}),
    (DiT, (1, 4, 5, 6), {"width": 18, "heads": 3, "blocks": 1, "patch_size": 2}),
]


def build(kind, shape, options, conditions=CONDITIONS):
    """A network whose zero-initialised layers are filled, so that every part acts."""
    torch.manual_seed(0)
    network = kind(SimpleNamespace(shape=shape), conditions, **options)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def inputs(shape, batch=4):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, *shape, generator=generator)
    log_snr = torch.linspace(-3, 3, batch)
    condition = {"label": torch.arange(batch) % 3, "context": torch.randn(batch, 4, generator=generator)}
    return x, log_snr, Conditioning(condition)


@pytest.mark.parametrize(("kind", "shape", "options"), CASES)
def test_untrained_output_is_zero_and_every_parameter_learns(kind, shape, options):
    x, log_snr, condition = inputs(shape)
    network = kind(SimpleNamespace(shape=shape), CONDITIONS, **options)
    assert torch.equal(network(x, log_snr, condition), torch.zeros_like(x))
    network = build(kind, shape, options)
    present = {"label": torch.tensor([True, False, True, True]), "context": torch.ones(4).bool()}
    output = network(x, log_snr, replace(condition, present=present))
    assert output.shape == x.shape
    output.square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("kind", "shape", "options"), CASES)
def test_rows_do_not_see_each_other_and_every_input_acts(kind, shape, options):
    network = build(kind, shape, options)
    x, log_snr, condition = inputs(shape)
    base = network(x, log_snr, condition)
    alone = network(x[2:3], log_snr[2:3], condition.rows(slice(2, 3)))
    torch.testing.assert_close(alone, base[2:3], rtol=1e-4, atol=1e-5)
    for changed in (
        network(x + 0.3, log_snr, condition),
        network(x, log_snr + 0.5, condition),
        network(x, log_snr, condition.with_given(label=(condition.given["label"] + 1) % 3)),
        network(x, log_snr, condition.with_given(context=-condition.given["context"])),
        network(x, log_snr, condition.only(["label"])),
    ):
        assert (changed - base).abs().flatten(1).amax(1).min() > 1e-4


@pytest.mark.parametrize(("kind", "shape", "options"), CASES)
def test_mixed_precision_returns_the_input_type_and_stays_close(kind, shape, options):
    network = build(kind, shape, options)
    x, log_snr, condition = inputs(shape)
    exact = network(x, log_snr, condition)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x, log_snr, condition)
    assert rough.dtype == x.dtype
    assert (rough - exact).norm() / exact.norm() < 0.05
    assert network(x.double(), log_snr.double(), condition).dtype == torch.float64


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_space_to_depth_is_undone_and_keeps_patches_together(dimensions):
    shape = (2, 3, *[4, 6, 8][:dimensions])
    x = torch.arange(torch.tensor(shape).prod()).reshape(shape)
    assert torch.equal(depth_to_space(space_to_depth(x, 2), 2), x)
    if dimensions == 2:
        assert torch.equal(space_to_depth(x, 2), torch.nn.functional.pixel_unshuffle(x, 2))


def test_patches_of_the_unet_cover_the_whole_state():
    network = build(UNet, (1, 7, 9), CASES[3][2], {})
    x = torch.zeros(1, 1, 7, 9, requires_grad=True)
    network(x, torch.zeros(1)).sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).all())


def test_log_snr_embedding_is_injective_and_clamped():
    embedding = LogSNREmbedding(64)
    levels = torch.linspace(-20, 20, 2001)
    features = embedding(levels)
    distances = torch.cdist(features[::10].double(), features[::10].double()) + 10 * torch.eye(201)
    assert distances.min() > 0.3
    assert (features[1:] - features[:-1]).norm(dim=1).min() > 0.03
    infinite = embedding(torch.tensor([float("inf"), -float("inf"), 1e6]))
    assert torch.equal(infinite[:2], embedding(torch.tensor([20.0, -20.0])))
    assert torch.isfinite(infinite).all()


def test_absent_rows_get_the_null_embedding_whatever_they_hold():
    torch.manual_seed(0)
    encoder = ConditionEncoder(CONDITIONS, 8)
    for null in encoder.nulls.values():
        torch.nn.init.normal_(null)
    present = torch.tensor([True, False, False])
    label = torch.tensor([1, -1, 2])
    context = torch.full((3, 4), float("nan"))
    hidden = {"label": present, "context": torch.zeros(3).bool()}
    encoded = encoder(3, Conditioning({"label": label, "context": context}, hidden))
    nothing = encoder(3, UNCONDITIONAL)
    assert torch.equal(encoded[1:], nothing[1:])
    assert not torch.equal(encoded[0], nothing[0])
    assert torch.isfinite(encoded).all()


def test_soft_labels_agree_with_hard_ones():
    torch.manual_seed(0)
    encoder = ConditionEncoder({"label": ClassCondition(3)}, 8)
    hard = torch.tensor([2, 0])
    soft = torch.nn.functional.one_hot(hard, 3).float()
    torch.testing.assert_close(encoder(2, Conditioning({"label": hard})), encoder(2, Conditioning({"label": soft})))


@pytest.mark.parametrize(
    ("kind", "shape", "options", "message"),
    [
        (UNet, (5,), {}, "flat"),
        (UNet, (1, 8, 8), {"channels": 0}, "channels is 0"),
        (UNet, (1, 8, 8), {"multipliers": 2}, "multipliers is 2"),
        (UNet, (1, 8, 8), {"multipliers": ()}, "multipliers is empty"),
        (UNet, (1, 8, 8), {"attention_levels": (5,)}, "attention_levels names level 5"),
        (UNet, (1, 8, 8), {"channels": 6, "attention_levels": (0,)}, "heads is 4"),
        (UNet, (1, 8, 8), {"dropout": 1.0}, "dropout is 1.0"),
        (DiT, (1, 8, 8), {"width": 10}, "heads is 4"),
        (DiT, (1, 8, 8), {"patch_size": 1.5}, "patch_size is 1.5"),
        (MLP, (8,), {"blocks": -1}, "blocks is -1"),
    ],
)
def test_bad_options_are_named(kind, shape, options, message):
    with pytest.raises(AnydiffError, match=message):
        kind(SimpleNamespace(shape=shape), {}, **options)


def test_bad_calls_are_named():
    network = build(UNet, (1, 8, 8), {"channels": 8})
    x, log_snr = torch.zeros(2, 1, 8, 8), torch.zeros(2)
    with pytest.raises(UnknownNameError, match="did you mean 'label'"):
        network(x, log_snr, Conditioning({"labels": torch.zeros(2).long()}))
    with pytest.raises(AnydiffError, match="class 7"):
        network(x, log_snr, Conditioning({"label": torch.tensor([0, 7])}))
    with pytest.raises(AnydiffError, match=r"'context' has shape \(2, 3\)"):
        network(x, log_snr, Conditioning({"context": torch.zeros(2, 3)}))
    with pytest.raises(AnydiffError, match="the network expects"):
        network(x[..., :7], log_snr)
    with pytest.raises(AnydiffError, match="one per sample"):
        network(x, torch.zeros(3))


def test_unet_reads_array_conditions_beside_the_state():
    spec, kind = StateSpec.single((2, 8)), ArrayCondition((3, 8))
    torch.manual_seed(0)
    network = UNet(spec, {"label": ClassCondition(3), "past": kind}, channels=8).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, log_snr, past = torch.randn(4, 2, 8), torch.zeros(4), torch.randn(4, 3, 8)
    with torch.no_grad():
        without = network(x, log_snr)
        given = network(x, log_snr, Conditioning({"past": past}))
        hidden = network(
            x, log_snr, Conditioning({"past": torch.full_like(past, float("nan"))}, {"past": torch.zeros(4).bool()})
        )
        zeros = network(x, log_snr, Conditioning({"past": torch.zeros_like(past)}))
    assert torch.equal(hidden, without)
    assert not torch.allclose(given, without)
    assert not torch.allclose(zeros, without)  # zeros that are there differ from nothing


@pytest.mark.parametrize("shape", [(3,), (3, 9), (3, 8, 8)])
def test_unet_refuses_arrays_of_another_spatial_shape(shape):
    with pytest.raises(AnydiffError, match="spatial shape"):
        UNet(StateSpec.single((2, 8)), {"past": ArrayCondition(shape)}, channels=8)


def test_a_vector_network_refuses_an_array_condition():
    with pytest.raises(AnydiffError, match="cannot read"):
        MLP(StateSpec.single((2,)), {"past": ArrayCondition((3, 8))})
