"""DomainStudio: ten pictures of another domain, adapted to with and without the similarities of the source."""

from __future__ import annotations

import copy
import functools
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.denoisers import NetworkDenoiser
from anydiff.distillation import PairSimilarities
from anydiff.networks import UNet
from anydiff.objectives import Denoising, Objective, Sum, Weighted
from anydiff.paths import VPCosine
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, StateSpec
from anydiff.training import (
    ObjectiveMethod,
    RunFolder,
    SharedTime,
    TrainingMethod,
    TrainingSettings,
    fit,
    load_into,
    load_weights,
    meet,
)
from anydiff_benchmarks.claims.base import Claim, Verdict

WEIGHTS = (0.0, 0.5, 5.0, 100.0)
CLAIM = Claim(
    slug="domainstudio",
    paper="Zhu et al. 2023, DomainStudio: fine-tuning diffusion models for domain-driven image generation using "
    "limited data, arXiv:2306.14153",
    says="Adapted to ten pictures by the denoising loss alone, a diffusion model repeats them. A loss that keeps how "
    "alike the samples of a batch are to one another, as the frozen source has it, keeps the variety of the source and "
    "still takes up the new domain.",
    check="Fashion-MNIST averaged to 14 x 14 (10,000 bundled pictures), a U-Net of 32 channels that predicts noise, "
    "2,000 steps of 64, no classes. Ten drawings (inverted, with thickened edges) of four classes, other ones in each "
    "seed; 800 steps of all ten at one time per step, learning rate 3e-4, averaged with 0.995: the denoising loss with "
    "the pair term at the weights 0, 0.5 and 5, and at 100, which decides nothing. Of 1,000 samples (DDIM, 20 calls): "
    "near-duplicates, the share that lies nearer to one of the ten than 90 % of 2,000 held-out drawings of all classes "
    "do; classes with more than 2 % of the samples, by a softmax regression on drawings of all training pictures; "
    "domain score, the mean probability of being a drawing, by a logistic regression on pictures and drawings.",
    threshold="In every seed: at 0.5 there are at least 20 % fewer near-duplicates than at 0, as many classes or more, "
    "and a domain score lower by at most 0.05; near-duplicates do not increase from 0 to 0.5 to 5.",
    seeds=(0, 1, 2),
    needs=("anydiff-images",),
    minutes=12,
    files=(
        "anydiff/distillation/domain_studio.py",
        "anydiff/training/shared_time.py",
        "anydiff_images/few_shot.py",
    ),
    recipes=("images/fashion-few-shot",),
)
SPEC = StateSpec.single((1, 14, 14), name="picture")
PATH = VPCosine()
COUNT, CALLS, BASE_STEPS, STEPS = 1000, 20, 2000, 800


class Pictures:
    """States in memory, without conditions; random access."""

    spec = SPEC
    conditions: Mapping[str, Condition] = {}

    def __init__(self, name: str, states: Tensor) -> None:
        self.name = self.hash = name
        self.states = states

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The pictures."""
        return self.states[indices], UNCONDITIONAL


def pictures(split: str, **drawn: object) -> Tensor:
    """All pictures of a split, averaged to ``[N, 1, 14, 14]``: of Fashion-MNIST, or with options drawings of it.

    Picture i of Fashion-MNIST, and drawing i where all ten classes are drawn in turn, has the class i mod 10.
    """
    name = "images/few-shot" if drawn else "images/fashion-mnist"
    data = registry().build("datasets", name, split=split, **drawn)
    return functional.avg_pool2d(data.batch(range(len(data)))[0], 2)


def trained(
    method: type[TrainingMethod], denoiser: NetworkDenoiser, objective: Objective, data: Pictures,
    settings: TrainingSettings, source: NetworkDenoiser | None = None,
) -> NetworkDenoiser:  # fmt: skip
    """``denoiser`` after its training, with the averaged weights."""
    made = method(denoiser, objective)
    meet(made, {} if source is None else {"source": source})
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", settings.model_dump(mode="json"), {"recipe": "{}"})
        fit(made, data, settings, run)
        load_into(denoiser.network, load_weights(run.weights_path)[0], "the training")
    return denoiser.eval()


@functools.cache
def base() -> NetworkDenoiser:
    """The source, the same for all seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = UNet(SPEC, {}, channels=32, multipliers=(1, 2), patch_size=2)
    settings = TrainingSettings(
        steps=BASE_STEPS, batch_size=64, learning_rate=1e-3, schedule="cosine", ema_decay=0.995,
        checkpoint_every=BASE_STEPS, log_every=BASE_STEPS,
    )  # fmt: skip
    fresh = NetworkDenoiser(network, PATH, "noise", sigma_data=0.65, spec=SPEC)
    return trained(ObjectiveMethod, fresh, Denoising(), Pictures("fashion", pictures("train")), settings)


