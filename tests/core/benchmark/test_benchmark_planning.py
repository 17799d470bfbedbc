from __future__ import annotations

import time

import pytest

from anydiff.benchmark.planning import Speed, allocate, fill_water, plan_cells, seconds_needed
from anydiff.benchmark.suite import Suite


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


def test_expected_seconds():
    assert seconds_needed(suite(), SPEED, 400, 3) == pytest.approx(40.8)
    assert seconds_needed(suite(baselines=["real"]), SPEED, 400, 3) == pytest.approx(42.0)


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
    (share,) = allocate(suite(budget_seconds=budget), [(SPEED, least)])
    assert (share.samples, len(share.seeds)) == (samples, seeds)
    assert share.over == (budget is not None and share.seconds > 1.05 * budget)
    assert share.over == (budget == 1)


def test_ten_domains_take_as_long_as_one():
    one = allocate(suite(budget_seconds=40), [(SPEED, 20)])
    ten = allocate(suite(budget_seconds=40), [(SPEED, 20)] * 10)
    assert sum(share.seconds for share in ten) <= 40
    assert sum(share.seconds for share in one) <= 40
    cheap = allocate(suite(budget_seconds=40), [(SPEED, 20)] + [(Speed(1e-6, 1e-6), 20)] * 9)
    assert cheap[0].samples >= 300
    assert all(share.samples == 400 for share in cheap[1:])


def test_cells_have_their_own_keys_and_whole_rounds_of_seeds():
    small = suite(baselines=["resample"])
    (share,) = allocate(small, [(SPEED, 10)])
    cells = plan_cells(small, share, SPEED, {"task": "t"}, {"weights": "w"}, {"training data": "d"})
    assert len(cells) == 3 * (1 + 4) == len({cell.key for cell in cells})
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    again = plan_cells(small, share, SPEED, {"task": "t"}, {"weights": "other"}, {"training data": "d"})
    same = [cell.baseline for cell, other in zip(cells, again, strict=True) if cell.key == other.key]
    assert same == ["resample"] * 3, "a change of weights concerns the methods, not the baselines"


def test_a_label_does_not_change_the_key_and_an_option_does():
    def key(**method):
        one = suite(methods=[{"solver": "ddim", **method}])
        (share,) = allocate(one, [(SPEED, 10)])
        return plan_cells(one, share, SPEED, {"task": "t"}, {}, {})[0].key

    assert key() == key(label="mine")
    assert key() != key(options={"eta": 1.0})
    assert key() != key(grid="karras")


def test_ten_thousand_cells_are_planned_in_five_seconds():
    big = suite(nfe=list(range(1, 51)), seeds=list(range(100)), methods=["ddim", "edm"])
    (share,) = allocate(big, [(SPEED, 10)])
    began = time.process_time()
    cells = plan_cells(big, share, SPEED, {"task": "t"}, {"weights": "w"}, {})
    assert len({cell.key for cell in cells}) == 10_000
    assert time.process_time() - began < 5
