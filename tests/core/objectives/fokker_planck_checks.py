"""Exact statements about the Fokker-Planck residual, each a function that mutants of it must make fail."""

from __future__ import annotations

import torch

from anydiff.denoisers import Denoiser, GaussianMixtureOracle
from anydiff.objectives import fokker_planck_residual
from anydiff.paths import OrnsteinUhlenbeck
from anydiff.states import UNCONDITIONAL

MEANS = torch.tensor([[-1.0, 0.5], [1.2, 0.3], [0.1, -1.4]], dtype=torch.float64)


def mixture(path):
    return GaussianMixtureOracle(path, MEANS, torch.tensor([0.3, 0.5, 0.7]), torch.tensor([0.2, 0.5, 0.3]))


def points(path, rows=64, seed=0):
    """States and times from a twentieth of the path on."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(rows, 2, dtype=torch.float64, generator=generator)
    share = 0.05 + 0.9 * torch.rand(rows, dtype=torch.float64, generator=generator)
    return x, path.t_end + (path.t_start - path.t_end) * share


class Scored(Denoiser):
    """The score of another denoiser and no log-density."""

    native_kind = "score"

    def __init__(self, exact):
        self.exact, self.path = exact, exact.path

    def native(self, x, t, condition=UNCONDITIONAL):
        return self.exact.predict(x, t, "score", condition)


class Quadratic(Denoiser):
    """u = -κ(t) x²/2 + c(t) in one dimension on the Ornstein-Uhlenbeck process."""

    native_kind = "score"

    def __init__(self, kappa, constant):
        self.path, self.kappa, self.constant = OrnsteinUhlenbeck(), kappa, constant

    def log_density(self, x, t, condition=UNCONDITIONAL):
        return -self.kappa(t) * x[:, 0].square() / 2 + self.constant(t)

    def native(self, x, t, condition=UNCONDITIONAL):
        return -self.kappa(torch.as_tensor(t, dtype=torch.float64)).reshape(-1, 1) * x


def check_mixtures(path) -> None:
    """Diffused mixtures obey the equation: |R| < 1e-8 for the log-density, and so does their score."""
    for seed in (0, 1):
        x, t = points(path, seed=seed)
        scale = float(path.squared_diffusion(t).max()) + 1
        assert fokker_planck_residual(mixture(path), x, t).abs().max() < 1e-8 * scale
        assert fokker_planck_residual(Scored(mixture(path)), x, t).abs().max() < 1e-8 * scale


def check_coefficients() -> None:
    """R = (-κ'/2 + κ - κ²/2) x² + (c' - 1 + κ/2)."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    t = torch.linspace(0.1, 3, 9, dtype=torch.float64)
    found = fokker_planck_residual(Quadratic(lambda s: 1 + torch.sin(s), lambda s: s**2 / 3), x, t)
    kappa, slope = 1 + torch.sin(t), torch.cos(t)
    expected = (-slope / 2 + kappa - kappa**2 / 2) * x[:, 0] ** 2 + (2 * t / 3 - 1 + kappa / 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def variance(t, start):
    """P with P' = 1 - 2 P and P(0) = start."""
    return 0.5 + (start - 0.5) * torch.exp(-2 * t)


def wrong_start(start: float) -> Quadratic:
    """The exact solution of the equation that begins with the variance ``start``, whatever the data have."""
    return Quadratic(lambda s: 1 / variance(s, start), lambda s: -torch.log(variance(s, start)) / 2)


def check_wrong_start() -> None:
    """Any solution has R = 0, also one that begins with other data."""
    x, t = torch.randn(32, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.rand(32).double()
    for start in (0.1, 0.25, 0.9):
        assert fokker_planck_residual(wrong_start(start), x, t + 0.05).abs().max() < 1e-10
