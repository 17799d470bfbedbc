"""What the docs and the warning say of known entries under a network that sees them noised, measured."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from anydiff.denoisers import GaussianOracle
from anydiff.denoisers.wrappers import KnownEntries
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.states import Conditioning, Known

SIDE, COUNT = 8, 400


def field() -> tuple[Tensor, Tensor, Tensor]:
    """Covariance of a Gaussian field of correlation length 2, which entries are known, and one draw."""
    axis = torch.arange(SIDE, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    covariance = torch.exp(-torch.cdist(places, places).square() / 8) + 1e-4 * torch.eye(SIDE**2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    draw = torch.linalg.cholesky(covariance) @ torch.randn(SIDE**2, dtype=torch.float64, generator=generator)
    return covariance, places[:, 1] < SIDE / 2, draw


@pytest.mark.parametrize(("solver", "low", "high"), [("ddpm", 1.3, 1.5), ("dpm-solver++-2m", 1.75, 1.95)])
def test_spread_and_mean_on_a_field_are_as_wrong_as_the_docs_say(solver, low, high):
    covariance, known, draw = field()
    rest = ~known
    gain = covariance[rest][:, known] @ torch.linalg.inv(covariance[known][:, known])
    mean = gain @ draw[known]
    deviation = (covariance[rest][:, rest] - gain @ covariance[known][:, rest]).diagonal().sqrt()
    oracle = GaussianOracle(VPLinear(), torch.zeros(SIDE**2, dtype=torch.float64), covariance)
    condition = Conditioning(known=Known(draw.expand(COUNT, -1), known.expand(COUNT, -1)))
    with pytest.warns(UserWarning, match="are not drawn from their exact law") as told:
        states = sample(
            oracle, (SIDE**2,), COUNT, nfe=20, solver=solver, dtype=torch.float64, guidance=KnownEntries(),
            condition=condition, batch_size=100,
        )[:, rest]  # fmt: skip
    assert len(told) == 1  # once for a call, not for each of its batches
    assert low < float((states.std(0) / deviation).mean()) < high
    assert 1.5 < float(((states.mean(0) - mean) / deviation).square().mean().sqrt()) < 1.9


def test_no_warning_without_known_entries_or_where_the_network_sees_them_clean():
    oracle = GaussianOracle(VPLinear(), torch.zeros(2, dtype=torch.float64), 1.0)
    known = Conditioning(known=Known(torch.zeros(2, 2), torch.tensor([[True, False]] * 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(oracle, (2,), 2, nfe=2, guidance=KnownEntries())
        sample(oracle, (2,), 2, nfe=2, guidance=KnownEntries(shown="clean"), condition=known)
