"""ProDiff: predicting clean data, then halving the calls by distillation, where conditions leave little open."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.denoisers import GaussianMixtureOracle, NetworkDenoiser, PredictionKind
from anydiff.distillation import Progressive
from anydiff.networks import MLP
from anydiff.objectives import Denoising, Objective
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.states import Conditioning, StateSpec, VectorCondition
from anydiff.training import ObjectiveMethod, RunFolder, TrainingSettings, fit, load_into, load_weights, meet
from anydiff_benchmarks.claims._distances import sliced_wasserstein_1, wasserstein_1
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="prodiff",
    paper="Huang et al. 2022, ProDiff, ACM Multimedia, arXiv:2207.06389, with Salimans & Ho 2022, ICLR 2022",
    says="A decoder of mel spectrograms that predicts clean data, not noise, and is distilled once, samples in 2 "
    "iterations about as well as others in hundreds; models that predict noise degrade sharply at few iterations.",
    check="Sequences of 32 numbers given 4 Fourier coefficients: their smooth curve, noise of 0.05 and a mode of "
    "amplitude 0.2 whose sign is open, so each condition leaves two narrow modes. An MLP of width 128 that predicts "
    "data is trained for 2,000 steps of 128, and distilled from 8 calls to 4 and 2, 1,000 steps each; one that "
    "predicts noise is trained alike. Of 2,000 samples: root mean square distance to the smooth curve, sliced W1 of "
    "the residuals. Limits: an exact denoiser of two unconditional modes, W1 by the levels of ProDiff that it visits.",
    threshold="In every seed: the student's distance at 2 calls is within 15 % of the teacher's at 8; its sliced W1 is "
    "below that of the teacher at 2 calls; the distance of the network that predicts noise is at 2 calls at least "
    "twice the student's. The limits are published and decide nothing.",
    seeds=(0, 1, 2),
    minutes=8,
    files=("anydiff/distillation/progressive.py", "anydiff/training/companions.py"),
    recipes=("images/fashion",),
)
SIZE, COUNT = 32, 2000
SPEC = StateSpec.single((SIZE,), name="sequence")
PATH = VPLinear()
LEVELS = {"4-3-2-1-0": (1.0, 0.8, 0.6, 0.4, 0.2), "4-2-0": (1.0, 0.6, 0.2), "4-2": (1.0, 0.6), "4": (1.0,)}
"""ProDiff's levels i stand at the times (i + 1)/5 of the linear rate from 0.1 to 40."""


class Sequences:
    """The curve of 4 coefficients, with noise and a mode of an open sign; random access."""

    name, spec = "sequences", SPEC

    def __init__(self, seed: int, count: int) -> None:
        random = np.random.default_rng([17, seed])
        places = 2 * np.pi * np.arange(SIZE) / SIZE
        waves = np.stack([np.cos(places), np.sin(places), np.cos(2 * places), np.sin(2 * places)])
        given = 0.5 * random.standard_normal((count, 4))
        self.curve = torch.tensor(given @ waves, dtype=torch.float32)
        mode = 0.2 * random.choice([-1.0, 1.0], (count, 1)) * np.cos(6 * places)
        residual = torch.tensor(mode + 0.05 * random.standard_normal((count, SIZE)), dtype=torch.float32)
        self.states = self.curve + residual
        self.given = torch.tensor(given, dtype=torch.float32)
        self.conditions = {"coefficients": VectorCondition(4)}
        self.hash = f"sequences/{seed}/{count}"

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The sequences and their coefficients."""
        return self.states[indices], Conditioning({"coefficients": self.given[indices]})


def network(kind: PredictionKind, seed: int) -> NetworkDenoiser:
    """An MLP, fresh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = MLP(SPEC, {"coefficients": VectorCondition(4)}, width=128, blocks=3)
    return NetworkDenoiser(made, PATH, kind, sigma_data=0.5, spec=SPEC)


