"""The scores of the claim tsdiff, which average over the truth's law, against draws of it."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.metrics.ensembles import crps
from anydiff_benchmarks.claims.tsdiff import expected_coverage, expected_crps


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_expected_scores_are_the_mean_over_draws_of_the_truth():
    members, mean, std = draws(2, 16, 3), draws(2, 3, seed=1), torch.tensor([0.4, 0.8, 1.3]).double()
    truths = mean + std * draws(20_000, 2, 3, seed=2)
    drawn = crps(members.repeat(20_000, 1, 1), truths.reshape(-1, 3)).reshape(-1, 2, 3)
    torch.testing.assert_close(expected_crps(members, mean, std), drawn.mean(0), rtol=0, atol=0.03)
    low, high = members.quantile(0.05, dim=1), members.quantile(0.95, dim=1)
    share = ((truths >= low) & (truths <= high)).double().mean(0)
    torch.testing.assert_close(expected_coverage(members, mean, std), share, rtol=0, atol=0.015)


def test_a_point_at_the_mean_scores_the_mean_absolute_deviation():
    std = torch.tensor([2.0]).double()
    score = expected_crps(torch.zeros(1, 1, 1).double(), torch.zeros(1, 1).double(), std)
    assert float(score) == pytest.approx(2 * math.sqrt(2 / math.pi), rel=1e-12)
