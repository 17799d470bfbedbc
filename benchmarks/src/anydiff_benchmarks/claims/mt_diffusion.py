"""MT-Diffusion: a point and its label from one diffusion, each for the other, and where clamping fails."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from anydiff.denoisers import NetworkDenoiser
from anydiff.networks import Heads
from anydiff.objectives import MTDiffusion
from anydiff.paths import VPLinear
from anydiff.pipeline import Aggregate, Encoder, ReadOut
from anydiff.samplers import sample
from anydiff.states import Condition, Conditioning, Leaf, StateSpec
from anydiff.training import ObjectiveMethod, RunFolder, TrainingSettings, fit, load_into, load_weights
from anydiff_benchmarks.claims._distances import sliced_wasserstein_2
from anydiff_benchmarks.claims._ode_targets import mean
from anydiff_benchmarks.claims.base import Claim, Verdict

COUNT, REPEATS = 1500, (1, 5, 20)
READ_OUTS: tuple[Literal["noise", "heads"], ...] = ("noise", "heads")
CLAIM = Claim(
    slug="mt_diffusion",
    paper="MT-Diffusion: Diffusion models for multi-task generative modeling, ICLR 2024, arXiv:2407.17571",
    says="Data of several types, aggregated into one diffusion space, are generated jointly or each for the other by "
    "one network with a head for each.",
    check="Points around 8 places on the unit circle (deviation 0.1) with the place modulo 4 as label; four "
    "dimensions in a fixed rotation, two for the point and two for a code of the label. One MLP (128 wide) trained for "
    "4,000 steps of 256 to predict the noise, and by heads (weight 0.5) the point and the label; 1,500 samples by DDPM "
    "in 100 steps, uniform in time. Jointly by both read-outs: sliced W2 to the data, and how often the label is that "
    "of the nearest place. A point for a label, a label for a point, by clamping; the latter in 50 steps that are "
    "repeated 1, 5 and 20 times.",
    threshold="In every seed: joint agreement at least 0.95 and W2 at most 0.15 by both read-outs, where labels drawn "
    "alone agree in 0.20 to 0.30; points for labels agree in at least 0.95, each of the two places of a label in a "
    "share of 0.3 to 0.7; labels for points agree in at most 0.5 (clamping fails), and 20 repeats raise that by at "
    "least 0.12.",
    seeds=(0, 1, 2),
    minutes=6,
    files=(
        "anydiff/pipeline/aggregate.py",
        "anydiff/pipeline/encoders.py",
        "anydiff/objectives/mt_diffusion.py",
        "anydiff/paths/mean_shift.py",
        "anydiff/networks/heads.py",
        "anydiff_images/mt_diffusion.py",
    ),
    recipes=("images/fashion-joint",),
    needs=("anydiff-images",),
)
DATA = StateSpec([Leaf("point", (2,)), Leaf("label", (4,))])


def space() -> Aggregate:
    """Four dimensions in a fixed rotation: the point in two, the signs of the label in the others."""
    normal = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(normal).Q
    signs = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0]], dtype=torch.float64)
    encoders = [
        Encoder("point", (2,), 4, matrix=rotation[:, :2].contiguous()),
        Encoder("label", (4,), 4, matrix=rotation[:, 2:] @ signs, classes=True),
    ]
    return Aggregate(DATA, encoders, (4,))


def places() -> Tensor:
    """The 8 places ``[8, 2]``."""
    angle = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    return torch.stack([angle.cos(), angle.sin()], 1).float()


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points ``[count, 2]`` and labels ``[count]``."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(8, (count,), generator=generator)
    return places()[place] + 0.1 * torch.randn(count, 2, generator=generator), place % 4


class Points:
    """The training data in the space of the aggregate: random access."""

    name = "points with labels"
    conditions: ClassVar[dict[str, Condition]] = {}

    def __init__(self, joint: Aggregate, seed: int) -> None:
        points, labels = draw(50_000, 1000 + seed)
        states = DATA.pack({"point": points, "label": torch.nn.functional.one_hot(labels, 4).float()})
        self.hash, self.spec = f"points/{seed}", joint.spec
        self.latents, self.beside = joint.to_latent(states), joint.beside(states)

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """Latents, with the parts beside them."""
        rows = list(indices)
        return self.latents[rows], Conditioning(sources={name: part[rows] for name, part in self.beside.items()})


def trained(joint: Aggregate, seed: int) -> NetworkDenoiser:
    """The network with its two heads."""
    torch.manual_seed(seed)
    network = Heads(joint.spec, predicts=["noise", "point"], vectors={"label": 4}, options={"width": 128, "blocks": 2})
    denoiser = NetworkDenoiser(network, VPLinear(), "noise", 0.8, joint.spec)
    objective = MTDiffusion({"point": {"weight": 0.5}, "label": {"weight": 0.5}})
    settings = TrainingSettings(
        steps=4000, batch_size=256, learning_rate=1e-3, schedule="cosine", warmup_steps=100, ema_decay=0.99,
        seed=seed, checkpoint_every=4000,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", settings.model_dump(mode="json"), {"recipe": "{}"})
        fit(ObjectiveMethod(denoiser, objective), Points(joint, seed), settings, run)
        load_into(network, load_weights(run.weights_path)[0], "the weights of the claim")
    denoiser.eval()
    return denoiser


def drawn(
    denoiser: NetworkDenoiser, joint: Aggregate, read_out: Literal["noise", "heads"], seed: int,
    given: dict[str, Tensor] | None = None, nfe: int = 100, repeats: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Points ``[n, 2]``, labels and nearest places ``[n]`` of samples; ``given`` parts are clamped."""
    latents = sample(
        ReadOut(denoiser, joint, read_out), joint.spec, COUNT, solver="ddpm", nfe=nfe * repeats, grid="time",
        repeats=repeats, seed=seed, condition=Conditioning(sources=given or {}), batch_size=COUNT,
    )  # fmt: skip
    leaves = DATA.unpack(joint.to_data(latents).contiguous())
    points = leaves["point"]
    return points, leaves["label"].argmax(1), torch.cdist(points, places()).argmin(1)


