"""Tiramisu: steering by a tractable model's exact posterior makes completions likelier."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.inverse import HiddenMarkov, Problem, SymbolOracle, Tiramisu, one_hot
from anydiff.inverse.operators import Mask
from anydiff.paths import VPLinear
from anydiff_benchmarks.claims._ode_targets import mean
from anydiff_benchmarks.claims.base import Claim, Verdict

LENGTH, SYMBOLS, STATES, KNOWN = 16, 8, 4, 5
COUNT, NFE = 400, 50
WEIGHTS = (1.0, 0.5, 0.0)
VALUES = torch.linspace(-1, 1, SYMBOLS, dtype=torch.float64)
CLAIM = Claim(
    slug="tiramisu",
    paper="Liu et al. 2024, Tiramisu, ICLR 2024, arXiv:2401.03349",
    says="Multiplying the denoiser's law of the clean picture with the exact posterior of a tractable model, given "
    "the known pixels and the noised state, makes inpainting better than that of the diffusion model alone.",
    check="Sequences of 16 symbols with 8 values in [-1, 1] from a hidden Markov chain of 4 states (stay 0.97, "
    "emissions of Dirichlet(0.25)), diffused as numbers (VP linear). The first 5 are known and pasted with fresh noise "
    "at each of 50 steps of DDIM. Exact denoisers, of the whole sequence (strong) and of a window of one neighbour to "
    "each side (weak); tractable model: the chain itself. Every step steered with a constant weight a of the denoiser: "
    "1, 0.5, 0; the direction follows the drawn state. Mean log-likelihood of 400 completed sequences under the chain, "
    "beside that of the truths and of no steering. Reported: the direction of the network kept, as the authors do.",
    threshold="In every seed: weak, a = 0.5, gains 3 nats on no steering; strong, a = 0, gains 1 nat and comes within "
    "1.2 nats of the truth; a = 1 equals no steering within 2 standard errors; no larger a is better than a smaller "
    "one by more than 2 standard errors.",
    seeds=(0, 1, 2),
    minutes=6,
    files=(
        "anydiff/inverse/tiramisu.py",
        "anydiff/inverse/symbols.py",
        "anydiff/inverse/tractable.py",
        "anydiff/inverse/repaint.py",
        "anydiff/solvers/walk.py",
    ),
)


def chain(generator: torch.Generator) -> HiddenMarkov:
    """A sticky chain with few likely symbols per state."""
    moves = torch.full((STATES, STATES), 0.03 / (STATES - 1), dtype=torch.float64)
    moves.fill_diagonal_(0.97)

    emits = _dirichlet(0.25, (STATES, SYMBOLS), generator)
    return HiddenMarkov(torch.full((STATES,), 1 / STATES).double(), moves, emits, LENGTH)


def _dirichlet(concentration: float, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Rows of a symmetric Dirichlet law with a concentration below 1, by Jöhnk's rejection for the gamma variables."""
    found = torch.empty(shape, dtype=torch.float64)
    for place in range(found.numel()):
        while True:
            u, v = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
            a, b = u ** (1 / concentration), v ** (1 / (1 - concentration))
            if 0 < a + b <= 1:
                break
        e = -math.log(torch.rand(1, generator=generator, dtype=torch.float64).item())
        found.view(-1)[place] = e * a / (a + b)
    return found / found.sum(1, keepdim=True)


def measure(seed: int) -> dict[str, float]:
    """Log-likelihoods of one chain."""
    generator = torch.Generator().manual_seed(seed)
    model = chain(generator)
    truth = model.sample(torch.ones(COUNT, LENGTH, SYMBOLS, dtype=torch.float64), generator)
    seen = torch.arange(LENGTH) < KNOWN
    problem = Problem(Mask((LENGTH,), seen), VALUES[truth])
    each = model.log_likelihood(one_hot(truth, SYMBOLS))
    numbers = {"truth": float(each.mean()), "truth error": error(each)}
    methods = {f"{a:g}": Tiramisu(model, VALUES, a, a, share=1.0) for a in WEIGHTS}
    methods["none"] = Tiramisu(model, VALUES, share=0.0)
    kept = {"kept": Tiramisu(model, VALUES, 0.0, 0.0, share=1.0, direction="kept")}
    for name, window in (("weak", 1), ("strong", None)):
        oracle = SymbolOracle(VPLinear(), model, VALUES, window=window)
        for label, method in {**methods, **(kept if window is None else {})}.items():
            found = method.solve(problem, oracle, (LENGTH,), COUNT, nfe=NFE, seed=seed, dtype=torch.float64)
            words = (found[..., None] - VALUES).abs().argmin(-1)
            each = model.log_likelihood(one_hot(words, SYMBOLS))
            numbers[f"{name} {label}"], numbers[f"{name} {label} error"] = float(each.mean()), error(each)
    return numbers


def error(each: Tensor) -> float:
    """The standard error of the mean."""
    return float(each.std()) / math.sqrt(len(each))


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every seed by itself."""

    def beyond(row: dict[str, float], name: str, more: str, less: str) -> float:
        """By how many standard errors ``more`` is better than ``less``."""
        scale = math.hypot(row[f"{name} {more} error"], row[f"{name} {less} error"])
        return (row[f"{name} {more}"] - row[f"{name} {less}"]) / scale

    weak = min(row["weak 0.5"] - row["weak none"] for row in rows)
    strong = min(row["strong 0"] - row["strong none"] for row in rows)
    short = max(abs(row["truth"] - row["strong 0"]) for row in rows)
    same = max(abs(beyond(row, name, "1", "none")) for row in rows for name in ("weak", "strong"))
    order = max(
        beyond(row, name, more, less)
        for row in rows
        for name in ("weak", "strong")
        for more, less in (("1", "0.5"), ("0.5", "0"), ("1", "0"))
    )
    holds = weak >= 3 and strong >= 1 and short <= 1.2 and same <= 2 and order <= 2
    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"Steering at all steps gains {weak:.1f} nats or more on the weak denoiser (a = 0.5) and {strong:.1f} on the "
        f"strong one (a = 0), at most {short:.1f} from the truth's; a = 1 is {same:.1f} standard errors from no "
        f"steering, and no larger weight is better than a smaller one by more than {order:.1f}. Means: truth "
        f"{mean(rows, 'truth'):.1f}; weak, not steered, a = 0.5, a = 0: {mean(rows, 'weak none'):.1f}, "
        f"{mean(rows, 'weak 0.5'):.1f}, {mean(rows, 'weak 0'):.1f}; strong: {mean(rows, 'strong none'):.1f}, "
        f"{mean(rows, 'strong 0.5'):.1f}, {mean(rows, 'strong 0'):.1f}. With the network's direction kept, as the "
        f"authors do, a = 0 gives {mean(rows, 'strong kept'):.1f}: likelier than the truth, so narrower than its law.",
    )
