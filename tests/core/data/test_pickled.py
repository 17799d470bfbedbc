"""Pickled checkpoints become safetensors, and one that asks for code is refused with its names."""

from __future__ import annotations

import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file

from anydiff.cli.main import run
from anydiff.data.pickled import tensors_of_checkpoint
from anydiff.errors import AnydiffError, FileFormatError


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_a_checkpoint_becomes_safetensors(tmp_path, capsys):
    tensors = OrderedDict(a=torch.arange(3.0), b=torch.ones(2, 2))
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "one.ckpt")
    assert run(["convert", str(tmp_path / "one.ckpt"), str(tmp_path / "one.safetensors")]) == 0
    found = load_file(tmp_path / "one.safetensors")
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert run(["convert", str(tmp_path / "one.ckpt"), str(tmp_path / "one.safetensors")]) != 0
    assert "exists" in capsys.readouterr().err


def test_several_tables_need_a_key(tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}}, tmp_path / "two.pt")
    with pytest.raises(AnydiffError, match=r"holds 2 tables of tensors \(model, ema\); choose one with --key"):
        tensors_of_checkpoint(tmp_path / "two.pt")
    assert torch.equal(tensors_of_checkpoint(tmp_path / "two.pt", "ema")["a"], torch.ones(1))
    with pytest.raises(AnydiffError, match="has no table of tensors 'emma'"):
        tensors_of_checkpoint(tmp_path / "two.pt", "emma")


def test_objects_are_named_and_never_built(tmp_path, capsys):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "callback": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(FileFormatError, match=r"asks for 1 objects to be built by code \(.*print\), which is refused"):
        tensors_of_checkpoint(tmp_path / "evil.ckpt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FileFormatError, match="damaged or no checkpoint of torch"):
        tensors_of_checkpoint(tmp_path / "plain.pkl")
    with pytest.raises(AnydiffError, match="is not a file"):
        tensors_of_checkpoint(tmp_path / "absent.pkl")
    assert "executed" not in capsys.readouterr().out
