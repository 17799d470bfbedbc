"""Bounds of classes on any path: exact integrals over all noised states against entropies, and RADD's four forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from laws import LENGTH, law_p, sequences, spec

from anydiff.denoisers.base import FunctionDenoiser
from anydiff.denoisers.table import TableOracle
from anydiff.errors import AnydiffError
from anydiff.objectives import DiscreteBound, MaskedCrossEntropy, Objective, ScoreEntropy, Sum, Weighted
from anydiff.paths import CategoricalPath, Marginal, MaskAndReplace, Masked, Uniform, VPLinear
from anydiff.states import NoiseSource, uniform

PATHS = {
    "masked": Masked(),
    "mask-and-replace": MaskAndReplace(),
    "uniform": Uniform(),
    "marginal": Marginal((0.5, 0.3, 0.2)),
    "cosine": Uniform("cosine"),
}


def nodes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gauss-Legendre nodes and weights on (0, 1), of v with u = v^3: integrands have a u log u at 0."""
    found, weights = np.polynomial.legendre.leggauss(count)
    v = torch.tensor((found + 1) / 2)
    return v**3, 3 * v**2 * torch.tensor(weights / 2)


def noise_for(path: CategoricalPath, t: torch.Tensor, clean: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Numbers in (0, 1) by which the path takes ``clean`` to ``wanted``: the middle of each class's share."""
    kept, replaced, masked = (torch.as_tensor(p).reshape(-1, 1) for p in path.marginal(t))
    law, is_mask = path.law_tensor(clean), wanted == path.bound
    own = torch.where(is_mask, 0, wanted)
    drawn = kept + replaced * (law.cumsum(0) - law / 2)[own]
    return torch.where(is_mask, 1 - masked / 2, drawn)


def expectation(objective: Objective, path: CategoricalPath, clean: torch.Tensor, times, count: int = 40) -> float:
    """E of the objective, nats of the whole state ``clean [L]``: all noised states times all uniform numbers."""
    level, weight = times if times else nodes(count)
    length, classes = len(clean), path.bound
    noised = sequences(classes + path.masks, length)
    rows = list(itertools.product(range(len(level)), range(len(noised))))
    u, x = level[[r for r, _ in rows]], noised[[n for _, n in rows]]
    oracle = TableOracle(
        path, spec(length, classes), law_p() if length == LENGTH else law_p().sum(tuple(range(length, LENGTH)))
    )
    t = objective.times(path, u)
    kept, replaced, masked = (torch.as_tensor(p).reshape(-1, 1) for p in path.marginal(t))
    chance = torch.where(x == classes, masked, replaced * path.law_tensor(x)[torch.where(x == classes, 0, x)])
    chance = (chance + kept * (x == clean)).prod(1) * weight[[r for r, _ in rows]]
    # Where a class is drawn anew it may be the same as before: the noise of a kept one leads to the same state.
    noise = noise_for(path, t, clean.expand_as(x), x)
    noise = torch.where((x == clean) & (kept > 0), kept / 2, noise)
    there = chance > 0
    clean_rows = clean.expand_as(x)
    assert torch.equal(path.noised(t[there], clean_rows[there], noise[there]), x[there])
    loss = objective(oracle, clean_rows[there], noise[there], u[there]).double()
    return float((chance[there] * loss).sum()) * length


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("objective", [DiscreteBound(), ScoreEntropy(least_kept=0.0)], ids=["bound", "score"])
def test_exact_scores_cost_the_entropy_on_every_path(name: str, objective: Objective) -> None:
    path, law = PATHS[name].bind(spec(2)), law_p().sum((2, 3))
    found = sum(
        float(law[tuple(clean)]) * expectation(objective, path, torch.tensor(clean), None)
        for clean in itertools.product(range(3), repeat=2)
    )
    assert found == pytest.approx(-float((law * law.log()).sum()), abs=2e-5)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("steps", [1, 3])
def test_one_entry_costs_its_entropy_in_any_number_of_steps(name: str, steps: int) -> None:
    path, law = PATHS[name].bind(spec(1)), law_p().sum((1, 2, 3))
    times = ((torch.arange(steps).double() + 0.5) / steps, torch.full((steps,), 1 / steps).double())
    found = sum(float(law[c]) * expectation(DiscreteBound(steps), path, torch.tensor([c]), times) for c in range(3))
    assert found == pytest.approx(-float((law * law.log()).sum()), abs=1e-6)


def test_more_steps_bound_better_and_converge_to_the_limit() -> None:
    path, clean = Uniform().bind(spec(2)), torch.tensor([2, 0])
    found = []
    for steps in (1, 4, 64):
        times = ((torch.arange(steps).double() + 0.5) / steps, torch.full((steps,), 1 / steps).double())
        found.append(expectation(DiscreteBound(steps), path, clean, times))
    limit = expectation(DiscreteBound(), path, clean, None)
    assert abs(found[2] - limit) < 0.02 < abs(found[0] - limit)
    assert abs(found[1] - limit) < abs(found[0] - limit)


def guess(path: CategoricalPath, kind: str) -> FunctionDenoiser:
    """Predictions that are no oracle's: logits that depend on the whole state, or ratios of the same probabilities."""

    def made(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        mixed = (x.double() @ torch.tensor([1.0, 0.3, -0.7, 0.2], dtype=torch.float64)[: x.shape[1]])[:, None, None]
        logits = torch.sin(mixed + 1.7 * torch.arange(3) + torch.arange(x.shape[1])[:, None])
        level = (path.keep(t) / path.lost(t)).log().reshape(-1, 1, 1)
        return torch.log_softmax(logits, -1) + (level if kind == "ratio" else 0)

    return FunctionDenoiser(made, path, kind)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "geometric"])
