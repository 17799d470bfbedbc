"""Unmasking in equal shares and tau-leaping: exact laws, orders, plans as data, and what is refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from laws import CLASSES, LENGTH, distance, law_p, sequences, spec

from anydiff.denoisers.table import TableOracle
from anydiff.errors import AnydiffError
from anydiff.paths import Marginal, MaskAndReplace, Masked, Uniform
from anydiff.samplers import sample
from anydiff.solvers import Plan, compile_plan

P = law_p()
PATH = Masked().bind(spec())
ORACLE = TableOracle(PATH, spec(), P)


def unmasked_law(counts: list[int]) -> torch.Tensor:
    """The law of revealing so many random masks per call, over all 4^4 states."""
    states = sequences(CLASSES + 1, LENGTH)
    weights = (states == CLASSES).all(1).double()
    for count in counts:
        made = torch.zeros_like(weights)
        for number in weights.nonzero()[:, 0].tolist():
            state = states[number]
            masks = (state == CLASSES).nonzero()[:, 0].tolist()
            data = ORACLE(state[None], 0.5)[0]
            groups = list(itertools.combinations(masks, count))
            for group, drawn in itertools.product(groups, itertools.product(range(CLASSES), repeat=count)):
                chance = weights[number] / len(groups)
                after = state.clone()
                for place, value in zip(group, drawn, strict=True):
                    chance = chance * data[place, value]
                    after[place] = value
                made[int((after * (CLASSES + 1) ** torch.arange(LENGTH - 1, -1, -1)).sum())] += chance
        weights = made
    return weights[(states < CLASSES).all(1)]


def drawn_law(plan: Plan, count: int = 15_000, **options) -> torch.Tensor:
    found = sample(ORACLE, spec(), count, solver=plan, batch_size=count, **options)
    numbers = (found * CLASSES ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    return torch.bincount(numbers, minlength=CLASSES**LENGTH) / count


def test_equal_shares_err_less_than_ancestral_steps_and_not_at_all_one_by_one() -> None:
    assert distance(unmasked_law([2, 2]), P) == pytest.approx(0.192454, abs=1e-6)
    assert distance(unmasked_law([1, 1, 1, 1]), P) < 1e-12


@pytest.mark.parametrize("nfe", [2, 4])
def test_what_is_drawn_has_the_law_of_equal_shares(nfe: int) -> None:
    wanted = unmasked_law([4 // nfe] * nfe)
    assert distance(drawn_law(compile_plan("unmasking", PATH, nfe)), wanted) < 0.04


@pytest.mark.parametrize("places", ["left-to-right", "random", (3, 0, 2, 1)])
def test_one_by_one_is_exact_in_any_order_that_the_data_do_not_choose(places) -> None:
    assert distance(drawn_law(compile_plan("unmasking", PATH, 4, places=places)), P) < 0.04


def test_an_order_is_kept() -> None:
    """States at the end of a plan that stops early show which places were revealed."""
    for places, wanted in (("left-to-right", [0, 1]), ((3, 0, 2, 1), [0, 3])):
        plan = compile_plan("unmasking", PATH, 4, places=places)
        stopped = Plan(plan.solver, plan.path, plan.nodes, plan.instructions[:4], "x2")
        found = sample(ORACLE, spec(), 3, solver=stopped)
        assert all((row < CLASSES).nonzero()[:, 0].tolist() == wanted for row in found)


def test_confident_first_begins_with_the_most_certain_place() -> None:
    law = torch.tensor([0.4, 0.3, 0.3]).double()[:, None] * torch.tensor([0.01, 0.98, 0.01]).double()
    two = spec(2)
    plan = compile_plan("unmasking", Masked().bind(two), 2, places="confident")
    stopped = Plan(plan.solver, plan.path, plan.nodes, plan.instructions[:2], "x1")
    found = sample(TableOracle(Masked().bind(two), two, law), two, 20, solver=stopped)
    assert (found[:, 0] == CLASSES).all()
    assert (found[:, 1] < CLASSES).all()


def test_on_the_linear_masked_path_tau_leaping_is_ancestral() -> None:
    one, two = (
        sample(ORACLE, spec(), 200, solver=compile_plan(name, PATH, 5)) for name in ("ancestral", "tau-leaping")
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("path", [Masked("cosine"), Uniform(), MaskAndReplace(), Marginal((0.5, 0.3, 0.2))])
def test_tau_leaping_reaches_the_law_in_many_steps(path) -> None:
    path = path.bind(spec())
    found = sample(
        TableOracle(path, spec(), P), spec(), 3000, solver=compile_plan("tau-leaping", path, 40), batch_size=3000
    )
    numbers = (found * CLASSES ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    assert distance(torch.bincount(numbers, minlength=81) / 3000, P) < 0.1


@pytest.mark.parametrize("solver", ["ancestral", "tau-leaping", "unmasking"])
def test_a_plan_is_data(solver: str) -> None:
    plan = compile_plan(solver, PATH, 3, end="denoise")
    assert plan.nfe == 3
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert torch.equal(sample(ORACLE, spec(), 9, solver=plan), sample(ORACLE, spec(), 9, solver=again))
    assert plan.draws == len(str(plan).splitlines()) - 2 - plan.nfe


def test_ends() -> None:
    """clean leaves no mask, stop may, and denoise ends with the most probable class of each entry."""
    stopped = sample(ORACLE, spec(), 50, solver=compile_plan("ancestral", PATH, 2, grid=[1.0, 0.6, 0.3], end="stop"))
    assert (stopped == CLASSES).any()
    done = sample(ORACLE, spec(), 50, solver=compile_plan("ancestral", PATH, 2, grid=[1.0, 0.5, 0.0]))
    assert (done < CLASSES).all()
    most = sample(ORACLE, spec(), 50, solver=compile_plan("ancestral", PATH, 2, grid=[1.0, 1 - 1e-8], end="denoise"))
    assert (most == ORACLE(torch.full((1, 4), CLASSES), 1.0)[0].argmax(-1)).all()


def test_a_temperature_divides_the_logits_and_not_the_draws() -> None:
    plan = compile_plan("unmasking", Masked().bind(spec(1)), 1)
    law = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    oracle = TableOracle(Masked().bind(spec(1)), spec(1), law)
    found = sample(oracle, spec(1), 20_000, solver=plan, temperature=0.5, batch_size=20_000)
    shares = torch.bincount(found[:, 0], minlength=3) / 20_000
    assert torch.allclose(shares, (law**2 / (law**2).sum()).float(), atol=0.01)
    assert (sample(oracle, spec(1), 50, solver=plan, temperature=0.0) == 0).all()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: compile_plan("unmasking", Uniform().bind(spec()), 2), "has no meaning on Uniform"),
        (lambda: compile_plan("unmasking", PATH, 2, places="rondom"), "did you mean 'random'"),
        (lambda: compile_plan("unmasking", PATH, 2, places=(0, 0, 1)), "each place once"),
        (lambda: sample(ORACLE, spec(), 2, solver="ancestral", nfe=2, temperature=-1.0), "temperature is -1.0"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()
