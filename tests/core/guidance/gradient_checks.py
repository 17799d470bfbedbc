"""What gradient guidance is held to, as functions that mutants are tried on: exact posteriors, supports, norms."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.denoisers import GaussianOracle, LinearGaussianOracle
from anydiff.guidance import LookAhead, NaiveGradient
from anydiff.paths.base import GaussianPath
from anydiff.states import UNCONDITIONAL, Conditioning

KINDS = ("data", "noise", "score", "velocity", "flow", "edm")
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.3, 0.2, 0.7]], dtype=torch.float64)
COVARIANCE, MEAN = ROOT @ ROOT.T, torch.tensor([0.4, -0.2, 0.1], dtype=torch.float64)
DIRECTION, TARGET, NOISE_STD = torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64), 1.3, 0.2


def states(rows: int = 4, size: int = 3) -> Tensor:
    return torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def times(path: GaussianPath) -> list[float]:
    return [path.t_end + share * (path.t_start - path.t_end) for share in (0.03, 0.3, 0.6, 0.9)]


def check_posterior(path: GaussianPath) -> None:
    """Guided by g·x_0 = y ± s, the denoiser of correlated Gaussian data is that of the posterior, in every kind."""
    truth = LinearGaussianOracle(path, MEAN, COVARIANCE, DIRECTION[None], NOISE_STD)
    guided = LookAhead(DIRECTION, TARGET, NOISE_STD)(GaussianOracle(path, MEAN, COVARIANCE))
    asked = Conditioning({"measurement": torch.full((4, 1), TARGET, dtype=torch.float64)})
    for t in times(path):
        x = path.prior_std * states()
        for kind in KINDS:
            expected = truth.predict(x, t, kind, asked)
            size = float(expected.abs().max())
            torch.testing.assert_close(guided.predict(x, t, kind), expected, rtol=1e-7, atol=1e-7 * size)


def check_identity(path: GaussianPath) -> None:
    """Where data are N(0, I) and α² + σ² = 1, all three forms are the exact posterior."""
    truth = LinearGaussianOracle(path, torch.zeros(3), torch.eye(3), DIRECTION[None], NOISE_STD)
    prior = GaussianOracle(path, torch.zeros(3), 1.0)
    asked = Conditioning({"measurement": torch.full((4, 1), TARGET, dtype=torch.float64)})
    for t in times(path):
        expected = truth(states(), t, asked)
        for made in (
            LookAhead(DIRECTION, TARGET, NOISE_STD),
            LookAhead(DIRECTION, TARGET, NOISE_STD, variance="published"),
            NaiveGradient(DIRECTION, TARGET, NOISE_STD),
        ):
            torch.testing.assert_close(made(prior)(states(), t), expected, rtol=1e-8, atol=1e-8)


def check_support(path: GaussianPath) -> None:
    """Data x = A u: the look-ahead pull lies in the span of A, the naive one does not."""
    basis = torch.linalg.qr(torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    prior = GaussianOracle(path, torch.zeros(8), basis @ basis.T)
    direction, outside = states(8, 8).sum(0), torch.eye(8, dtype=torch.float64) - basis @ basis.T
    x = states(5, 8)
    given = (torch.ones(5, dtype=torch.float64), torch.full((5,), 0.1, dtype=torch.float64))
    for t in times(path):
        score = prior.predict(x, t, "score")
        off = -x @ outside / path.sigma(t) ** 2
        torch.testing.assert_close(score @ outside, off, rtol=1e-6, atol=1e-6 * float(off.abs().max()))
        for made, stays in ((LookAhead(direction, 1.0), True), (NaiveGradient(direction, 1.0), False)):
            with torch.no_grad():
                _, pull = made.pull(prior, x, t, UNCONDITIONAL, direction.expand(5, 8), *given)
            share = float((pull @ outside).norm() / pull.norm())
            assert (share < 1e-6) == stays, share
