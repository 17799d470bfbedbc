"""Mixtures with full covariances and their exact posteriors, against quadrature and against one another."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import GaussianMixtureOracle, GaussianOracle, MeasuredMixtureOracle, MixtureOracle
from anydiff.errors import AnydiffError
from anydiff.paths import Flow, VPCosine
from anydiff.samplers import sample
from anydiff.states import Conditioning

PATH = VPCosine()
MEANS = torch.tensor([[1.0, 0.5], [-1.0, 0.2]], dtype=torch.float64)
COVARIANCES = torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.1, -0.05], [-0.05, 0.4]]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
OPERATOR, NOISE = torch.tensor([[1.0, -0.5]], dtype=torch.float64), 0.3


def mixture(path=PATH):
    return MixtureOracle(path, MEANS, COVARIANCES, WEIGHTS)


def grid():
    axis = torch.linspace(-5, 5, 401, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = torch.zeros(len(points), dtype=torch.float64)
    for weight, mean, cov in zip(WEIGHTS, MEANS, COVARIANCES, strict=True):
        law = torch.distributions.MultivariateNormal(mean, cov)
        density += weight * law.log_prob(points).exp()
    return points, density * float(axis[1] - axis[0]) ** 2


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_mean_and_density_against_quadrature(t):
    points, density = grid()
    alpha, sigma = PATH.alpha(t), PATH.sigma(t)
    x = torch.tensor([[0.4, -0.3], [-1.2, 0.9]], dtype=torch.float64)
    kernel = (-(x[:, None] - alpha * points).square().sum(2) / (2 * sigma**2)).exp() / (2 * math.pi * sigma**2)
    mass = kernel @ density
    assert torch.allclose(mixture()(x, t), (kernel * density) @ points / mass[:, None], atol=1e-6)
    assert torch.allclose(mixture().log_density(x, t), mass.log(), atol=1e-6)


def test_it_is_the_simpler_oracles_where_those_apply():
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    round_ones = MixtureOracle(PATH, MEANS, 0.09 * torch.eye(2), WEIGHTS)
    simple = GaussianMixtureOracle(PATH, MEANS, 0.3, WEIGHTS)
    one = MixtureOracle(PATH, MEANS[:1], COVARIANCES[0])
    for t in (0.2, torch.linspace(0.1, 0.9, 5, dtype=torch.float64)):
        assert torch.allclose(round_ones(x, t), simple(x, t), atol=1e-10)
        assert torch.allclose(one(x, t), GaussianOracle(PATH, MEANS[0], COVARIANCES[0])(x, t), atol=1e-10)
    assert round_ones(x.float(), 0.2).dtype == torch.float32


def test_the_posterior_against_quadrature():
    points, density = grid()
    y = torch.tensor([[0.8], [-1.1]], dtype=torch.float64)
    fit = (-(y - points @ OPERATOR.T[:, 0]).square() / (2 * NOISE**2)).exp() * density
    fit = fit / fit.sum(1, keepdim=True)
    oracle = MeasuredMixtureOracle(mixture(), OPERATOR, NOISE)
    assert torch.allclose(oracle.posterior(y), fit @ points, atol=1e-6)
    x, t = torch.tensor([[0.4, -0.3], [-1.2, 0.9]], dtype=torch.float64), 0.4
    alpha, sigma = PATH.alpha(t), PATH.sigma(t)
    kernel = (-(x[:, None] - alpha * points).square().sum(2) / (2 * sigma**2)).exp() * fit
    right = kernel @ points / kernel.sum(1, keepdim=True)
    assert torch.allclose(oracle(x, t, Conditioning({"measurement": y})), right, atol=1e-6)
    with pytest.raises(AnydiffError, match="measurement is missing"):
        oracle(x, t)


@pytest.mark.parametrize("path", [VPCosine(), Flow()], ids=["vp", "flow"])
def test_sampling_with_the_posterior_denoiser_is_its_sampler(path):
    oracle = MeasuredMixtureOracle(mixture(path), OPERATOR, NOISE)
    y = torch.tensor([[0.2]], dtype=torch.float64).expand(4000, 1)
    exact = oracle.sample(y, torch.Generator().manual_seed(1))
    made = sample(
        oracle, (2,), 4000, nfe=60, solver="dpm-solver++-2m", condition={"measurement": y}, dtype=torch.float64,
        batch_size=4000,
    )  # fmt: skip
    assert torch.allclose(made.mean(0), exact.mean(0), atol=0.06)
    assert torch.allclose(made.T.cov(), exact.T.cov(), atol=0.06)
    assert torch.allclose(exact.mean(0), oracle.posterior(y[:1])[0], atol=0.05)


def test_prior_draws_have_the_mixtures_moments():
    drawn = mixture().sample(20000, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.mean(0), WEIGHTS @ MEANS, atol=0.02)
    total = sum(w * (c + torch.outer(m, m)) for w, c, m in zip(WEIGHTS, COVARIANCES, MEANS, strict=True))
    mean = WEIGHTS @ MEANS
    assert torch.allclose(drawn.T.cov(), total - torch.outer(mean, mean), atol=0.03)


def test_what_is_refused():
    with pytest.raises(AnydiffError, match="covariances have shape"):
        MixtureOracle(PATH, MEANS, torch.eye(3))
    with pytest.raises(AnydiffError, match="must be 2 numbers"):
        MixtureOracle(PATH, MEANS, torch.eye(2), torch.tensor([1.0, -1.0]))
