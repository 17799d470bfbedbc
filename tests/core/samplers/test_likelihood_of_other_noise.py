"""Likelihoods under noise that is not Gaussian: PFGM++ against the density of its data and its Gaussian limit."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.denoisers.student_t_oracle import StudentTOracle
from anydiff.paths.pfgm_pp import PFGMPlusPlus
from anydiff.samplers import AdaptiveODE

pytest.importorskip("torchdiffeq")
MEANS = torch.tensor([[0.3, -0.2], [-0.9, 0.6]], dtype=torch.float64)
STD = 0.25
POINTS = MEANS[[0, 1, 0, 1]] + STD * torch.tensor([[0.0, 0.0], [1.0, -1.0], [2.0, 0.5], [-0.3, 0.1]])


def log_density(x: torch.Tensor) -> torch.Tensor:
    squared = (x[:, None] - MEANS).square().sum(-1) / (2 * STD**2)
    return torch.logsumexp(-squared - math.log(2), 1) - math.log(2 * math.pi * STD**2)


@pytest.mark.parametrize("dof", [1.0, 8.0, 128.0])
def test_it_is_the_density_of_the_data_for_every_number_of_degrees_of_freedom(dof: float) -> None:
    path = PFGMPlusPlus(dof=dof, t_start=2000.0)
    value = AdaptiveODE(t_end=1e-5).log_likelihood(StudentTOracle(path, MEANS, STD), POINTS)
    # What remains is the signal that the path leaves in its prior, of order 1/σ_T (0.008 at σ_T = 80).
    torch.testing.assert_close(value, log_density(POINTS), rtol=0, atol=5e-4)


def test_a_prior_of_another_law_would_be_seen() -> None:
    path = PFGMPlusPlus(dof=1.0)
    ode = AdaptiveODE()
    oracle = StudentTOracle(path, MEANS, STD)
    latents = ode.encode(oracle, POINTS) / path.sigma(path.t_start)
    right, wrong = path.noise_law.log_density(latents), -latents.square().sum(1) / 2 - math.log(2 * math.pi)
    assert ((right - wrong).abs() > 0.05).any()


def test_its_gaussian_limit_is_the_likelihood_of_gaussian_noise() -> None:
    many = AdaptiveODE().log_likelihood(StudentTOracle(PFGMPlusPlus(dof=1e5), MEANS, STD), POINTS)
    path = PFGMPlusPlus(dof=math.inf)
    limit = AdaptiveODE().log_likelihood(GaussianMixtureOracle(path, MEANS, STD), POINTS)
    torch.testing.assert_close(many, limit, rtol=0, atol=1e-6)
