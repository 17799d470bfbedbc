"""What a method of a suite may say (guidance by name, options, unknown keys), and how its network calls are counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import Clamp, CountingDenoiser, DynamicThreshold
from anydiff.errors import UnknownNameError
from anydiff.paths import VPLinear
from anydiff.recipes.build import build_guidance
from anydiff.states import UNCONDITIONAL, StateSpec
from anydiff_benchmarks.engine.suite import Method, Suite


def test_a_method_of_a_suite_names_guidance_and_its_options():
    plain = Method.parse({"solver": "ddim", "guidance": 2.0}, "suite")
    assert plain.guidance == 2.0
    assert plain.identity()["guidance"] == 2.0  # as before: rows keep their keys
    named = Method.parse({"solver": "ddim", "guidance": "clamp"}, "suite")
    assert build_guidance(named.guidance) == [Clamp()]
    assert named.title == "ddim (guidance=clamp)"
    both = {"name": "dynamic-threshold", "options": {"quantile": 0.9}}
    many = Method.parse({"solver": "ddim", "guidance": ["clamp", both]}, "suite")
    assert many.title == "ddim (guidance=clamp+dynamic-threshold(quantile=0.9))"
    assert build_guidance(many.guidance) == [Clamp(), DynamicThreshold(0.9)]
    with pytest.raises(UnknownNameError, match="'option'; did you mean 'options'"):
        Method.parse({"solver": "ddim", "guidance": {"name": "clamp", "option": {}}}, "suite")


def test_a_suite_refuses_guidance_that_nobody_provides():
    data = {"name": "a", "methods": [{"solver": "ddim", "guidance": "clam"}], "nfe": [1], "seeds": [0]}
    with pytest.raises(UnknownNameError, match="unknown guidance 'clam'; did you mean 'clamp'"):
        Suite.parse(data, "suite 'a'").check_names()


def test_an_unknown_key_in_a_suite_lists_those_of_a_method():
    data = {"name": "a", "methods": ["ddim", {"solver": "ddim", "zzz": 1}], "nfe": [1], "seeds": [0]}
    with pytest.raises(
        UnknownNameError, match=r"known: calibration, end, grid, guidance, inverse, label, options, solver"
    ):
        Suite.parse(data, "suite 'a'")


class Zero(nn.Module):
    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        return torch.zeros_like(x)


def test_a_counting_denoiser_keeps_the_spec():
    spec = StateSpec.single((4, 2), mask_axes=(0,))
    assert CountingDenoiser(NetworkDenoiser(Zero(), VPLinear(), "noise", 1.0, spec)).spec is spec