def trained(
    denoiser: NetworkDenoiser, objective: Objective, seed: int, teacher: NetworkDenoiser | None = None
) -> NetworkDenoiser:
    """``denoiser`` after its training, with the averaged weights."""
    steps, rate = (2000, 1e-3) if teacher is None else (1000, 5e-4)
    settings = TrainingSettings(
        steps=steps, batch_size=128, learning_rate=rate, schedule="cosine", ema_decay=0.995, seed=seed,
        checkpoint_every=steps, log_every=steps,
    )  # fmt: skip
    method = ObjectiveMethod(denoiser, objective)
    meet(method, {} if teacher is None else {"teacher": teacher})
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", settings.model_dump(mode="json"), {"recipe": "{}"})
        fit(method, Sequences(seed, 20_000), settings, run)
        load_into(denoiser.network, load_weights(run.weights_path)[0], "the training")
    return denoiser.eval()


def drawn(denoiser: NetworkDenoiser, times: Sequence[float], held_out: Sequences, seed: int) -> dict[str, float]:
    """Distance to the smooth curves, and sliced W1 of the residuals, of samples by DDIM on ``times``."""
    _, condition = held_out.batch(range(COUNT))
    made = sample(denoiser, SPEC, COUNT, solver="ddim", nfe=len(times) - 1, grid=times, seed=seed, condition=condition)
    residual = made - held_out.curve[:COUNT]
    true = held_out.states[COUNT:] - held_out.curve[COUNT:]
    return {
        "distance": float(residual.square().mean().sqrt()),
        "sliced W1": sliced_wasserstein_1(residual.double(), true.double()),
    }


def limits() -> dict[str, float]:
    """W1 of DDIM by an exact denoiser of two unconditional modes, by the levels that are visited before clean data."""
    path = VPLinear(beta_min=0.1, beta_max=40.0)
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    oracle = GaussianMixtureOracle(path, means, 0.2)
    data = oracle.sample(20_000, torch.Generator().manual_seed(1))
    found = {}
    for name, times in LEVELS.items():
        grid = [*times, 0.0]
        made = sample(oracle, (1,), 20_000, solver="ddim", nfe=len(times), grid=grid, seed=2, dtype=torch.float64)
        found[f"limit {name}"] = wasserstein_1(made, data)
    return found


def measure(seed: int) -> dict[str, float]:
    """Distances and sliced W1 of teacher, students and the network that predicts noise; and the limits."""
    held_out = Sequences(1000 + seed, 2 * COUNT)
    times = [PATH.t_start + (PATH.t_end - PATH.t_start) * i / 8 for i in range(9)]
    times[-1] = PATH.t_end
    halves, quarters = times[::2], times[::4]
    teacher = trained(network("data", seed), Denoising("data"), seed)
    noise = trained(network("noise", seed), Denoising(), seed)
    four = trained(copy.deepcopy(teacher), Progressive(times), seed, teacher)
    two = trained(copy.deepcopy(four), Progressive(halves), seed, four)
    numbers: dict[str, float] = {}
    named: dict[str, tuple[NetworkDenoiser, Any]] = {
        "teacher at 8": (teacher, times),
        "teacher at 2": (teacher, quarters),
        "student at 4": (four, halves),
        "student at 2": (two, quarters),
        "noise at 8": (noise, times),
        "noise at 2": (noise, quarters),
    }
    for name, (denoiser, grid) in named.items():
        for what, value in drawn(denoiser, grid, held_out, seed).items():
            numbers[f"{what} of {name}"] = value
    return {**numbers, **limits()}


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every seed: near the teacher of 8 calls, ahead of the teacher at 2, and twice as near as noise prediction."""
    ratios = [row["distance of student at 2"] / row["distance of teacher at 8"] for row in rows]
    noise = [row["distance of noise at 2"] / row["distance of student at 2"] for row in rows]
    ahead = [row["sliced W1 of student at 2"] / row["sliced W1 of teacher at 2"] for row in rows]
    fine = all(
        0.85 < near < 1.15 and 0 <= first < 1 and 2 <= second < math.inf
        for near, first, second in zip(ratios, ahead, noise, strict=True)
    )
    modes = ", ".join(f"{name}: {rows[0][f'limit {name}']:.2f}" for name in LEVELS)
    return Verdict(
        "reproduced" if fine else "not reproduced",
        f"Distance of the student at 2 calls over the teacher's at 8: {_listed(ratios)}; sliced W1 over the teacher's "
        f"at 2: {_listed(ahead)}; distance of noise prediction at 2 over the student's: {_listed(noise)}. Two "
        f"unconditional modes by an exact denoiser, W1 by the levels visited ({modes}): no student of few calls can "
        "mend that.",
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
