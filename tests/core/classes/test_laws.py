"""Law P: the exact laws of samplers, to six digits; and what is drawn has these laws."""

from __future__ import annotations

import itertools

import pytest
import torch
from laws import CLASSES, LENGTH, distance, law_p, sampled_law, spec

from anydiff.denoisers.table import ChainOracle, TableOracle
from anydiff.paths import Marginal, MaskAndReplace, Masked, Uniform
from anydiff.samplers import sample
from anydiff.solvers import compile_plan

P = law_p()
PATHS = {
    "masked": Masked(),
    "mask-and-replace": MaskAndReplace(0.9),
    "uniform": Uniform(),
    "marginal": Marginal((0.5, 0.3, 0.2)),
}
EXPECTED = {
    "masked": {1: 0.339485, 2: 0.208714, 4: 0.114362, 8: 0.059745},
    "mask-and-replace": {2: 0.218272, 4: 0.116304, 8: 0.058674},
    "uniform": {2: 0.280741, 4: 0.178286, 8: 0.097129},
    "marginal": {2: 0.278189, 4: 0.175906, 8: 0.095731},
}


@pytest.mark.parametrize(("name", "nfe"), [(name, nfe) for name, row in EXPECTED.items() for nfe in row])
def test_ancestral_steps_have_the_published_distance_to_the_data(name: str, nfe: int) -> None:
    path = PATHS[name].bind(spec())
    found = sampled_law(path, compile_plan("ancestral", path, nfe), P)
    assert distance(found, P) == pytest.approx(EXPECTED[name][nfe], abs=1e-6)


def test_the_distance_halves_with_the_steps() -> None:
    path = Masked().bind(spec())
    found = [distance(sampled_law(path, compile_plan("ancestral", path, n), P), P) for n in (4, 8, 16, 32)]
    assert all(0.45 <= two / one <= 0.58 for one, two in itertools.pairwise(found))


def test_one_step_is_the_product_of_the_marginals() -> None:
    path = Masked().bind(spec())
    product = torch.ones(1, dtype=torch.float64)
    for place in range(LENGTH):
        product = (product[:, None] * P.sum([axis for axis in range(LENGTH) if axis != place])).flatten()
    assert distance(sampled_law(path, compile_plan("ancestral", path, 1), P), product) < 1e-12


@pytest.mark.parametrize("schedule", ["linear", "cosine", "geometric"])
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("nfe", [1, 2, 5])
def test_one_entry_is_exact_for_every_kernel_and_number_of_steps(name: str, nfe: int, schedule: str) -> None:
    given = {"probabilities": (0.5, 0.3, 0.2)} if name == "marginal" else {}
    path = type(PATHS[name])(schedule=schedule, **given).bind(spec(1))
    law = torch.tensor([0.62, 0.03, 0.35], dtype=torch.float64)
    assert distance(sampled_law(path, compile_plan("ancestral", path, nfe), law), law) < 1e-9


@pytest.mark.parametrize("name", PATHS)
def test_what_is_drawn_has_the_law(name: str) -> None:
    """χ² of 25,000 samples over 81 sequences; 5 deviations are allowed."""
    path = PATHS[name].bind(spec())
    plan = compile_plan("ancestral", path, 3)
    wanted, count = sampled_law(path, plan, P), 25_000
    found = sample(TableOracle(path, spec(), P), spec(), count, solver=plan, batch_size=25_000, seed=4)
    numbers = (found * torch.tensor([CLASSES**power for power in range(LENGTH - 1, -1, -1)])).sum(1)
    counts = torch.bincount(numbers, minlength=CLASSES**LENGTH)
    chi = float(((counts - count * wanted) ** 2 / (count * wanted)).sum())
    degrees = CLASSES**LENGTH - 1
    assert abs(chi - degrees) < 5 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("name", PATHS)
def test_a_chain_by_forward_and_backward_is_the_chain_as_a_table(name: str) -> None:
    first = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    transition = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.8, 0.1, 0.1]], dtype=torch.float64)
    law = torch.einsum("a,ab,bc,cd->abcd", first, transition, transition, transition)
    path = PATHS[name].bind(spec())
    x = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1], [1, 0, 0, 0]])
    if path.masks:
        x = torch.where(torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]]).bool(), CLASSES, x)
    for t in (0.2, 0.9):
        table, chain = TableOracle(path, spec(), law)(x, t), ChainOracle(path, spec(), first, transition)(x, t)
        assert torch.allclose(table, chain, atol=1e-12)
