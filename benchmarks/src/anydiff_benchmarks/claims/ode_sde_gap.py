"""ODE-SDE gap: an imperfect score gives ODE and SDE different laws, and the Fokker-Planck residual closes the gap."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from anydiff import paths
from anydiff.denoisers import FunctionDenoiser, NetworkDenoiser, Potential
from anydiff.metrics import sliced_wasserstein
from anydiff.objectives import Denoising, FokkerPlanck, Sum, Weighted, fokker_planck_residual
from anydiff.paths import GaussianPath, OrnsteinUhlenbeck
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, StateSpec
from anydiff.training import ObjectiveMethod, RunFolder, TrainingSettings, fit, load_into, load_weights
from anydiff_benchmarks.claims.base import Claim, Verdict

FACTORS = (1.0, 1.1, 1.3, 0.8)
"""Of the exact slope of the score of N(0, P(t))."""
WEIGHTS = (0.0, 1.0)
STEPS, BATCH, SAMPLES, GRID, LATEST, BOX = 2000, 256, 20_000, 100, 4.0, 3.5

CLAIM = Claim(
    slug="ode_sde_gap",
    paper="Deveney, Stanczuk, Kreusser, Budd & Schönlieb 2023, Closing the ODE-SDE gap in score-based diffusion models "
    "through the Fokker-Planck equation, arXiv:2311.15996",
    says="With an imperfect score the probability-flow ODE and the reverse SDE give different laws. The squared "
    "residual of the Fokker-Planck equation as a second loss (weight 0.1 to 10) shrinks their distance (two rings: "
    ".095 to .032 at weight 1), while the SDE's samples get worse (.033 to .053).",
    check="Closed form: data N(0, 1/4) on the Ornstein-Uhlenbeck process to T = 5, the exact score times 1, 1.1, 1.3 "
    "and 0.8; variances of 100,000 samples of Heun (500 steps) and Euler-Maruyama (1,000 steps), against the equations "
    f"that the variances obey, integrated apart. Trained: two rings, a potential of 48 units, {STEPS:,} steps of "
    f"{BATCH} examples and {BATCH // 2} points uniform in a box and in time, weights 0 and 1; {SAMPLES:,} samples of "
    f"ODE and SDE (DPM-Solver++ 2M and its SDE form) on one grid of {GRID} steps: sliced Wasserstein distances of ODE "
    "and SDE, and of each from as many data; mean squared residual at 4,000 points of the box.",
    threshold="In every seed: variances within 2 %; the distance of ODE and SDE with weight 1 below 0.7 of that with "
    "weight 0; the mean squared residual at most a third. In the mean over the seeds the SDE's distance from the data "
    "is not lower with weight 1 by more than two sets of data differ.",
    seeds=(0, 1, 2),
    minutes=9,
    files=(
        "anydiff/objectives/fokker_planck.py",
        "anydiff/objectives/terms.py",
        "anydiff/denoisers/potential.py",
        "anydiff/paths/ornstein_uhlenbeck.py",
        "anydiff/advise/ode_sde_gap.py",
    ),
)


# Closed form --------------------------------------------------------------------------------------------------------


def diffused(t: float) -> float:
    """P(t), the variance of data N(0, 1/4) on the process."""
    return 0.5 - 0.25 * math.exp(-2 * t)


def integrated(
    slope: Callable[[float, float], float], first: float, begin: float, end: float, steps: int = 4000
) -> float:
    """dv/dt = slope(t, v) from v(begin) = first to ``end``, by the classical Runge-Kutta method."""
    h, t, v = (end - begin) / steps, begin, first
    for _ in range(steps):
        a = slope(t, v)
        b = slope(t + h / 2, v + h / 2 * a)
        c = slope(t + h / 2, v + h / 2 * b)
        d = slope(t + h, v + h * c)
        t, v = t + h, v + h / 6 * (a + 2 * b + 2 * c + d)
    return v


def variance_errors(seed: int) -> dict[str, float]:
    """Relative errors of the samplers' variances with the score -factor/P(t) x."""
    path = OrnsteinUhlenbeck()
    numbers = {}
    for factor in FACTORS:

        def score(x: Tensor, t: float | Tensor, factor: float = factor) -> Tensor:
            return -factor / diffused(float(t)) * x

        laws = {
            "ODE": ("heun", 1000, lambda t, v, k=factor: 2 * v * (-1 + k / diffused(t) / 2)),
            "SDE": ("euler-maruyama", 1000, lambda t, v, k=factor: 2 * v * (-1 + k / diffused(t)) - 1),
        }
        for name, (solver, nfe, slope) in laws.items():
            # Each entry is a sample of its own, since the score acts entry by entry.
            drawn = sample(
                FunctionDenoiser(score, path, "score"), (2000,), 50, solver=solver, nfe=nfe, end="stop", seed=seed,
                dtype=torch.float64,
            )  # fmt: skip
            exact = integrated(slope, path.prior_std**2, path.t_start, path.t_end)
            numbers[f"variance of {name}, score times {factor:g}"] = float(drawn.var())
            numbers[f"relative error of {name}, score times {factor:g}"] = float(drawn.var()) / exact - 1
    return numbers


# Trained ------------------------------------------------------------------------------------------------------------


