from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from anydiff.metrics import t_interval
from anydiff.metrics.jackknife import student_quantile
from anydiff_benchmarks.engine.statistics import (
    FEWEST,
    leaders,
    paired,
    significance_sentence,
    summarise,
    units,
)


def runs(values, training=0):
    return {(training, seed): float(value) for seed, value in enumerate(values)}


def test_summary_of_two_has_no_interval():
    summary = summarise(runs([3, 1, 2]))
    assert (summary.median, summary.mean, summary.least, summary.greatest, summary.count) == (2, 2, 1, 3, 3)
    # t(0.975, 2) = 4.302653, and the standard error is 1/sqrt(3).
    assert summary.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)
    assert summarise({}) is None
    assert summarise(runs([1] * 2)).interval is None
    assert summarise(runs([1] * 3)).interval == (1.0, 1.0)


def test_several_trainings_are_what_is_counted():
    values = {**runs([1, 3], 0), **runs([10, 12], 1)}
    assert units(values) == [2.0, 11.0]
    summary = summarise(values)
    assert (summary.mean, summary.count, summary.units, summary.interval) == (6.5, 4, 2, None)
    many = {key: value for training in range(5) for key, value in runs([training, training + 1], training).items()}
    assert summarise(many).interval == t_interval([0.5, 1.5, 2.5, 3.5, 4.5])


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_interval_covers_the_mean_as_often_as_it_says(count):
    generator = np.random.default_rng(count)
    draws = generator.normal(size=(4000, count))
    inside = [low <= 0 <= high for low, high in map(t_interval, draws.tolist())]
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
        low, high = t_interval(values.ravel().tolist())
        inside.append(low <= 0 <= high)
    assert np.mean(inside) < 0.8


def test_student_quantile_against_known_values():
    for freedom, value in [(4, 2.776445), (5, 2.570582), (29, 2.045230), (30, 2.042272), (100, 1.983972)]:
        assert student_quantile(0.975, freedom) == pytest.approx(value, abs=2e-6)
    assert student_quantile(0.995, 4) == pytest.approx(4.604095, abs=2e-6)
    assert student_quantile(0.99, 1) == pytest.approx(31.820516, rel=1e-6)


@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.9875, 1 - 0.0125 / 10])
def test_student_quantile_against_closed_forms(probability):
    """Of 1, 2 and 4 degrees of freedom the quantile has one (Shaw 2006, J. Comput. Finance 9(4), section 3)."""
    tail = 4 * probability * (1 - probability)
    two = 2 * (probability - 0.5) * math.sqrt(2 / tail)
    quarter = math.cos(math.acos(math.sqrt(tail)) / 3) / math.sqrt(tail)
    forms = {1: math.tan(math.pi * (probability - 0.5)), 2: two, 4: 2 * math.sqrt(quarter - 1)}
    for freedom, value in forms.items():
        assert student_quantile(probability, freedom) == pytest.approx(value, rel=1e-12)


def test_the_interval_is_that_of_scipy():
    for count in (3, 5, 12):
        values = np.random.default_rng(count).normal(3.0, 2.0, count)
        expected = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
        assert t_interval(values.tolist()) == pytest.approx(expected, rel=1e-12)


def test_interval_of_infinite_values_is_their_range():
    assert t_interval([1.0, 2.0, math.inf, 3.0, 4.0]) == (1.0, math.inf)


def test_leaders_and_ties():
    values = {
        "worse": runs([3.0, 3.1, 3.2, 3.0, 3.1]),
        "best": runs([1.0, 1.1, 1.2, 1.0, 1.1]),
        "crossing": runs([0.9, 1.3, 1.4, 1.2, 1.2]),
    }
    assert leaders(values, "lower") == ["best", "crossing"]
    assert leaders(values, "higher") == ["worse"]
    assert leaders({}, "lower") == []
    few = {name: dict(list(own.items())[:2]) for name, own in values.items() if name != "worse"}
    assert leaders(few, "lower") == ["best", "crossing"], "two seeds tell nothing apart"
    assert leaders(few, "lower", untested=False) == ["best"], "and that is no tie"


def test_pairs():
    first, second = runs([1.0, 2.0, 3.0, 4.0, 5.0]), runs([1.1, 2.1, 3.1, 4.1, 5.2])
    won = paired(first, second, "lower")
    assert (won.verdict, won.units) == ("win", 5)
    assert won.interval[1] < 0
    assert paired(first, second, "higher").verdict == "loss"
    assert paired(second, first, "lower").verdict == "loss"
    assert paired(first, first, "lower").verdict == "tie"
    assert paired(first, runs([1.1] * 3), "lower").units == 3
    assert paired(first, runs([math.inf] * 5), "lower").verdict == "win"
    assert paired(runs([math.inf] * 3), runs([math.inf] * 3), "lower").verdict == "tie"
    one_outlier = runs([1.1, 2.1, 3.1, 4.1, 4.99])
    assert paired(first, one_outlier, "lower").verdict == "tie", "not of one sign"


