"""Trainings x cases: intervals with the luck of both; planted effects and equals that tie, for each kind of unit."""

from __future__ import annotations

import numpy as np
import pytest
from worlds_of_rows import METHODS, WORLDS, measure

from anydiff.metrics import t_interval
from anydiff_benchmarks.engine.statistics import beside, chances, crossed, interval, paired, power, units


def table(values):
    return {(t, -1, c): float(value) for t, row in enumerate(values) for c, value in enumerate(row)}


def cover(trainings, cases, parts, repetitions=1500):
    """How often the interval of the mean holds 0, and how often one of the trainings' means alone would."""
    random = np.random.default_rng([trainings, cases, int(100 * sum(parts))])
    of_training, of_case, rest = parts
    found = []
    for _ in range(repetitions):
        values = of_training * random.normal(size=(trainings, 1)) + of_case * random.normal(size=(1, cases))
        runs = table(values + rest * random.normal(size=(trainings, cases)))
        bounds = interval(runs), t_interval(units(runs))
        found.append([low <= 0 <= high for low, high in bounds])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("parts", [(1, 1, 1), (0.3, 1, 1), (1, 1, 0.2), (0, 1, 1), (1, 0.3, 1)])
@pytest.mark.parametrize(("trainings", "cases"), [(3, 32), (5, 16)])
def test_the_interval_covers_over_new_trainings_and_new_cases(trainings, cases, parts):
    both, _ = cover(trainings, cases, parts)
    assert 0.93 <= both <= 0.975


def test_the_trainings_means_alone_would_not():
    both, alone = cover(5, 16, (0.1, 1, 0.1))
    assert both >= 0.93
    assert alone < 0.5, "all trainings share the luck of the cases"


def test_trainings_with_draws_of_their_own_are_their_means():
    runs = {(t, s): float(t + s) for t in range(5) for s in range(2)}
    assert crossed(runs) is None
    assert interval(runs) == t_interval([0.5, 1.5, 2.5, 3.5, 4.5])
    ragged = {key: 1.0 for key in table(np.ones((3, 8))) if key != (2, -1, 7)}
    assert crossed(ragged) is None
    assert crossed(table(np.ones((3, 2)))) is None, "two cases tell nothing of their spread"
    assert interval(table(np.ones((3, 8)))) == (1.0, 1.0)


def test_a_part_that_only_one_side_has_is_in_the_interval():
    random = np.random.default_rng(1)
    cases = random.normal(size=8)
    low, high = interval(table(np.tile(cases, (3, 1))))
    assert (low, high) == pytest.approx(t_interval(cases.tolist())), "equal trainings: the cases' own interval"
    trained = random.normal(size=3)
    low, high = interval(table(np.tile(trained[:, None], (1, 8))))
    assert (low, high) == pytest.approx(t_interval(trained.tolist())), "equal cases: the trainings' own interval"


def test_chances_draw_trainings_and_cases():
    random = np.random.default_rng(2)
    hard = random.normal(size=(1, 16))
    values = {name: table(hard + gain + 0.05 * random.normal(size=(3, 16))) for name, gain in (("a", 0.0), ("b", 0.2))}
    assert chances(values, "lower")["a"] > 0.99
    assert sum(chances(values, "higher").values()) == pytest.approx(1)


def test_a_baseline_has_no_training():
    runs = table(np.zeros((3, 4)))
    assert beside({(0, -1, c): 1.0 for c in range(4)}, runs).keys() == runs.keys()
    assert paired(runs, beside({(0, -1, c): 1.0 for c in range(4)}, runs), "lower").verdict == "win"


def test_power_against_simulation():
    random = np.random.default_rng(3)
    scores = 1 + 0.1 * random.normal(size=(1500, 20))
    other = scores + 0.06 * random.normal(size=(1500, 20))
    pairs = [({(0, -1, c): v for c, v in enumerate(one)}, {(0, -1, c): v for c, v in enumerate(two)})
             for one, two in zip(scores.tolist(), other.tolist(), strict=True)]  # fmt: skip
    found = np.mean(
        [paired({k: 1.03 * v for k, v in one.items()}, two, "lower").verdict == "loss" for one, two in pairs]
    )
    stated = np.mean([power(one, two, 0.03) for one, two in pairs])
    assert found == pytest.approx(stated, abs=0.04)
    one, two = pairs[0]
    assert power(one, two, 30.0) == 1.0
    assert power(one, one, 0.0) is None, "all differences are equal"
    assert power(table(np.ones((2, 4))), table(np.ones((2, 4))), 0.1) is None


@pytest.mark.parametrize("name", list(WORLDS))
def test_equals_tie_and_planted_differences_are_found(name):
    """A small part of the table in docs/benchmark.md, which 1,000 repetitions make."""
    found = measure(WORLDS[name], 25)
    assert METHODS == 5
    assert found.ties >= 0.9
    assert found.covered >= 0.85
    if found.stated is not None:
        assert (found.more + found.less) / 2 == pytest.approx(found.stated, abs=0.25)
    else:
        assert (found.more + found.less) / 2 > 0.25
