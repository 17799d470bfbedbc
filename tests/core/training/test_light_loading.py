"""Weights load without torch's compiler, whose import alone takes two seconds."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from anydiff.training.budget import _SizeCheck, within_weights


class Hidden(TorchDispatchMode):
    """What torch hides from its compiler: the function is wrapped in one that imports the compiler."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_the_check_of_sizes_does_not_call_for_the_compiler(monkeypatch):
    assert hasattr(Hidden.__torch_dispatch__, "__wrapped__")
    assert not hasattr(_SizeCheck.__torch_dispatch__, "__wrapped__")
    monkeypatch.setattr("torch._dynamo.disable", None)  # which the wrapper would call
    with within_weights({"a": torch.zeros(3)}, "'file'"):
        torch.nn.Linear(2, 2)
