"""Multiply-adds against closed forms of every kind of layer, clocks that take turns, memory, and the command."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from anydiff.cli.app import run_application
from anydiff.compression import Latency, interleaved_seconds, multiply_adds, peak_memory
from anydiff.compression.cost import can_measure_memory
from anydiff.errors import AnydiffError
from anydiff.networks import counted_memory, estimate_memory
from anydiff.pipeline import load
from anydiff.pipeline.cost import costs, counted, network_call, predicted_memory
from anydiff.registry import registry
from anydiff.states import UNCONDITIONAL

BUNDLED = [entry.name for entry in registry().entries("recipes") if entry.metadata.get("weights")]
B, C, D, K = 2, 6, 4, 3


def total(call):
    with torch.no_grad():
        found = multiply_adds(call)
    assert found.uncounted == ()
    return found.total


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer(bias):
    layer = nn.Linear(C, D, bias=bias)
    assert total(lambda: layer(torch.randn(B, C))) == B * C * D
    assert total(lambda: layer(torch.randn(B, 5, C))) == B * 5 * C * D


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_and_transposed_ones(dimensions, groups):
    x = torch.randn(B, C, *(8,) * dimensions)
    kinds = (
        (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1],
        (
            nn.ConvTranspose1d,
            nn.ConvTranspose2d,
            nn.ConvTranspose3d,
        )[dimensions - 1],
    )
    layer = kinds[0](C, D, K, stride=2, padding=1, groups=groups)
    # Each of the 4^d results is a sum over C / groups channels and K^d places.
    assert total(lambda: layer(x)) == B * D * 4**dimensions * (C // groups) * K**dimensions
    layer = kinds[1](C, D, K, stride=2, groups=groups)
    # Each of the 8^d inputs is multiplied with its own K^d places of D / groups channels.
    assert total(lambda: layer(x)) == B * C * 8**dimensions * (D // groups) * K**dimensions


def test_attention_with_and_without_a_mask():
    query, key, value = torch.randn(B, 3, 7, 8), torch.randn(B, 3, 5, 8), torch.randn(B, 3, 5, 8)
    wanted = B * 3 * 7 * 5 * (8 + 8)
    assert total(lambda: functional.scaled_dot_product_attention(query, key, value)) == wanted
    mask = torch.ones(7, 5, dtype=torch.bool)
    assert total(lambda: functional.scaled_dot_product_attention(query, key, value, mask)) == wanted
    other = torch.randn(B, 3, 5, 4)
    assert total(lambda: functional.scaled_dot_product_attention(query, key, other)) == B * 3 * 7 * 5 * (8 + 4)


def test_products_and_a_recurrent_layer():
    one, two = torch.randn(B, 7, C), torch.randn(B, C, D)
    assert total(lambda: one @ two) == total(lambda: torch.einsum("bnc,bcd->bnd", one, two)) == B * 7 * C * D
    assert total(lambda: two[0] @ torch.randn(D)) == C * D
    assert total(lambda: torch.dot(torch.randn(9), torch.randn(9))) == 9
    layer = nn.GRU(C, D, batch_first=True)  # three gates, each of the input and of the state
    assert total(lambda: layer(torch.randn(B, 5, C))) == B * 5 * 3 * D * (C + D)


def test_a_backward_pass_is_twice_the_forward_one():
    layer = nn.Linear(C, D)
    x = torch.randn(B, C, requires_grad=True)
    assert multiply_adds(lambda: layer(x).sum().backward()).total == 3 * B * C * D


def test_what_cannot_be_counted_is_named():
    found = multiply_adds(lambda: torch.fft.fft(torch.randn(B, 8)))
    assert found.total == 0
    assert "fft" in found.uncounted[0]


def closed_form(network, call):
    """Multiply-adds of linear and convolution layers by their shapes, as forward hooks see them."""
    found = 0

    def hook(module, given, result):
        nonlocal found
        weight = module.weight
        found += result.numel() * math.prod(weight.shape[1:])

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [module.register_forward_hook(hook) for module in network.modules() if isinstance(module, kinds)]
    call()
    for each in hooks:
        each.remove()
    return found


@pytest.mark.parametrize("name", ["images/fashion", "volumes/brain", "trajectories/maze", "timeseries/traffic"])
def test_whole_networks_of_linear_layers_and_convolutions(name):
    pipeline = load(name)
    call = network_call(pipeline, 1)
    assert multiply_adds(call).total == closed_form(pipeline.denoiser.network, call) > 1_000_000


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_model_has_a_cost(name):
    """Graphs with masks, conditions of every kind, several heads and latents included; no data are asked for."""
    pipeline = load(name)
    call = network_call(pipeline, 2)
    found = multiply_adds(call)
    assert found.total > 10_000
    assert found.uncounted == ()
    taken = predicted_memory(call, pipeline.domain)
    assert call.input_bytes < taken < 1 << 30


def test_what_a_sample_takes():
    """images/fashion guides in a part of its calls, which then have two rows."""
    cost = counted(load("images/fashion"))
    assert (cost.parameters, cost.multiply_adds, cost.encoding) == (1470788, 78718976, 0)
    assert cost.calls == 10 < cost.rows < 20
    assert cost.per_sample == cost.rows * cost.multiply_adds
    assert cost.file_bytes == 2950272


def test_an_autoencoder_is_called_and_not_sampled():
    cost = counted(load("volumes/brain-codes"))
    assert (cost.calls, cost.rows, cost.per_sample) == (None, None, None)
    assert cost.multiply_adds > 100_000_000


def test_calls_take_turns():
    order = []
    found = interleaved_seconds({name: lambda name=name: order.append(name) for name in "abc"}, seconds=1e-9)
    assert order == list("abc" + "abc" + "bca" + "cab" + "abc" + "bca")  # once untimed, then five rounds
    assert all(each.rounds == 5 for each in found.values())
    assert Latency.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Latency(3.0, 2.0, 4.0, 5)
    with pytest.raises(AnydiffError, match="seconds is 0"):
        interleaved_seconds({"a": lambda: None}, seconds=0)


@pytest.mark.skipif(not can_measure_memory(), reason="the system does not tell the peak of a process")
def test_the_peak_of_a_call():
    taken = peak_memory(lambda: torch.ones(64 << 20, dtype=torch.uint8).fill_(2))
    assert 0.9 * (64 << 20) < taken < 1.2 * (64 << 20)


def test_storages_of_a_real_call_are_those_that_were_predicted():
    pipeline = load("timeseries/traffic")
    call = network_call(pipeline, 4)
    network, told = pipeline.denoiser.network, torch.zeros(4)
    predicted = estimate_memory(network, tuple(call.x.shape[1:]), batch=4, condition=call.condition)
    assert counted_memory(network, call.x, told, call.condition) == predicted


def test_memory_of_a_network_that_is_told_two_numbers():
    pipeline = load("images/fashion-restore")
    assert pipeline.denoiser.path.told_size == 2
    assert predicted_memory(network_call(pipeline, 2), pipeline.domain) > 100_000
    with pytest.raises(AnydiffError, match="must be"):
        estimate_memory(pipeline.denoiser.network, pipeline.domain.spec.shape, condition=UNCONDITIONAL)


def test_the_command(capfd):
    arguments = ["cost", "trajectories/maze", "timeseries/traffic", "--seconds", "0.01", "--batch", "2", "--no-memory"]
    assert run_application([*arguments, "--json"]) == 0
    one, two = json.loads(capfd.readouterr().out)
    assert (one["name"], two["name"]) == ("trajectories/maze", "timeseries/traffic")
    assert one["multiply_adds"] == 3002368
    assert two["multiply_adds_per_sample"] == 20 * 6569984
    assert one["latency"]["2"]["rounds"] >= 5
    assert one["latency"]["2"]["lower"] <= one["latency"]["2"]["median"]
    assert run_application(arguments) == 0
    shown = capfd.readouterr().out
    assert "3,002,368" in shown
    assert "131,399,680" in shown


def test_memory_is_measured_in_a_process_of_its_own():
    if not can_measure_memory():
        pytest.skip("the system does not tell the peak of a process")
    (cost,) = costs({"m": load("timeseries/traffic")}, batches=(64,), seconds=0.01)
    assert cost.memory_measured[64] == pytest.approx(cost.memory_predicted[64], rel=0.25)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "'nowhere' is no run folder"),
        (["images/cifar10"], "has no bundled weights"),
        (["images/fashion", "images/fashion"], "'images/fashion' is named twice"),
        (["trajectories/maze", "--batch", "0", "--no-memory"], "batches is 0"),
        (["trajectories/maze", "--seconds", "0", "--no-memory"], "seconds is 0"),
    ],
)
def test_what_cannot_run_is_refused_in_a_sentence(arguments, sentence, capfd):
    assert run_application(["cost", *arguments]) == 2
    said = capfd.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_network_that_fails_is_named(monkeypatch):
    pipeline = load("trajectories/maze")
    monkeypatch.setattr(type(pipeline.denoiser.network), "forward", lambda *given: torch.zeros(3) @ torch.zeros(4))
    with pytest.raises(AnydiffError, match="the network of 'trajectories/maze' cannot be called with 2 rows"):
        network_call(pipeline, 2)
