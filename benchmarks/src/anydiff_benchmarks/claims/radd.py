"""RADD: a network that is not told the time suffices on a masked path, may be remembered, and is any-order."""

from __future__ import annotations

import itertools
import statistics

import torch
from torch import Tensor

from anydiff.denoisers import ChainOracle, NetworkDenoiser
from anydiff.denoisers.wrappers import CountingDenoiser
from anydiff.networks.sequence import Tokens
from anydiff.objectives import MaskedCrossEntropy, Objective, ScoreEntropy
from anydiff.paths import CategoricalPath, Masked
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.states import NoiseSource, StateSpec, uniform
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="radd",
    paper="Ou et al. 2024, Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean "
    "Data, ICLR 2025, arXiv:2406.03736",
    says="On a masked path the score is a known factor of time times a conditional of the clean data: a network "
    "without the time is as good, its predictions may be kept while a state stays (up to 3.5 times faster), and its "
    "loss is that of an any-order autoregressive model.",
    check="Markov chains of 4 classes and 64 places, a random one per seed, in place of the paper's text and of "
    "digits, so that entropies are known and nothing is downloaded. Transformers of 2 blocks and width 64, alike but "
    "for the time: one trained by the cross-entropy by mask rate without it, one by the score entropy with it; the "
    "held-out bound of both. Network rows per sample of 256 steps with predictions kept, and the samples without. "
    "Bounds by mask rate, by number of masks and by random orders of the first network.",
    threshold="In every seed: the bound without the time at most 2 % above the one with it; rows per sample within "
    "5 % of 56.7, so that the steps are at least 4 times as many; the same samples; the three estimates within 3 "
    "standard errors of one another.",
    seeds=(0, 1, 2),
    minutes=7,
    files=("anydiff/objectives/masked_cross_entropy.py", "anydiff/objectives/score_entropy.py",
           "anydiff/guidance/unchanged.py"),
    recipes=("text/shakespeare",),
)  # fmt: skip
CLASSES, LENGTH, NFE = 4, 64, 256
TRAINING_STEPS, BATCH, HELD_OUT = 500, 64, 256
ROWS = NFE * (1 - (1 - 1 / NFE) ** LENGTH)
"""56.72: what the formula gives for steps of equal length."""
ESTIMATES = ("mask rate", "number of masks", "any order")


def measure(seed: int) -> dict[str, float]:
    """Bounds in nats per place, rows per sample, and estimates with their standard errors."""
    spec = StateSpec.single((LENGTH,), kind="categorical", classes=CLASSES)
    path = Masked().bind(spec)
    generator = torch.Generator().manual_seed(seed)
    law = torch.rand(CLASSES + 1, CLASSES, generator=generator, dtype=torch.float64).pow(3) + 0.01
    law = law / law.sum(1, keepdim=True)
    data = chain(law, TRAINING_STEPS * BATCH + HELD_OUT, generator)
    held_out = data[-HELD_OUT:]
    plain = trained(spec, path, False, MaskedCrossEntropy("lambda"), data, seed)
    timed = trained(spec, path, True, ScoreEntropy(least_kept=0.0), data, seed)
    exact = ChainOracle(path, spec, law[0], law[1:])
    found = {
        f"bound, {name}": float(estimate(denoiser, MaskedCrossEntropy("lambda"), held_out, seed, 64).mean())
        for name, denoiser in (("time-free", plain), ("told the time", timed), ("exact", exact))
    }
    losses = {
        "mask rate": estimate(plain, MaskedCrossEntropy("lambda"), held_out, seed + 100, 20),
        "number of masks": estimate(plain, MaskedCrossEntropy("k"), held_out, seed + 200, 20),
        "any order": any_order(plain, held_out, seed),
    }
    found |= {name: float(each.mean()) for name, each in losses.items()}
    for one, two in itertools.combinations(losses, 2):
        gap = losses[one] - losses[two]
        found[f"{one} - {two}, in errors"] = float(gap.mean() / (gap.std() / len(gap) ** 0.5))
    return found | kept(plain, spec, seed)


