"""A mean-reverting path is trained with the condition it leads to, and then samples the exact conditional law."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.objectives import Denoising, FlowMatching
from anydiff.objectives.energy import denoising_energy
from anydiff.paths import MeanReverting
from anydiff.samplers import sample
from anydiff.states import Conditioning

PATH = MeanReverting(noise=0.5)
GAIN, SHIFT, STD = 0.5, 0.3, 0.1
"""x0 | μ is normal with mean GAIN μ + SHIFT and deviation STD."""


class Network(nn.Module):
    """a x + b μ + c with a, b, c a perceptron of the noise level: the exact mean is of this form."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 3))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning) -> Tensor:
        a, b, c = self.layers(log_snr[:, None] / 2).split(1, dim=1)
        return a * x + b * condition.given["mu"] + c


def data(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    mu = 0.4 * torch.randn(count, 2, generator=generator)
    return GAIN * mu + SHIFT + STD * torch.randn(count, 2, generator=generator), mu


@pytest.fixture(scope="module")
def trained() -> NetworkDenoiser:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(Network(), PATH, "data", sigma_data=0.4)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 600)
    objective = Denoising("data")
    for _ in range(600):
        clean, mu = data(256, generator)
        noise = torch.randn(clean.shape, generator=generator)
        uniform = torch.rand(len(clean), generator=generator)
        loss = objective(denoiser, clean, noise, uniform, Conditioning({"mu": mu})).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return denoiser.eval()


def exact(x: Tensor, t: float, mu: Tensor) -> Tensor:
    """E[x0 | x_t, μ]."""
    alpha, sigma = PATH.alpha(t), PATH.sigma(t)
    mean = GAIN * mu + SHIFT
    return mean + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * mean - (1 - alpha) * mu)


def test_the_network_learns_the_exact_mean(trained: NetworkDenoiser) -> None:
    generator = torch.Generator().manual_seed(1)
    clean, mu = data(2000, generator)
    noise = torch.randn(clean.shape, generator=generator)
    for t in (0.1, 0.4, 0.9):
        x = PATH.mix(torch.full((2000,), t), x0=clean, noise=noise, mu=mu)
        with torch.no_grad():
            error = (trained(x, t, Conditioning({"mu": mu})) - exact(x, t, mu)).square().mean().sqrt()
        assert error < 0.25 * STD, (t, error)


@pytest.mark.parametrize("solver", ["ddpm", "dpm-solver++-2m"])
def test_samples_have_the_exact_law_given_the_condition(trained: NetworkDenoiser, solver: str) -> None:
    mu = torch.tensor([[0.6, -0.2]]).expand(3000, 2)
    with torch.no_grad():
        drawn = sample(trained, (2,), 3000, nfe=60, solver=solver, condition={"mu": mu}, batch_size=3000)
    assert (drawn.mean(0) - (GAIN * mu[0] + SHIFT)).abs().max() < 0.4 * STD
    assert drawn.std(0).tolist() == pytest.approx([STD, STD], rel=0.25)


def test_what_lacks_the_condition_or_predicts_something_else_is_refused() -> None:
    x, t = torch.zeros(3, 2), torch.full((3,), 0.5)
    denoiser = NetworkDenoiser(Network(), PATH, "data")
    for call in (
        lambda: Denoising("data")(denoiser, x, x, t),
        lambda: FlowMatching()(denoiser, x, x, t),
        lambda: denoising_energy(denoiser, x, 0.5, x),
    ):
        with pytest.raises(AnydiffError, match="leads to a known 'mu', which is not given"):
            call()
    with pytest.raises(AnydiffError, match=r"parametrization is 'start', which has no meaning on MeanReverting"):
        NetworkDenoiser(Network(), PATH, "start")
