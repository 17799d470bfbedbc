"""The chain of DDPM for networks of this library: its steps, its schedules, and who may be told of rungs."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.paths import DiscreteVP, Ladder
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_denoiser
from anydiff.solvers import compile_plan, execute
from anydiff.states import NoiseSource, StateSpec

STEPS = 20


class Recorded(NoiseSource):
    """Normal numbers that are kept, so that a second computation has the same."""

    def draw(self, *given):
        made = super().draw(*given)
        self.drawn.append(made)
        return made


@pytest.mark.parametrize("schedule", ["linear", "scaled-linear", "cosine", "sigmoid", "diffusion-rate"])
def test_every_schedule_is_a_chain_whose_signal_falls(schedule):
    ends = {"beta_start": 0.1, "beta_end": 20.0} if schedule == "diffusion-rate" else {}
    path = DiscreteVP(schedule, steps=STEPS, **ends)
    rungs = torch.arange(STEPS, dtype=torch.float64)
    kept = torch.cumprod(1 - torch.tensor(path._rates(), dtype=torch.float64), 0)
    torch.testing.assert_close(path.alpha(rungs) ** 2, kept, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(path.sigma(rungs) ** 2, 1 - kept, rtol=1e-9, atol=1e-12)
    assert (kept.diff() < 0).all()
    assert kept[0] < 1


def test_the_rungs_of_prodiff():
    path = DiscreteVP("diffusion-rate", 0.1, 40.0, steps=5)
    alpha = path.alpha(torch.arange(5, dtype=torch.float64))
    torch.testing.assert_close(alpha, torch.tensor([0.664, 0.199, 0.0268, 0.00162, 4.4e-5]).double(), rtol=1e-2, atol=0)


def test_ddim_with_all_of_its_noise_on_every_rung_is_a_step_of_ddpm_with_the_small_variance():
    """x' = √ᾱ' β/(1 - ᾱ) D + √(1 - β) (1 - ᾱ')/(1 - ᾱ) x + √(β (1 - ᾱ')/(1 - ᾱ)) ξ, ' being one rung lower."""
    path = DiscreteVP(steps=STEPS, beta_end=0.3)
    oracle = GaussianOracle(path, torch.tensor([0.4, -1.0], dtype=torch.float64), 0.3)
    plan = compile_plan("ddim", path, STEPS - 1, [float(i) for i in reversed(range(STEPS))], end="stop", eta=1.0)
    start = torch.tensor([[0.7, -0.3], [2.0, 1.0]], dtype=torch.float64)
    noise = Recorded(StateSpec.single((2,)), 0)
    noise.drawn = []
    found = execute(plan, oracle, start, noise=noise)
    beta = torch.tensor(path._rates(), dtype=torch.float64)
    kept, x = torch.cumprod(1 - beta, 0), start
    for number, i in enumerate(range(STEPS - 1, 0, -1)):
        data = oracle(x, float(i))
        mean = (kept[i - 1].sqrt() * beta[i] * data + (1 - beta[i]).sqrt() * (1 - kept[i - 1]) * x) / (1 - kept[i])
        x = mean + (beta[i] * (1 - kept[i - 1]) / (1 - kept[i])).sqrt() * noise.drawn[number]
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_a_network_of_this_library_is_told_the_log_snr_and_refused_where_rungs_are_told():
    times = torch.tensor([0.0, 3.5, 19.0], dtype=torch.float64)
    torch.testing.assert_close(DiscreteVP(steps=STEPS).told(times), Ladder(steps=STEPS).log_snr(times))
    assert torch.equal(Ladder(steps=STEPS).told(times), times)
    recipe = load_recipe("images/fashion", ["path=vp-discrete"])
    assert build_denoiser(recipe).path == DiscreteVP()
    with pytest.raises(AnydiffError, match=r"'unet' reads the log-SNR, .* choose the path 'vp-discrete'"):
        build_denoiser(load_recipe("images/fashion", ["path=ladder"]))