@pytest.mark.parametrize(
    ("first", "second", "verdict", "why"),
    [
        # What was not tested is no tie.
        ([], [1.0], "not judged", "no run in common"),
        ([1.0], [1.0], "not judged", "1 run, 3 are needed; the numbers are the same"),
        ([1.0], [2.0], "not judged", "1 run, 3 are needed; the numbers changed"),
        ([1.0, 2.0], [1.5, 2.7], "not judged", "2 runs, 3 are needed; the numbers changed"),
        ([1.0, math.nan, 2.0], [1.0, 1.0, 1.0], "not judged", "a difference is no number"),
        # Three and four seeds: the t interval, whose quantiles are 4.30 and 3.18.
        ([1.0, 2.0, 3.0], [1.5, 2.7, 3.6], "win", ""),
        ([1.5, 2.7, 3.6, 4.5], [1.0, 2.0, 3.0, 4.0], "loss", ""),
        ([1.0, 2.0, 3.0], [1.1, 2.9, 3.4], "tie", ""),
        ([1.0, 2.0, 3.0], [1.5, 2.5, 2.9], "tie", ""),
        # The same change on every seed, however much the seeds scatter.
        ([0.0, 0.0, 0.0], [1.0, 10.0, 3.0], "win", ""),
        ([0.0, 0.0, 0.0], [0.0, 10.0, 3.0], "win", ""),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 3.0], "tie", ""),
        ([10.0, 100.0, 30.0], [1.0, 10.0, 3.0], "loss", ""),
        ([10.0, 100.0], [1.0, 10.0], "loss", ""),
        ([2.0, 11.0], [1.0, 10.0], "loss", ""),
        ([-1.0, -10.0], [1.0, 10.0], "win", ""),
        ([0.5, 0.5, 0.5], [0.4999, 0.4999, 0.4999], "loss", ""),
        # Rounding is no change.
        ([0.5, 0.5, 0.5], [0.5 + 1e-8] * 3, "tie", ""),
        ([0.0, 0.0, 0.0], [1e-17] * 3, "tie", ""),
        ([1e5, 2e5, 3e5], [1e5 + 1e-3, 2e5 + 2e-3, 3e5 + 3e-3], "tie", ""),
    ],
)
def test_what_is_judged_and_how(first, second, verdict, why):
    found = paired(runs(first), runs(second), "lower", same_method=True)
    assert (found.verdict, found.why) == (verdict, why)
    assert (found.interval is None) == (verdict == "not judged")
    other = {"win": "loss", "loss": "win"}.get(verdict, verdict)
    assert paired(runs(second), runs(first), "lower", same_method=True).verdict == other
    assert paired(runs(first), runs(second), "higher", same_method=True).verdict == other


def test_between_methods_a_common_factor_is_no_proof():
    """A rare event that one method met on every seed and the other on none may be luck; of one method it is none."""
    zero, rare = runs([0.0, 0.0, 0.0]), runs([0.01, 0.07, 0.01])
    assert paired(zero, rare, "lower").verdict == "tie"
    assert paired(zero, rare, "lower", same_method=True).verdict == "win"


@pytest.mark.parametrize("seeds", [3, 4])
def test_equals_are_told_apart_no_oftener_than_promised_by_few_seeds(seeds):
    generator = np.random.default_rng(11)
    boards = 4000
    apart = 0
    for draws in generator.normal(size=(boards, 2, seeds)):
        apart += paired(runs(draws[0]), runs(draws[1]), "lower", 0.975).verdict != "tie"
    assert apart <= 0.025 * boards + 3 * (0.025 * boards) ** 0.5


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
    assert "no statement of significance" in significance_sentence(1, 2, 2, "seed")
    assert "no statement of significance" in significance_sentence(2, 10, 2, "training"), "however many seeds"
    assert "count 32 cases. Methods" in significance_sentence(1, 1, 32, "case")
    assert "count 16 groups of samples. Methods" in significance_sentence(1, 1, 16, "group of samples")
    assert "this training alone" in significance_sentence(1, 3, FEWEST, "seed")
    assert "this training alone" not in significance_sentence(5, 3, 5, "training")
