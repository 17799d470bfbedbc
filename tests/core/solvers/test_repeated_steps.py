"""DDPM with repeated steps: the same law, more calls, and plans of before as they were."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser
from anydiff.errors import AnydiffError
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.ddim import DDPM
from anydiff.solvers.plan import Evaluate

PATH = VPLinear()


def test_once_is_the_plan_of_before_and_repeats_cost_calls():
    once = compile_plan("ddpm", PATH, 6)
    assert once.solver == "DDPM(variance='posterior')"
    assert compile_plan("ddpm", PATH, 6, repeats=1).to_json() == once.to_json()
    often = compile_plan("ddpm", PATH, 18, repeats=3)
    assert often.solver == "DDPM(variance='posterior', repeats=3)"
    assert len(often.nodes) == len(once.nodes)
    assert sum(isinstance(each, Evaluate) for each in often.instructions) == often.nfe == 18
    assert DDPM(repeats=3).steps(20) == 6


@pytest.mark.parametrize("repeats", [1, 4])
def test_the_law_of_a_point_is_kept_at_every_repeat(repeats):
    """From x_T of one point's own law every step back and forth keeps N(α x_0, σ²)."""
    exact = FunctionDenoiser(lambda x, t: torch.full_like(x, 0.6), PATH)
    grid = [1.0, 0.7, 0.4]
    options = {"grid": grid, "end": "stop", "dtype": torch.float64, "batch_size": 20000}
    found = sample(exact, (1,), 20000, solver="ddpm", nfe=2 * repeats, repeats=repeats, **options)
    sigma = PATH.sigma(0.4)
    assert abs(float(found.mean()) - 0.6 * PATH.alpha(0.4)) < 4 * sigma / 20000**0.5
    assert abs(float(found.var()) / sigma**2 - 1) < 4 * (2 / 20000) ** 0.5


def test_repeats_are_a_whole_number():
    for wrong in (0, -1, 1.5):
        with pytest.raises(AnydiffError, match="repeats"):
            DDPM(repeats=wrong)
