"""DDPM, DDIM, classifier-free guidance and latents together, as a report of 2024 combined them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.guidance import ClassifierFree
from anydiff.metrics import frechet_distance
from anydiff.networks import MLP
from anydiff.objectives import Denoising
from anydiff.paths import DiscreteVP
from anydiff.samplers import sample
from anydiff.states import ClassCondition, Condition, Conditioning, StateSpec
from anydiff.training import TrainingSettings
from anydiff_benchmarks.claims._training import Held, trained
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="ddim_cfg_report",
    paper="Enhancing diffusion models for high-quality image generation, 2024, arXiv:2412.14422",
    says="DDIM with classifier-free guidance is the best trade of quality and time: far fewer calls than DDPM at its "
    "quality; guidance follows the class at the price of diversity; latent diffusion fails where latents are not of "
    "unit size.",
    check="Fashion-MNIST as 7 x 7 means of 4 x 4 pixels, the bundled 10,000 pictures, standardised; 1,000 steps of the "
    "linear rate. A: an MLP (256 wide, 3 blocks) told the class, 15 % of the classes hidden, 4,000 steps of 128. DDPM "
    "with 200 calls, DDIM with 20 and 50 on trailing steps, guidance 1, 2, 4, 2,000 samples, 200 of each class: "
    "Frechet distance of the 49 numbers to the 2,000 held-out pictures; share that the 15 nearest training pictures "
    "put into the class asked for; mean distance of two samples of a class. B: the first 16 principal components, as "
    "numbers of unit deviation over all, times 5, and divided by 5; an MLP without classes, 3,000 steps of 128 each, "
    "DDIM with 50 calls, Frechet distance of the decoded samples.",
    threshold="In every seed. A: the Frechet distance of DDIM with 50 calls is at most 1.15 of that of DDPM with 200, "
    "without guidance; the share in its class rises by at least one point from guidance 1 to 2 (or is above 0.99), and "
    "the distance within a class falls from 1 to 2 to 4, for DDIM with 50. B: unit latents have the smallest Frechet "
    "distance of the three. What guidance 4 does to the Frechet distance is published and decides nothing.",
    seeds=(0, 1, 2),
    needs=("anydiff-images",),
    minutes=9,
    files=("anydiff/paths/ladder.py", "anydiff/solvers/ddim.py", "anydiff/guidance/classifier_free.py"),
    recipes=("images/fashion path.name=vp-discrete path.options.schedule=scaled-linear",),
)
PATH = DiscreteVP()
SIDE, CLASSES, EACH = 7, 10, 200
PIXELS = StateSpec.single((SIDE * SIDE,), name="pixels")
CODES = StateSpec.single((16,), name="codes")
KINDS: dict[str, Condition] = {"label": ClassCondition(CLASSES)}
SAMPLERS = {"DDPM 200": ("ddpm", 200), "DDIM 50": ("ddim", 50), "DDIM 20": ("ddim", 20)}
SCALES = (1, 2, 4)
SIZES = {"unit": 1.0, "times 5": 5.0, "divided by 5": 0.2}


@functools.cache
def pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Training pictures ``[10000, 49]`` of mean 0 and deviation 1 over all, their classes, and held-out pictures."""
    from anydiff_images.data import FashionMNIST

    found = {}
    for split in ("train", "test"):
        states, condition = (data := FashionMNIST(split)).batch(range(len(data)))
        found[split] = nn.functional.avg_pool2d(states, 4).flatten(1), condition.given["label"]
    mean, deviation = found["train"][0].mean(), found["train"][0].std()
    train, held_out = ((found[split][0] - mean) / deviation for split in ("train", "test"))
    return train, found["train"][1], held_out


def settings(steps: int, seed: int, hidden: float) -> TrainingSettings:
    """Of all trainings here."""
    return TrainingSettings(
        steps=steps, batch_size=128, learning_rate=1e-3, warmup_steps=100, schedule="cosine", ema_decay=0.999,
        condition_dropout=hidden, seed=seed, checkpoint_every=steps, log_every=steps,
    )  # fmt: skip


