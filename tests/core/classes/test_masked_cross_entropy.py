"""The bound of masked classes: with exact conditionals each form is -log p, and the pipeline's estimate is it too."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from laws import CLASSES, LENGTH, law_p, spec

from anydiff.denoisers.base import FunctionDenoiser
from anydiff.denoisers.table import TableOracle
from anydiff.errors import AnydiffError
from anydiff.objectives import MaskedCrossEntropy, Objective, Sum, Weighted
from anydiff.paths import Masked, Uniform, VPLinear
from anydiff.states import NoiseSource, uniform

P = law_p()


def expected(oracle: TableOracle, clean: torch.Tensor) -> float:
    """The integral over mask sets S with the weight (|S| - 1)! (L - |S|)!/L!, nats."""
    total = 0.0
    for size in range(1, LENGTH + 1):
        weight = math.factorial(size - 1) * math.factorial(LENGTH - size) / math.factorial(LENGTH)
        for masks in itertools.combinations(range(LENGTH), size):
            x = clean.clone()
            x[list(masks)] = CLASSES
            data = oracle(x[None], 0.5)[0]
            total -= weight * sum(math.log(data[place, clean[place]]) for place in masks)
    return total


def test_the_bound_of_exact_conditionals_is_the_log_likelihood() -> None:
    oracle = TableOracle(Masked().bind(spec()), spec(), P)
    for clean in ([0, 1, 2, 0], [2, 2, 1, 0]):
        assert expected(oracle, torch.tensor(clean)) == pytest.approx(-math.log(P[tuple(clean)]), abs=1e-12)


def losses(objective: Objective, path, count: int = 20_000) -> torch.Tensor:
    """Nats per entry of one sequence, drawn ``count`` times."""
    path = path.bind(spec())
    clean = torch.tensor([[2, 0, 1, 1]]).expand(count, LENGTH)
    noise = NoiseSource(spec(), 3, path.noise_law).draw(range(count), 0)
    return objective(TableOracle(path, spec(), P), clean, noise, uniform(4, range(count), 0, "time")).double()


@pytest.mark.parametrize("schedule", ["linear", "cosine", "geometric"])
@pytest.mark.parametrize("form", ["lambda", "t", "k"])
def test_every_form_on_every_schedule_estimates_the_same(form: str, schedule: str) -> None:
    found = losses(MaskedCrossEntropy(form), Masked(schedule)) * LENGTH
    wanted, error = -math.log(P[2, 0, 1, 1]), float(found.std()) / len(found) ** 0.5
    assert error < 0.06 * wanted
    assert abs(float(found.mean()) - wanted) < 4 * error


def test_the_k_form_masks_exactly_k_entries() -> None:
    seen = []

    def remember(x, t):
        seen.append((x == CLASSES).sum(1))
        return torch.zeros(*x.shape, CLASSES)

    path = Masked().bind(spec())
    numbers = torch.tensor([0.1, 0.3, 0.6, 0.999], dtype=torch.float64)
    noise = NoiseSource(spec(), 3, path.noise_law).draw(range(4), 0)
    MaskedCrossEntropy("k")(FunctionDenoiser(remember, path, "logits"), torch.zeros(4, 4).long(), noise, numbers)
    assert seen[0].tolist() == [1, 2, 3, 4]


def test_it_may_stand_in_a_sum() -> None:
    alone = losses(MaskedCrossEntropy(), Masked(), 50)
    assert torch.allclose(losses(Sum({"bound": Weighted(MaskedCrossEntropy(), 2.0)}), Masked(), 50), 2 * alone)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: MaskedCrossEntropy("lamda"), "did you mean 'lambda'"),
        (lambda: losses(MaskedCrossEntropy(), Uniform(), 2), "is the bound of the path 'masked', but Uniform"),
        (lambda: MaskedCrossEntropy().times(VPLinear(), torch.tensor([0.5])), "needs a path of classes"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()