def chain(law: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Sequences ``[count, LENGTH]``; row 0 of ``law`` is of the first place, row u + 1 of what follows u."""
    last, out = torch.zeros(count, dtype=torch.int64), []
    for _ in range(LENGTH):
        drawn = torch.multinomial(law[last], 1, generator=generator)[:, 0]
        out.append(drawn)
        last = drawn + 1
    return torch.stack(out, dim=1)


def trained(
    spec: StateSpec, path: CategoricalPath, reads_time: bool, objective: Objective, data: Tensor, seed: int
) -> NetworkDenoiser:
    """The network after ``TRAINING_STEPS`` steps on fresh sequences."""
    torch.manual_seed(seed)
    network = Tokens(spec, width=64, blocks=2, heads=4, reads_time=reads_time)
    denoiser = NetworkDenoiser(network, path, "logits", spec=spec)
    objective.prepare(denoiser)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, betas=(0.9, 0.99))
    decay = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, TRAINING_STEPS, pct_start=0.1)
    noise = NoiseSource(spec, seed, path.noise_law)
    for step in range(TRAINING_STEPS):
        rows = range(step * BATCH, (step + 1) * BATCH)
        level = ((torch.arange(BATCH) + uniform(seed, rows, 0, "time")) / BATCH).clamp(1e-9, 1 - 1e-9)
        loss = objective(denoiser, data[rows.start : rows.stop], noise.draw(rows, 0), level).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay.step()
    network.eval()
    return denoiser


@torch.no_grad()
def estimate(denoiser: object, objective: Objective, clean: Tensor, seed: int, draws: int) -> Tensor:
    """The bound of each sequence, nats per place, from ``draws`` numbers that are spread evenly."""
    spec = StateSpec.single((LENGTH,), kind="categorical", classes=CLASSES)
    rows, total = range(len(clean)), torch.zeros(len(clean), dtype=torch.float64)
    begin, noise = uniform(seed, rows, 0, "level"), NoiseSource(spec, seed, Masked().noise_law)
    for number in range(draws):
        level = ((begin + number / draws) % 1).clamp_min(2.0**-54)
        total += objective(denoiser, clean, noise.draw(rows, number), level).double()  # type: ignore[arg-type]
    return total / draws


@torch.no_grad()
def any_order(denoiser: NetworkDenoiser, clean: Tensor, seed: int) -> Tensor:
    """-log p of each sequence in one random order of its own, nats per place: LENGTH network calls."""
    order = uniform(seed, range(len(clean)), 0, "order", (LENGTH,)).argsort(1)
    x, total, rows = torch.full_like(clean, CLASSES), torch.zeros(len(clean)).double(), torch.arange(len(clean))
    for place in order.T:
        logits = denoiser.predict(x, 0.5, "logits")[rows, place].double()
        true = clean[rows, place]
        total -= torch.log_softmax(logits, -1)[rows, true]
        x[rows, place] = true
    return total / LENGTH


def kept(denoiser: NetworkDenoiser, spec: StateSpec, seed: int) -> dict[str, float]:
    """Network rows per sample with predictions kept, and how many places of the samples differ without."""
    counted, count = CountingDenoiser(denoiser), 64
    plan = compile_plan("ancestral", denoiser.path, NFE)
    unchanged = registry().build("guidance", "unchanged")
    with torch.no_grad():
        one = sample(counted, spec, count, seed=seed, solver=plan, guidance=unchanged)
        other = sample(denoiser, spec, count, seed=seed, solver=plan)
    return {"rows per sample": counted.rows / count, "places that differ": float((one != other).sum())}


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every seed by itself."""
    excess = [row["bound, time-free"] / row["bound, told the time"] - 1 for row in rows]
    met = all(
        value <= 0.02
        and 0 < row["bound, exact"] <= 1.02 * row["bound, time-free"]
        and row["bound, time-free"] < 2
        and abs(row["rows per sample"] / ROWS - 1) <= 0.05
        and row["places that differ"] == 0
        and all(abs(gap) <= 3 for name, gap in row.items() if name.endswith("in errors"))
        and max(row[name] for name in ESTIMATES) < 2
        for value, row in zip(excess, rows, strict=True)
    )

    def mean(name: str) -> float:
        return statistics.mean(row[name] for row in rows)

    return Verdict(
        "reproduced" if met else "not reproduced",
        f"Bound without the time {mean('bound, time-free'):.4f} nats per place, with it "
        f"{mean('bound, told the time'):.4f} (excess by seed {', '.join(f'{100 * value:+.2f} %' for value in excess)}; "
        f"exact {mean('bound, exact'):.4f}). Rows per sample of {NFE} steps {mean('rows per sample'):.2f}, "
        f"{NFE / mean('rows per sample'):.2f} times fewer, {mean('places that differ'):.0f} places differ. By mask "
        f"rate {mean('mask rate'):.4f}, by number of masks {mean('number of masks'):.4f}, in random orders "
        f"{mean('any order'):.4f}.",
    )
