"""The losses of interpolants: minimisers, and what antithetic pairs do at the ends."""

from __future__ import annotations

import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.objectives import InterpolantLoss, Prediction
from anydiff.paths import Interpolant
from anydiff.states import Conditioning


class Constant(nn.Module):
    """A prediction that is one number, or that number times the state."""

    def __init__(self, times_state):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.times_state = times_state

    def forward(self, x, told, condition):
        return self.value * x if self.times_state else self.value + 0 * x


def batch(count, seed=0):
    make = torch.Generator().manual_seed(seed)
    clean, start, noise = torch.randn(3, count, 1, generator=make, dtype=torch.float64)
    return clean, noise, Conditioning(sources={"start": start})


def gradient(objective, kind, u, count, seed=0, times_state=False):
    """d loss/d value of every example at one u."""
    denoiser = NetworkDenoiser(Constant(times_state), Interpolant(), kind)
    clean, noise, condition = batch(count, seed)
    losses = objective(denoiser, clean, noise, torch.full((count,), 1 - u, dtype=torch.float64), condition)
    parameter = denoiser.network.value
    return torch.stack([torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in losses])


def test_pairs_take_the_explosion_at_the_ends_away():
    for kind in ("score", "flow"):
        plain = gradient(InterpolantLoss(antithetic=False), kind, 1e-3, 200).var()
        paired = gradient(InterpolantLoss(), kind, 1e-3, 200).var()
        assert float(paired) < float(plain) / 10, kind


def test_the_gradient_is_that_of_the_regression():
    for kind in ("noise", "interpolant", "data", "start"):
        one = gradient(InterpolantLoss(), kind, 0.4, 50, times_state=True)
        two = gradient(Prediction(), kind, 0.4, 50, times_state=True)
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    for kind in ("flow", "score"):
        pairs = gradient(InterpolantLoss(), kind, 0.4, 300, times_state=True)
        plain = gradient(Prediction(), kind, 0.4, 300, times_state=True)
        error = float((pairs - plain).std()) / 300**0.5
        assert abs(float(pairs.mean() - plain.mean())) < 4 * error, kind