def adapted(weight: float, ten: Tensor, seed: int) -> NetworkDenoiser:
    """The source after its adaptation to ten drawings."""
    parts = {"denoising": Weighted(Denoising(), 1.0)}
    if weight:
        parts["pairs"] = Weighted(PairSimilarities(), weight)
    settings = TrainingSettings(
        steps=STEPS, batch_size=len(ten), learning_rate=3e-4, ema_decay=0.995, seed=seed, checkpoint_every=STEPS,
        log_every=STEPS,
    )  # fmt: skip
    data = Pictures(f"drawings/{seed}", ten)
    source = copy.deepcopy(base()).requires_grad_(False)
    return trained(SharedTime, copy.deepcopy(base()), Sum(parts), data, settings, source)


def regression(inputs: Tensor, labels: Tensor, classes: int) -> nn.Linear:
    """A softmax regression on pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Linear(inputs[0].numel(), classes)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=100)
    flat = inputs.flatten(1)

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = functional.cross_entropy(layer(flat), labels) + 1e-4 * layer.weight.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return layer.requires_grad_(False)


@functools.cache
def judges() -> tuple[nn.Linear, nn.Linear, float]:
    """The classifier of drawings, that of domains (1: a drawing), and how often the first is right on held-out ones."""
    every = list(registry().build("datasets", "images/fashion-mnist", split="train").domain.classes)
    plain, drawn = pictures("train"), pictures("train", count=10_000, classes=every)
    classes = regression(drawn, torch.arange(len(drawn)) % 10, 10)
    domain = regression(torch.cat([plain, drawn]), torch.arange(2).repeat_interleave(len(plain)), 2)
    held_out = pictures("test", count=10)
    right = classes(held_out.flatten(1)).argmax(1) == torch.arange(len(held_out)) % 10
    return classes, domain, float(right.float().mean())


def nearest(states: Tensor, ten: Tensor) -> Tensor:
    """The distance of each of ``states`` to the nearest of the ten."""
    return torch.cdist(states.flatten(1), ten.flatten(1)).amin(1)


def measure(seed: int) -> dict[str, float]:
    """Near-duplicates, classes and domain score of the source and at each weight."""
    ten = pictures("train", count=10, seed=seed)
    limit = torch.quantile(nearest(pictures("test", count=10), ten), 0.1)
    classes, domain, right = judges()
    found = {"accuracy of the classifier": right}
    models = {"source": base(), **{f"{weight:g}": adapted(weight, ten, seed) for weight in WEIGHTS}}
    for name, denoiser in models.items():
        made = sample(denoiser, SPEC, COUNT, solver="ddim", nfe=CALLS, seed=seed).clamp(-1, 1)
        shares = torch.bincount(classes(made.flatten(1)).argmax(1), minlength=10) / COUNT
        found[f"near-duplicates, {name}"] = float((nearest(made, ten) < limit).float().mean())
        found[f"classes, {name}"] = float((shares > 0.02).sum())
        found[f"domain score, {name}"] = float(domain(made.flatten(1)).softmax(1)[:, 1].mean())
    return found


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every gate in every seed."""

    def column(what: str, name: str) -> list[float]:
        return [row[f"{what}, {name}"] for row in rows]

    none, half, five, most = (column("near-duplicates", f"{weight:g}") for weight in WEIGHTS)
    ratios = [b / a if a > 0 else math.nan for a, b in zip(none, half, strict=True)]
    kept = all(0 < a <= b <= 10 for a, b in zip(column("classes", "0"), column("classes", "0.5"), strict=True))
    there = all(
        0 <= a <= 1 and a - 0.05 <= b <= 1
        for a, b in zip(column("domain score", "0"), column("domain score", "0.5"), strict=True)
    )
    fewer = all(0 <= ratio <= 0.8 for ratio in ratios)
    monotone = all(1 >= a >= b >= c >= 0 for a, b, c in zip(none, half, five, strict=True))
    listed = {name: ", ".join(f"{value:.2f}" for value in values) for name, values in (
        ("0", none), ("0.5", half), ("5", five), ("100", most), ("ratio", ratios),
        ("score 0", column("domain score", "0")), ("score", column("domain score", "0.5")),
        ("score 100", column("domain score", "100")), ("classes 0", column("classes", "0")),
        ("classes", column("classes", "0.5")), ("classes 100", column("classes", "100")),
    )}  # fmt: skip
    return Verdict(
        "reproduced" if fewer and kept and there and monotone else "not reproduced",
        f"Near-duplicates at the weights 0, 0.5, 5 and 100: {listed['0']}; {listed['0.5']}; {listed['5']}; "
        f"{listed['100']} (0.5 over 0: {listed['ratio']}). Classes at 0, 0.5 and 100: {listed['classes 0']}; "
        f"{listed['classes']}; {listed['classes 100']}. Domain score at 0, 0.5 and 100: {listed['score 0']}; "
        f"{listed['score']}; {listed['score 100']}.",
    )
