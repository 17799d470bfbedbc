"""Exported weights: the same model is the same bytes, whatever process writes it."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors import safe_open

from anydiff.errors import AnydiffError
from anydiff.pipeline import load
from anydiff.training import load_weights, save_weights


def test_exports_of_one_model_are_the_same_bytes(run, tmp_path):
    digests = set()
    for number in range(4):  # the library draws the order of the metadata anew for each file
        path = tmp_path / f"{number}.safetensors"
        load(run).save(path, dtype=torch.float16)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    assert load(path).weights_hash == load(path).weights_hash


def test_sorting_the_metadata_keeps_every_text_and_tensor(tmp_path):
    metadata = {"z": 'ü \u2028 " \\ \n \x1f \x7f 🙂', "a": "", "m": "{}"}
    tensors = {"w": torch.arange(5.0), "é": torch.ones(2, 3, dtype=torch.bfloat16)}
    save_weights(tmp_path / "w.safetensors", tensors, metadata)
    read, texts = load_weights(tmp_path / "w.safetensors")
    assert {name: texts[name] for name in metadata} == metadata
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(tensors)


def test_a_weight_that_does_not_fit_the_type_is_refused(run, tmp_path):
    pipeline = load(run)
    with torch.no_grad():
        next(pipeline.denoiser.network.parameters()).fill_(1e6)
    with pytest.raises(AnydiffError, match=r"holds values that torch\.float16 cannot hold; save as bfloat16"):
        pipeline.save(tmp_path / "a.safetensors", dtype=torch.float16)
    assert not (tmp_path / "a.safetensors").exists()
    pipeline.save(tmp_path / "a.safetensors", dtype=torch.bfloat16)