def network(spec: StateSpec, conditions: dict[str, Condition], seed: int) -> NetworkDenoiser:
    """An MLP that predicts noise, fresh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: nn.Module = MLP(spec, conditions, width=256, blocks=3)
    return NetworkDenoiser(made, PATH, "noise", spec=spec)


def neighbours_say(samples: Tensor, train: Tensor, labels: Tensor) -> Tensor:
    """The class that most of the 15 nearest training pictures have ``[n]``."""
    near = torch.cdist(samples.double(), train.double()).topk(15, largest=False).indices
    return torch.nn.functional.one_hot(labels[near], CLASSES).sum(1).argmax(1)


def spread(samples: Tensor) -> float:
    """The mean distance of two samples of one class; ``samples`` are class by class."""
    groups = samples.double().reshape(CLASSES, EACH, -1)
    return float(torch.cdist(groups, groups).sum() / (CLASSES * EACH * (EACH - 1)))


def guided(seed: int) -> dict[str, float]:
    """Part A."""
    train, labels, held_out = pictures()
    data = Held("fashion 7 x 7", train, PIXELS, KINDS, {"label": labels})
    denoiser = trained(network(PIXELS, KINDS, seed), Denoising(), data, settings(4000, seed, 0.15))
    asked = torch.arange(CLASSES).repeat_interleave(EACH)
    found = {}
    for name, (solver, nfe) in SAMPLERS.items():
        for scale in SCALES:
            made = sample(
                denoiser, PIXELS, len(asked), solver=solver, nfe=nfe, grid="trailing", seed=seed,
                condition=Conditioning({"label": asked}), guidance=ClassifierFree(float(scale)),
            )  # fmt: skip
            found[f"A: Frechet, {name}, {scale}"] = frechet_distance(made, held_out)
            right = neighbours_say(made, train, labels) == asked
            found[f"A: in its class, {name}, {scale}"] = float(right.double().mean())
            found[f"A: spread, {name}, {scale}"] = spread(made)
    return found


def latents(seed: int) -> dict[str, float]:
    """Part B."""
    train, _, held_out = pictures()
    mean = train.double().mean(0)
    axes = torch.linalg.svd(train.double() - mean, full_matrices=False).Vh[:16]
    codes = (train.double() - mean) @ axes.T
    unit = float(codes.std())
    found = {}
    for name, size in SIZES.items():
        factor = size / unit
        data = Held(f"components {name}", (codes * factor).float(), CODES)
        denoiser = trained(network(CODES, {}, seed), Denoising(), data, settings(3000, seed, 0.0))
        made = sample(denoiser, CODES, CLASSES * EACH, solver="ddim", nfe=50, grid="trailing", seed=seed)
        found[f"B: Frechet, {name}"] = frechet_distance(made.double() / factor @ axes + mean, held_out)
    return found


def measure(seed: int) -> dict[str, float]:
    """Both parts."""
    return {**guided(seed), **latents(seed)}


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every gate in every seed."""

    def column(name: str) -> list[float]:
        return [row[name] for row in rows]

    ratios = [b / a for a, b in zip(column("A: Frechet, DDPM 200, 1"), column("A: Frechet, DDIM 50, 1"), strict=True)]
    shares = [column(f"A: in its class, DDIM 50, {scale}") for scale in SCALES]
    spreads = [column(f"A: spread, DDIM 50, {scale}") for scale in SCALES]
    sizes = [column(f"B: Frechet, {name}") for name in SIZES]
    few = all(0 <= ratio <= 1.15 for ratio in ratios)
    follows = all(two >= one + 0.01 or two > 0.99 for one, two in zip(*shares[:2], strict=True))
    narrows = all(one > two > four > 0 for one, two, four in zip(*spreads, strict=True))
    unit = all(0 <= one < min(others) for one, *others in zip(*sizes, strict=True))
    costs = "; ".join(f"guidance {k}: {_listed(column(f'A: Frechet, DDIM 50, {k}'))}" for k in SCALES)
    return Verdict(
        "reproduced" if few and follows and narrows and unit else "not reproduced",
        f"Frechet distance of DDIM with 50 calls over DDPM with 200: {_listed(ratios)}. In its class at guidance 1, 2, "
        f"4: {'; '.join(map(_listed, shares))}; distance within a class {'; '.join(map(_listed, spreads))}; Frechet "
        f"distance of DDIM with 50 at {costs}. Latents of unit size, times 5, divided by 5: "
        f"{'; '.join(map(_listed, sizes))}.",
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
