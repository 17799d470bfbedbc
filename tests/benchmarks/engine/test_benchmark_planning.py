from __future__ import annotations

import pytest

from anydiff.plugins.source import Source
from anydiff_benchmarks.engine.planning import (
    Cell,
    Demand,
    Speed,
    affordable,
    allocate,
    fill_water,
    plan_baselines,
    plan_methods,
    rounds,
    seconds_needed,
    used_up,
)
from anydiff_benchmarks.engine.suite import Suite


def suite(**changes):
    data = {
        "name": "s",
        "methods": ["ddim", "edm"],
        "nfe": [5, 10],
        "seeds": [0, 1, 2],
        "samples": 400,
        "baselines": [],
    }
    return Suite(**{**data, **changes})


SPEED = Speed(row=1e-3, judged=1e-3)  # 400 samples x 3 seeds x (30 rows + 4 judged) = 40.8 s


def demand(speed=SPEED, least=20, most=400, baselines=0, **more):
    return Demand(speed, most, least, baselines=baselines, **more)


def test_expected_seconds():
    assert seconds_needed(suite(), demand(), 400, 3) == pytest.approx(40.8)
    assert seconds_needed(suite(), demand(baselines=1), 400, 3) == pytest.approx(42.0)
    assert seconds_needed(suite(), demand(trainings=2), 400, 3) == pytest.approx(81.6)


def test_water_goes_to_those_who_need_it():
    assert fill_water(10, [20, 20]) == [5, 5]
    assert fill_water(10, [1, 20]) == [1, 9]
    assert fill_water(10, [20, 1, 3]) == [6, 1, 3]
    assert fill_water(10, [1, 2]) == [1, 2]
    assert fill_water(10, []) == []


@pytest.mark.parametrize(
    ("budget", "least", "samples", "seeds"),
    [
        (None, 10, 400, 3),
        (41, 10, 400, 3),
        (31, 10, 300, 3),
        (21, 10, 200, 3),
        (16, 10, 150, 3),
        (16, 180, 180, 2),  # the metrics accept no fewer, so a seed goes
        (16, 350, 350, 1),
        (1, 350, 350, 1),  # even the least is too much: it is run, and said
        (100, 500, 500, 3),  # the metrics need more than the suite asks for
    ],
)
def test_samples_fall_first_and_seeds_then(budget, least, samples, seeds):
    (share,) = allocate(suite(budget_seconds=budget), [demand(least=least, most=max(least, 400))])
    assert (share.samples, len(share.seeds)) == (samples, seeds)
    assert share.over == (budget is not None and share.seconds > 1.05 * budget)
    assert share.over == (budget == 1)


def test_ten_domains_take_as_long_as_one():
    one = allocate(suite(budget_seconds=40), [demand()])
    ten = allocate(suite(budget_seconds=40), [demand()] * 10)
    assert sum(share.seconds for share in ten) <= 40
    assert sum(share.seconds for share in one) <= 40
    cheap = allocate(suite(budget_seconds=40), [demand()] + [demand(Speed(1e-6, 1e-6))] * 9)
    assert cheap[0].samples >= 300
    assert all(share.samples == 400 for share in cheap[1:])


def test_ensembles_keep_their_members_and_lose_cases():
    for budget, samples in [(100, 400), (31, 300), (21, 200), (5.2, 50), (4, 30), (2.2, 20)]:
        (share,) = allocate(suite(budget_seconds=budget), [demand(least=2, group=10)])
        assert share.samples == samples
        assert share.samples % 10 == 0
    (share,) = allocate(suite(budget_seconds=0.1), [demand(least=2, group=10)])
    assert (share.samples, share.seeds, share.over) == (20, (0,), True), "two cases is the least"


def test_a_suite_may_ask_for_fewer_samples_than_the_task_and_never_for_more():
    assert allocate(suite(samples=None), [demand(most=1000)])[0].samples == 1000
    assert allocate(suite(samples=100), [demand(most=1000)])[0].samples == 100
    assert allocate(suite(samples=5000), [demand(most=1000)])[0].samples == 1000


def sources(ddim):
    return {"ddim": Source({"one": ddim}), "edm": Source({"two": "c"})}


def methods(one, **changes):
    (share,) = allocate(one, [demand(least=10)])
    given = {"identity": {"task": "t"}, "model": {"weights": "w"}, "sources": sources("c"), **changes}
    return plan_methods("t", one, share, SPEED, **given)


def test_cells_have_their_own_keys_and_whole_rounds_of_seeds():
    small = suite()
    (share,) = allocate(small, [demand(least=10)])
    free = plan_baselines("t", ["resample"], share, SPEED, {"task": "t"}, {"training data": "d"})
    cells = free + methods(small)
    assert len(cells) == 3 * (1 + 4) == len({cell.key for cell in cells})
    assert [cell.seed for cell in cells[3:]] == sorted(cell.seed for cell in cells[3:])
    assert not {cell.key for cell in methods(small, model={"weights": "v"})} & {cell.key for cell in cells}


def test_a_change_of_one_solver_concerns_its_own_rows():
    before, after = methods(suite()), methods(suite(), sources=sources("new"))
    same = {a.method.solver for a, b in zip(before, after, strict=True) if a.key == b.key}
    assert same == {"edm"}


def test_where_weights_lie_does_not_change_the_key_and_the_weights_do():
    here, there = (methods(suite(), origin=("mine", source, 0))[0] for source in ("a", "b"))
    assert here.key == there.key


def test_a_label_does_not_change_the_key_and_an_option_does():
    def key(**method):
        return methods(suite(methods=[{"solver": "ddim", **method}]))[0].key

    assert key() == key(label="mine")
    assert key() != key(options={"eta": 1.0})
    assert key() != key(grid="karras")


def test_what_a_cell_costs_beside_its_samples_is_counted():
    # 2 methods x 2 budgets of network calls, and the baselines.
    assert seconds_needed(suite(), demand(Speed(0.0, 0.0, cell=2.0), baselines=3), 400, 3) == 3 * 2.0 * (4 + 3)
    assert seconds_needed(suite(), demand(Speed(0.0, 0.0, baseline=5.0), baselines=4), 400, 3) == 3 * 5.0 * 4


def test_cells_come_seed_by_seed_and_a_round_that_does_not_end_in_time_is_not_begun():
    cells = [Cell(task, None, "real", 0, seed, 10, {}, cost=2.0) for task in ("a/b@1", "c/d@1") for seed in (1, 0)]
    both = suite(seeds=(1, 0, 2), budget_seconds=10)
    first, second = rounds(both, cells)
    assert [[cell.seed for cell in each] for each in (first, second)] == [[1, 1], [0, 0]]
    assert affordable(both, 0.0, 0.0, first), "the first round is always computed"
    assert affordable(both, 5.0, 4.0, second), "5 s, and as much again, are within 1.1 x 10 s"
    assert not affordable(both, 6.0, 4.0, second)
    assert affordable(suite(), 6.0, 4.0, second), "no budget"
    assert not used_up(both, 10.9)
    assert used_up(both, 11.1)
    assert not used_up(suite(), 1e9), "no budget"
