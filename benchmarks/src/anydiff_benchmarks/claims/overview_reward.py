"""Reward-directed diffusion: asking for more raises the true reward, until what was learnt of it no longer holds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydiff.data import ArrayDataset, PseudoLabelled
from anydiff.denoisers import NetworkDenoiser
from anydiff.domains import Domain
from anydiff.networks import MLP
from anydiff.objectives import Denoising
from anydiff.paths import VPCosine
from anydiff.samplers import sample
from anydiff.states import Conditioning, StateSpec, standard_normal
from anydiff.training import ObjectiveMethod, RunFolder, TrainingSettings, fit, load_into, load_weights
from anydiff_benchmarks.claims.base import Claim, Verdict

TARGETS = (0, 1, 2, 3, 5, 8)
CLAIM = Claim(
    slug="overview_reward",
    paper="Chen, Mei, Fan & Wang 2024, An overview of diffusion models, arXiv:2404.07771, with Yuan et al. 2023, "
    "arXiv:2307.07055",
    says="A conditional model of pseudo-labelled data, asked for a reward, gives samples of a higher true "
    "reward; asked for more than the data hold, the reward falls again, since samples leave the support.",
    check="x = A u, 4 of 16 dimensions; f*(x) = θ·x - 5 |x off the span|², θ in the span, |θ| = 1. A linear f "
    "fitted by ridge regression to 1,000 labelled examples (noise 0.1) labels 8,000 others, with noise ν "
    "= 0.1; an MLP of 128 units is trained on them for 3,000 steps of 256 and sampled with DPM-"
    "Solver++(2M) at 30 calls, 1,000 samples for each target of 0, 1, 2, 3, 5, 8 deviations of the labels"
    " above their mean: mean true reward, mean |x off|².",
    threshold="In every seed the mean true reward rises strictly over targets of 0, 1 and 2 deviations, and at 8 it is "
    "below its greatest, or |x off|² is more than twice that at 1.",
    seeds=(0, 1, 2),
    minutes=2,
    files=("anydiff/data/pseudo_labels.py",),
)
SIZE, INNER = 16, 4


class Space(Domain):
    """Points of 16 numbers, as they are."""

    name, spec = "claim/space", StateSpec.single((SIZE,))

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """A tensor of them."""
        return torch.stack(list(objects)).float()

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Any]:
        """Rows."""
        return list(states)

    def read(self, path: str | Path) -> list[Any]:
        """No files."""
        raise NotImplementedError

    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """No files."""
        raise NotImplementedError

    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """No pictures."""
        raise NotImplementedError


class Points(ArrayDataset):
    """Given points without labels."""

    name, domain = "claim/points", Space()


def _normal(seed: int, name: str, *shape: int) -> Tensor:
    drawn: Tensor = torch.from_numpy(standard_normal(seed, [0], 0, f"claim/overview_reward/{name}", shape))[0]
    return drawn


def measure(seed: int) -> dict[str, float]:
    """True reward and distance from the support for each target."""
    basis, rest = torch.linalg.qr(_normal(seed, "basis", SIZE, SIZE))[0].split([INNER, SIZE - INNER], dim=1)
    theta = basis @ torch.nn.functional.normalize(_normal(seed, "theta", INNER), dim=0)

    def truth(points: Tensor) -> Tensor:
        found: Tensor = points @ theta - 5 * (points @ rest).square().sum(1)
        return found

    labelled = _normal(seed, "labelled", 1000, INNER) @ basis.T
    rewards = truth(labelled) + 0.1 * _normal(seed, "rewards", 1000)
    # Ridge regression without an offset: all is centred.
    fitted = torch.linalg.solve(labelled.T @ labelled + torch.eye(SIZE, dtype=torch.float64), labelled.T @ rewards)
    data = PseudoLabelled(
        Points(_normal(seed, "unlabelled", 8000, INNER) @ basis.T), lambda v: v.double() @ fitted, 0.1, seed
    )
    denoiser = trained(data, seed)
    numbers = {}
    for target in TARGETS:
        asked = {"reward": torch.full((1000, 1), float(target))}
        points = sample(denoiser, (SIZE,), 1000, nfe=30, seed=seed, condition=asked, batch_size=1000).double()
        numbers[f"true reward, target {target}"] = float(truth(points).mean())
        numbers[f"off the support, target {target}"] = float((points @ rest).square().sum(1).mean())
    return {**numbers, "deviation of labels": float(data.labels.std())}


def trained(data: PseudoLabelled, seed: int) -> NetworkDenoiser:
    """The conditional model."""
    settings = TrainingSettings.parse(
        {
            "steps": 3000, "batch_size": 256, "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 100,
            "ema_decay": 0.998, "seed": seed, "checkpoint_every": 3000, "log_every": 1000,
        },
        "the claim",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        network = MLP(data.spec, data.conditions, width=128, blocks=3)
        denoiser = NetworkDenoiser(network, VPCosine(), "edm", sigma_data=0.5, spec=data.spec)
        run = RunFolder.create(Path(folder) / "run", settings.model_dump(mode="json"), {"recipe": "{}"})
        fit(ObjectiveMethod(denoiser, Denoising()), data, settings, run)
        load_into(network, load_weights(run.path / "model.safetensors")[0], "the trained network")
    return denoiser.eval()


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Rises with the target in every seed, then falls or leaves the support."""
    rises = all(r["true reward, target 0"] < r["true reward, target 1"] < r["true reward, target 2"] for r in rows)
    ends = all(
        r["true reward, target 8"] < max(r[f"true reward, target {each}"] for each in TARGETS)
        or r["off the support, target 8"] > 2 * r["off the support, target 1"] > 0
        for r in rows
    )
    middle = rows[len(rows) // 2]
    sentence = "True reward (|x off|²) for targets of " + ", ".join(
        f"{each}: {middle[f'true reward, target {each}']:.2f} ({middle[f'off the support, target {each}']:.3f})"
        for each in TARGETS
    )
    return Verdict("reproduced" if rises and ends else "not reproduced", f"{sentence}, in deviations (middle seed).")
