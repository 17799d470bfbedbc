"""The loss of mixed states: entropies for exact predictions, squared errors as of `denoising`, and a network learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.base import FunctionDenoiser
from anydiff.errors import AnydiffError
from anydiff.objectives import Denoising, Mixed
from anydiff.paths import Flow, Masked, Uniform, VPLinear
from anydiff.paths.mixed import MixedPath
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.states import Leaf, NoiseSource, StateSpec, uniform

SPEC = StateSpec([Leaf("x", (1,)), Leaf("c", (1,), "categorical", 2)])
CHANCE = 0.3


def mixed(classes=None) -> MixedPath:
    return MixedPath((("x", Flow()), ("c", classes or Masked()))).bind(SPEC)


def batch(path: MixedPath, count: int, seed: int = 0):
    """x = ±1 by the class, deviation 0.25."""
    rows = range(count)
    classes = (uniform(seed, rows, 0, "class") < CHANCE).double()
    numbers = 2 * classes - 1 + 0.25 * torch.randn(count, generator=torch.Generator().manual_seed(seed)).double()
    noise = NoiseSource(SPEC, seed, path.noise_law).draw(rows, 0)
    return torch.stack([numbers, classes], 1).float(), noise, uniform(seed, rows, 0, "time")


@pytest.mark.parametrize("classes", [Masked(), Masked("cosine"), Uniform()])
def test_the_class_of_an_exact_prediction_costs_its_entropy(classes) -> None:
    path = mixed(classes)
    ((_, rule),) = path.classes

    def exact(state: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """As if the number said nothing: the posterior of a class alone."""
        c, (kept, replaced, masked) = state[:, 1].long(), rule.marginal(t)
        law = torch.tensor([1 - CHANCE, CHANCE]).double()
        own = torch.where(
            (c == 2)[:, None], masked[:, None], replaced[:, None] / 2 + kept[:, None] * torch.eye(3)[c, :2]
        )
        own = torch.where((replaced == 0)[:, None] & (c < 2)[:, None], torch.eye(3).double()[c, :2], own)
        return torch.cat([torch.zeros_like(state[:, :1]).double(), torch.log(law * own)], dim=1)

    denoiser = FunctionDenoiser(exact, path, "data")
    denoiser.spec = SPEC
    losses = Mixed().terms(denoiser, *batch(path, 60_000))
    assert set(losses) == {"x", "c"}
    wanted = -CHANCE * math.log(CHANCE) - (1 - CHANCE) * math.log(1 - CHANCE)
    found, error = losses["c"].double().mean(), losses["c"].double().std() / 60_000**0.5
    assert float(error) < 0.02
    assert abs(float(found) - wanted) < 4 * float(error)


def test_numbers_cost_what_denoising_says_and_weights_weigh() -> None:
    path = mixed()
    clean, noise, u = batch(path, 30)
    both = FunctionDenoiser(lambda s, t: torch.cat([0.5 * s[:, :1], torch.zeros(len(s), 2)], 1), path, "data")
    both.spec = SPEC
    alone = FunctionDenoiser(lambda x, t: 0.5 * x, Flow(), "data")
    wanted = Denoising("snr-clipped")(alone, clean[:, :1], noise[:, :1].float(), u)  # its times are uniform, too
    found = Mixed({"x": 3.0, "c": 0.0}).terms(both, clean, noise, u)
    assert torch.allclose(found["x"], 3 * wanted, rtol=1e-4)
    assert not found["c"].any()


class Net(nn.Module):
    """A number and a class to a number and two logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 3))

    def forward(self, x, log_snr, condition):
        seen = torch.nn.functional.one_hot(x[:, 1].long(), 3).float()
        made = self.layers(torch.cat([x[:, :1], log_snr.clamp(-9, 9)[:, None], seen], dim=1))
        return made


def test_a_network_learns_number_and_class_together() -> None:
    torch.manual_seed(0)
    path = mixed()
    denoiser, objective = NetworkDenoiser(Net(), path, "data", spec=SPEC), Mixed()
    objective.prepare(denoiser)
    optimiser = torch.optim.Adam(denoiser.parameters(), 5e-3)
    drawn = batch(path, 16_384)
    for step in range(250):
        rows = slice(step % 32 * 512, (step % 32 + 1) * 512)
        loss = objective(denoiser, *(each[rows] for each in drawn)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = sample(denoiser, SPEC, 2000, solver=compile_plan("ddpm", path, 16, grid="time"), batch_size=2000)
    assert float((found[:, 1] == 1).double().mean()) == pytest.approx(CHANCE, abs=0.08)
    assert float(((found[:, 0] > 0) == (found[:, 1] == 1)).double().mean()) > 0.95


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Mixed({"x": -1.0}), "weights.x is -1.0"),
        (lambda: Mixed(weighting="edn"), "did you mean 'edm'"),
        (lambda: Mixed({"y": 1.0}).prepare(NetworkDenoiser(Net(), mixed(), "data", spec=SPEC)), "leaf 'y'"),
        (lambda: Mixed().prepare(NetworkDenoiser(Net(), VPLinear(), "data")), "carries one kind"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()