def test_radds_four_losses_are_one_number(schedule: str) -> None:
    """Score entropy, cross-entropy by mask rate, by time, and by the number of masks: exact expectations."""
    path, clean = Masked(schedule).bind(spec(3)), torch.tensor([2, 0, 1])
    masks = torch.tensor(list(itertools.product([False, True], repeat=3)))

    def integral(objective: Objective, kind: str, count: int) -> float:
        level, weight = nodes(count)
        u, sets = level.repeat_interleave(8), masks.repeat(count, 1)
        if getattr(objective, "form", "") == "k":
            sizes = sets.sum(1).double()
            u, chosen = (sizes - 0.5) / 3, sizes > 0
            order = torch.where(sets, 0.1, 0.9) + 0.01 * torch.arange(3)
            chance = 1 / 3 / torch.tensor([math.comb(3, int(size)) for size in sizes]).double()
            u, noise, chance = u[:8][chosen[:8]], order[:8][chosen[:8]], chance[:8][chosen[:8]]
        else:
            lost = path.lost(objective.times(path, u)).reshape(-1, 1)
            chance = torch.where(sets, lost, 1 - lost).prod(1) * weight.repeat_interleave(8)
            noise = torch.where(sets, 1 - lost / 2, (1 - lost) / 2)
        loss = objective(guess(path, kind), clean.expand(len(u), 3), noise, u).double()
        return float((chance * loss).sum()) * 3

    by_rate = integral(MaskedCrossEntropy("lambda"), "logits", 6)
    assert integral(MaskedCrossEntropy("k"), "logits", 1) == pytest.approx(by_rate, abs=2e-6)
    assert integral(ScoreEntropy(least_kept=0.0), "ratio", 6) == pytest.approx(by_rate, abs=2e-6)
    assert integral(DiscreteBound(), "logits", 6) == pytest.approx(by_rate, abs=2e-6)
    assert integral(MaskedCrossEntropy("t"), "logits", 400) == pytest.approx(by_rate, rel=1e-3)


def test_a_step_of_a_masked_path_costs_its_share_of_the_cross_entropy() -> None:
    path, count, steps = Masked("cosine").bind(spec()), 40, 5
    clean = torch.tensor([[2, 0, 1, 1]]).expand(count, 4)
    noise = NoiseSource(spec(), 3, path.noise_law).draw(range(count), 0)
    u = uniform(4, range(count), 0, "time")
    t = DiscreteBound(steps).times(path, u)
    x = path.noised(t, clean, noise)
    entropy = -torch.log_softmax(guess(path, "logits").native(x, t), -1).gather(-1, clean[..., None])[..., 0]
    share = (path.lost(t) - path.lost(t - 1 / steps)) / path.lost(t)
    wanted = steps * share * (entropy * (x == 3)).mean(1)
    found = DiscreteBound(steps)(guess(path, "logits"), clean, noise, u)
    assert torch.allclose(found.double(), wanted, atol=1e-5)


def test_the_auxiliary_cross_entropy_is_a_term_of_its_own() -> None:
    path, clean = Uniform().bind(spec()), torch.tensor([[2, 0, 1, 1]])
    noise, u = torch.full((1, 4), 0.9).double(), torch.tensor([0.5]).double()
    made = DiscreteBound(auxiliary=0.1).terms(guess(path, "logits"), clean, noise, u)
    assert set(made) == {"bound", "auxiliary"}
    x = path.noised(u, clean, noise)
    entropy = -torch.log_softmax(guess(path, "logits").native(x, u), -1).gather(-1, clean[..., None]).mean()
    assert float(made["auxiliary"]) == pytest.approx(0.1 * float(entropy), abs=1e-6)
    whole = Sum({"both": Weighted(DiscreteBound(auxiliary=0.1), 2.0)})(guess(path, "logits"), clean, noise, u)
    assert float(whole) == pytest.approx(2 * float(sum(made.values())), rel=1e-6)


def test_a_score_of_a_class_against_itself_is_not_read() -> None:
    path, clean = Uniform().bind(spec()), torch.tensor([[2, 0, 1, 1]])
    noise, u = torch.full((1, 4), 0.9).double(), torch.tensor([0.5]).double()
    x = path.noised(u, clean, noise)
    plain = guess(path, "ratio")
    other = FunctionDenoiser(lambda x, t: plain.native(x, t).scatter(-1, x[..., None], 7.0), path, "ratio")
    assert torch.equal(ScoreEntropy()(plain, clean, noise, u), ScoreEntropy()(other, clean, noise, u))
    assert torch.equal(plain.predict(x, u, "cavity"), other.predict(x, u, "cavity"))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DiscreteBound(0), "steps"),
        (lambda: DiscreteBound(auxiliary=-1), "auxiliary is -1, but must be"),
        (lambda: ScoreEntropy(1.0), r"least_kept is 1.0, but must be a number in \[0, 1\)"),
        (lambda: DiscreteBound().times(VPLinear(), torch.tensor([0.5])), "discrete-bound' needs a path of classes"),
        (lambda: ScoreEntropy().times(VPLinear(), torch.tensor([0.5])), "score-entropy' needs a path of classes"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()
