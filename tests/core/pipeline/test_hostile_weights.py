"""Weights that are hostile or of another kind: refused before memory is taken, and never turned in silence."""

from __future__ import annotations

import json
import time

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from anydiff.errors import FileFormatError
from anydiff.pipeline import load
from anydiff.training import load_into, load_weights
from anydiff.training.budget import within_weights, without_budget


def hostile(run, tmp_path, **options):
    """The weights of ``run`` with other options of its network, and the memory that loading them took, in bytes."""
    tensors, metadata = load_weights(run / "model.safetensors")
    recipe = json.loads(metadata["recipe"])
    recipe["network"]["options"].update(options)
    path = tmp_path / "hostile.safetensors"
    save_file(tensors, path, {**metadata, "recipe": json.dumps(recipe)})
    return path


@pytest.mark.timing
@pytest.mark.parametrize(
    "options", [{"blocks": 1_000_000_000}, {"width": 100_000}, {"width": 10**7}, {"width": 4000, "blocks": 10_000}]
)
def test_weights_that_ask_for_a_huge_network_are_refused_at_once(run, tmp_path, options):
    path = hostile(run, tmp_path, **options)
    before = peak()
    start = time.perf_counter()
    with pytest.raises(
        FileFormatError, match=r"hostile\.safetensors' holds .* values, but its recipe asks for a network"
    ):
        load(path)
    assert time.perf_counter() - start < 5
    assert peak() - before < 512 << 20


def peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_smaller_or_larger_network_is_still_told_by_its_shapes(run, tmp_path):
    with pytest.raises(FileFormatError, match=r"has shape .* but the network needs"):
        load(hostile(run, tmp_path, width=7))
    with pytest.raises(FileFormatError, match=r"lacks the tensor|belongs to another"):
        load(hostile(run, tmp_path, blocks=9))


def test_deep_and_damaged_recipes_in_weights_are_one_sentence(run, tmp_path):
    tensors, metadata = load_weights(run / "model.safetensors")
    path = tmp_path / "deep.safetensors"
    for text in ("[" * 5000 + "]" * 5000, "[]", "7", "\ud7ff", '{"name": 1e999}'):
        save_file(tensors, path, {**metadata, "recipe": text})
        with pytest.raises(ValueError, match=r"deep\.safetensors'") as caught:
            load(path)
        assert type(caught.value).__module__ == "anydiff.errors"


def test_a_tensor_from_numbers_is_looked_at_before_it_is_made():
    tensors = {"a": torch.zeros(4)}
    for make in (
        lambda: torch.empty(10**12),
        lambda: torch.zeros(10**6, 10**6),
        lambda: torch.full((10**12,), 1.0),
        lambda: torch.randn(10**12),
        lambda: torch.normal(0.0, 1.0, (10**12,)),
        lambda: torch.arange(10**12),
        lambda: torch.arange(0.0, 1e9, 1e-3),
        lambda: torch.linspace(0, 1, 10**12),
        lambda: torch.eye(10**7),
        lambda: torch.ones(1).repeat(10**12),
        lambda: torch.ones(1).new_zeros(10**12),
        lambda: nn.Linear(10**6, 10**6),
        lambda: nn.ModuleList(nn.Identity() for _ in range(10**9)),
    ):
        with pytest.raises(FileFormatError, match=r"'w' holds 4 values"), within_weights(tensors, "'w'"):
            make()
    with within_weights(tensors, "'w'"):
        assert torch.arange(3).tolist() == [0, 1, 2]


def test_what_a_network_needs_beside_its_own_weights_has_a_budget_of_its_own(monkeypatch):
    monkeypatch.setattr("anydiff.training.budget.FREE_VALUES", 100)
    small, large = {"a": torch.zeros(4)}, {"a": torch.zeros(10_000)}
    with within_weights(small, "'small'"):
        with without_budget(), within_weights(large, "'large'"):
            nn.Linear(100, 100, bias=False)
            nn.Linear(100, 100, bias=False)
        nn.Linear(10, 10, bias=False)
        with pytest.raises(FileFormatError, match="'small'"):
            nn.Linear(10, 10, bias=False)
    nn.Linear(100, 100)


@pytest.mark.parametrize("given", [torch.int8, torch.uint8, torch.int64, torch.float64, torch.bool, torch.complex64])
def test_types_that_would_change_in_silence_are_refused(given):
    layer = nn.Linear(2, 2)
    before = layer.weight.clone()
    with pytest.raises(FileFormatError, match=rf"'weight' in 'w' is {str(given)[6:]}, but the network holds float32"):
        load_into(layer, {"weight": torch.ones(2, 2, dtype=given), "bias": torch.ones(2)}, "'w'")
    assert (layer.weight == before).all()


def test_eight_bit_floats_are_refused_and_wider_ones_widened():
    layer = nn.Linear(2, 2)
    with pytest.raises(FileFormatError, match="float8_e4m3fn"):
        load_into(layer, {"weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "bias": torch.ones(2)}, "'w'")
    for given in (torch.float16, torch.bfloat16, torch.float32):
        load_into(layer, {"weight": torch.full((2, 2), 0.5, dtype=given), "bias": torch.ones(2)}, "'w'")
        assert layer.weight.dtype == torch.float32
        assert (layer.weight == 0.5).all()


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(FileFormatError, match=r"'bias' in 'w' holds values that are not finite"):
        load_into(nn.Linear(2, 2), {"weight": torch.ones(2, 2), "bias": torch.tensor([0.0, torch.nan])}, "'w'")