def rings(count: int, generator: torch.Generator) -> Tensor:
    """Points on two rings of radius 1 and 2, deviation 0.05: float64 ``[count, 2]``."""
    angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    radius = 1.0 + torch.arange(count) % 2 + 0.05 * torch.randn(count, generator=generator, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


class Rings:
    """The training data: random access."""

    name, spec = "rings", StateSpec.single((2,), name="point")
    conditions: ClassVar[dict[str, Condition]] = {}

    def __init__(self, seed: int) -> None:
        self.hash = f"rings/{seed}"
        self.points = rings(50_000, torch.Generator().manual_seed(seed)).float()

    def __len__(self) -> int:
        return len(self.points)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """Points, given nothing."""
        return self.points[list(indices)], UNCONDITIONAL


class ScoreMatching(Denoising):
    """The paper's loss: the squared error of the score without weight, at times whose density falls linearly."""

    def times(self, path: paths.Path, uniform: Tensor) -> Tensor:
        """t = t_end + (T - t_end) b, b of the distribution Beta(1, 2)."""
        return path.t_end + (path.t_start - path.t_end) * (1 - torch.sqrt(1 - uniform.double()))

    def noise_weight(self, path: GaussianPath, t: Tensor, sigma_data: float) -> Tensor:
        """d/σ²: an error of the score is one of the noise over σ, and the loss is a mean over d entries."""
        return Rings.spec.size / path.sigma(t) ** 2


def trained(weight: float, seed: int) -> NetworkDenoiser:
    """A potential, trained with the residual at ``weight``."""
    torch.manual_seed(seed)
    network = Potential(Rings.spec, options={"width": 48, "blocks": 1})
    denoiser = NetworkDenoiser(network, OrnsteinUhlenbeck(t_start=LATEST), "edm", 1.1, Rings.spec)
    terms = {"score": Weighted(ScoreMatching(), 1.0)}
    if weight:
        terms["residual"] = Weighted(FokkerPlanck(box=BOX, every=2), weight)
    settings = TrainingSettings(
        steps=STEPS, batch_size=BATCH, learning_rate=1e-3, schedule="cosine", warmup_steps=100, ema_decay=0.99,
        seed=seed, checkpoint_every=STEPS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", settings.model_dump(mode="json"), {"recipe": "{}"})
        fit(ObjectiveMethod(denoiser, Sum(terms)), Rings(seed), settings, run)
        load_into(network, load_weights(run.weights_path)[0], "the weights of the claim")
    denoiser.eval()
    return denoiser


def trained_numbers(seed: int) -> dict[str, float]:
    """Distances and residuals for each weight."""
    generator = torch.Generator().manual_seed(1000 + seed)
    data, more = rings(SAMPLES, generator), rings(SAMPLES, generator)
    x = BOX * (2 * torch.rand(4000, 2, generator=generator) - 1)
    t = 1e-3 + (LATEST - 1e-3) * torch.rand(4000, dtype=torch.float64, generator=generator)
    numbers = {"data to data": sliced_wasserstein(data, more)}
    for weight in WEIGHTS:
        denoiser = trained(weight, seed)
        ode, sde = (
            sample(denoiser, (2,), SAMPLES, solver=solver, nfe=GRID, grid="log-snr", end="stop", seed=seed + number)
            for number, solver in enumerate(("dpm-solver++-2m", "sde-dpm-solver++-2m"))
        )
        numbers[f"ODE to SDE, weight {weight:g}"] = sliced_wasserstein(ode, sde)
        numbers[f"ODE to data, weight {weight:g}"] = sliced_wasserstein(ode, data)
        numbers[f"SDE to data, weight {weight:g}"] = sliced_wasserstein(sde, data)
        numbers[f"mean R², weight {weight:g}"] = float(fokker_planck_residual(denoiser, x, t).double().square().mean())
    return numbers


def measure(seed: int) -> dict[str, float]:
    """Errors of the closed form, then what the training changes."""
    torch.set_num_threads(1)
    return {**variance_errors(seed), **trained_numbers(seed)}


def judge(rows: list[dict[str, float]]) -> Verdict:
    """The closed form, the gap and the residual in every seed, the SDE in the mean."""
    errors = [abs(value) for row in rows for name, value in row.items() if name.startswith("relative error")]
    gaps = [row["ODE to SDE, weight 1"] / row["ODE to SDE, weight 0"] for row in rows]
    falls = [row["mean R², weight 0"] / row["mean R², weight 1"] for row in rows]

    def mean(name: str) -> float:
        return sum(row[name] for row in rows) / len(rows)

    exact = all(error <= 0.02 for error in errors)
    closed = all(0 < ratio < 0.7 for ratio in gaps)
    solved = all(3 <= fall < math.inf for fall in falls)
    no_better = 0 < mean("SDE to data, weight 0") <= mean("SDE to data, weight 1") + mean("data to data")
    sentence = (
        f"Variances within {max(errors):.2%} of the closed form; ODE to SDE with weight 1 over weight 0: "
        f"{', '.join(f'{ratio:.2f}' for ratio in gaps)}; mean squared residual lower by factors of "
        f"{', '.join(f'{fall:.0f}' for fall in falls)}; distance from the data at weights 0 and 1: SDE "
        f"{mean('SDE to data, weight 0'):.3f} and {mean('SDE to data, weight 1'):.3f}, ODE "
        f"{mean('ODE to data, weight 0'):.3f} and {mean('ODE to data, weight 1'):.3f}, data to data "
        f"{mean('data to data'):.3f}."
    )
    return Verdict("reproduced" if exact and closed and solved and no_better else "not reproduced", sentence)
