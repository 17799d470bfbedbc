from __future__ import annotations

import math

import numpy as np
import pytest

from anydiff.benchmark.statistics import (
    FEWEST,
    bootstrap_interval,
    leaders,
    paired,
    significance_sentence,
    student_quantile,
    summarise,
    units,
)


def runs(values, training=0):
    return {(training, seed): float(value) for seed, value in enumerate(values)}


def test_summary_of_three_has_no_interval():
    summary = summarise(runs([3, 1, 2]))
    assert (summary.median, summary.mean, summary.least, summary.greatest, summary.count) == (2, 2, 1, 3, 3)
    assert summary.interval is None
    assert summarise({}) is None
    assert summarise(runs([1] * 4)).interval is None
    assert summarise(runs([1] * 5)).interval == (1.0, 1.0)


def test_several_trainings_are_what_is_counted():
    values = {**runs([1, 3], 0), **runs([10, 12], 1)}
    assert units(values) == [2.0, 11.0]
    summary = summarise(values)
    assert (summary.mean, summary.count, summary.units, summary.interval) == (6.5, 4, 2, None)
    many = {key: value for training in range(5) for key, value in runs([training, training + 1], training).items()}
    assert summarise(many).interval == bootstrap_interval([0.5, 1.5, 2.5, 3.5, 4.5])


@pytest.mark.parametrize("count", [5, 10])
def test_interval_covers_the_mean_as_often_as_it_says(count):
    generator = np.random.default_rng(count)
    draws = generator.normal(size=(4000, count))
    inside = [low <= 0 <= high for low, high in map(bootstrap_interval, draws.tolist())]
    assert 0.94 <= np.mean(inside) <= 0.96  # 2.9 standard errors of 4000 simulations either side of 95 %


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.2), (0.2, 1.0), (0.0, 1.0), (1.0, 1.0)])
def test_interval_over_trainings_and_seeds_covers_as_often_as_it_says(between, within):
    """The law the harness assumes: a training has its own mean, and its seeds scatter around it."""
    generator = np.random.default_rng(3)
    inside = []
    for _ in range(3000):
        means = between * generator.normal(size=(5, 1)) + within * generator.normal(size=(5, 3))
        values = {(t, s): float(means[t, s]) for t in range(5) for s in range(3)}
        low, high = summarise(values).interval
        inside.append(low <= 0 <= high)
    assert 0.93 <= np.mean(inside) <= 0.97


def test_seeds_of_few_trainings_taken_for_independent_would_not():
    """Why trainings are counted: with 15 values of 5 trainings taken as 15, the interval covers far too seldom."""
    generator = np.random.default_rng(4)
    inside = []
    for _ in range(1000):
        values = generator.normal(size=(5, 1)) + 0.2 * generator.normal(size=(5, 3))
        low, high = bootstrap_interval(values.ravel().tolist())
        inside.append(low <= 0 <= high)
    assert np.mean(inside) < 0.8


def test_student_quantile_against_known_values():
    for freedom, value in [(4, 2.776445), (5, 2.570582), (29, 2.045230), (30, 2.042272), (100, 1.983972)]:
        assert student_quantile(0.975, freedom) == pytest.approx(value, abs=2e-6)
    assert student_quantile(0.995, 4) == pytest.approx(4.604095, abs=2e-6)
    assert student_quantile(0.99, 1) == pytest.approx(31.820516, rel=1e-6)


def test_interval_of_infinite_values_is_their_range():
    assert bootstrap_interval([1.0, 2.0, math.inf, 3.0, 4.0]) == (1.0, math.inf)


def test_leaders_and_ties():
    values = {
        "worse": runs([3.0, 3.1, 3.2, 3.0, 3.1]),
        "best": runs([1.0, 1.1, 1.2, 1.0, 1.1]),
        "crossing": runs([0.9, 1.3, 1.4, 1.2, 1.2]),
    }
    assert leaders(values, "lower") == ["best", "crossing"]
    assert leaders(values, "higher") == ["worse"]
    assert leaders({}, "lower") == []
    few = {name: dict(list(own.items())[:3]) for name, own in values.items()}
    assert set(leaders(few, "lower")) == set(values), "three seeds tell nothing apart"


def test_pairs():
    first, second = runs([1.0, 2.0, 3.0, 4.0, 5.0]), runs([1.1, 2.1, 3.1, 4.1, 5.2])
    won = paired(first, second, "lower")
    assert (won.verdict, won.units) == ("win", 5)
    assert won.interval[1] < 0
    assert paired(first, second, "higher").verdict == "loss"
    assert paired(second, first, "lower").verdict == "loss"
    assert paired(first, first, "lower").verdict == "tie"
    assert paired(first, runs([1.1] * 3), "lower").units == 3
    assert paired(first, {(1, 0): 1.0}, "lower").verdict == "tie"
    assert paired(first, runs([math.inf] * 5), "lower").verdict == "tie"
    one_outlier = runs([1.1, 2.1, 3.1, 4.1, 4.99])
    assert paired(first, one_outlier, "lower").verdict == "tie", "not of one sign"


@pytest.mark.parametrize("methods", [2, 5])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("trainings", [1, 6])
def test_the_same_model_under_several_names_ties(methods, seeds, trainings):
    """200 boards of one model under two or more names, with independent noise: how often one comes out as a winner."""
    generator = np.random.default_rng(7)
    tied = 0
    for _ in range(200):
        luck = generator.normal(size=trainings)
        board = {
            str(name): {(t, s): float(luck[t] + generator.normal()) for t in range(trainings) for s in range(seeds)}
            for name in range(methods)
        }
        tied += len(leaders(board, "lower")) == methods
    assert tied >= 190


def test_a_difference_is_found():
    """What is not equal does not tie for ever: one standard deviation apart, on shared seeds."""
    generator = np.random.default_rng(8)
    found = 0
    for _ in range(200):
        luck = 3 * generator.normal(size=10)
        board = {n: runs(luck + 0.5 * generator.normal(size=10) + shift) for n, shift in (("a", 0.0), ("b", 1.0))}
        found += leaders(board, "lower") == ["a"]
    assert found >= 60


def test_few_seeds_refuse_significance():
    assert "no statement of significance" in significance_sentence(1, 3)
    assert "no statement of significance" in significance_sentence(3, 10), "three trainings are few, however many seeds"
    assert "95 % bootstrap interval" in significance_sentence(1, 5)
    assert "this training alone" in significance_sentence(1, FEWEST)
    assert "this training alone" not in significance_sentence(5, 3)