def measure(seed: int) -> dict[str, float]:
    """Joint samples, points for labels, labels for points."""
    torch.set_num_threads(1)
    joint = space()
    denoiser = trained(joint, seed)
    data, labels = draw(COUNT, 2000 + seed)
    alone = draw(COUNT, 3000 + seed)
    numbers = {"W2, data to data": sliced_wasserstein_2(data, alone[0])}
    for read_out in READ_OUTS:
        points, told, place = drawn(denoiser, joint, read_out, seed)
        numbers[f"agreement, {read_out}"] = share(told == place % 4)
        numbers[f"W2, {read_out}"] = sliced_wasserstein_2(points, data)
        numbers["agreement, labels drawn alone"] = share(alone[1] == place % 4)
    _, _, place = drawn(denoiser, joint, "heads", seed, {"label": labels})
    numbers["points for labels"] = share(place % 4 == labels)
    for label in range(4):
        numbers[f"share of the first place of label {label}"] = share(
            place[(labels == label) & (place % 4 == label)] < 4
        )
    states = DATA.pack({"point": data, "label": torch.zeros(COUNT, 4)})
    point = joint.beside(states)["point"]
    nearest = torch.cdist(data, places()).argmin(1) % 4
    for repeats in REPEATS:
        _, told, _ = drawn(denoiser, joint, "heads", seed, {"point": point}, 50, repeats)
        numbers[f"labels for points, {repeats} repeats"] = share(told == nearest)
    return numbers


def share(right: Tensor) -> float:
    """The share of ``right``."""
    return float(right.double().mean())


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every seed by itself."""

    def values(begin: str) -> list[float]:
        return [value for row in rows for name, value in row.items() if name.startswith(begin)]

    agreement = values("agreement, noise") + values("agreement, heads")
    distance = values("W2, noise") + values("W2, heads")
    alone, points = values("agreement, labels drawn alone"), values("points for labels")
    balance = values("share of the first place")
    once, often = (values(f"labels for points, {count} repeats") for count in (1, 20))
    gains = [last - first for first, last in zip(once, often, strict=True)]
    holds = (
        all(0.95 <= value <= 1 for value in agreement)
        and all(0 <= value <= 0.15 for value in distance)
        and all(0.2 <= value <= 0.3 for value in alone)
        and all(0.95 <= value <= 1 for value in points)
        and all(0.3 <= value <= 0.7 for value in balance)
        and all(0 <= value <= 0.5 for value in once)
        and all(0.12 <= gain <= 1 for gain in gains)
    )
    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"Joint samples: the label is that of the point in {min(agreement):.3f} to {max(agreement):.3f} (labels drawn "
        f"alone {mean(rows, 'agreement, labels drawn alone'):.2f}), W2 {min(distance):.3f} to {max(distance):.3f} "
        f"(data among themselves {mean(rows, 'W2, data to data'):.3f}). Points for labels agree in {min(points):.3f} "
        f"or more, the first of two places in {min(balance):.2f} to {max(balance):.2f}. Labels for points agree in "
        f"{min(once):.2f} to {max(once):.2f} by clamping, with 20 repeats in {min(often):.2f} to {max(often):.2f} "
        f"(gains {', '.join(f'{gain:.2f}' for gain in gains)}).",
    )
