from __future__ import annotations

import math

import numpy as np
import pytest

from anydiff.benchmark.statistics import (
    bootstrap_interval,
    leaders,
    significance_sentence,
    student_quantile,
    summarise,
    ties,
)


def test_summary_of_three_has_no_interval():
    summary = summarise([3.0, 1.0, 2.0])
    assert (summary.median, summary.least, summary.greatest, summary.count) == (2.0, 1.0, 3.0, 3)
    assert summary.interval is None
    assert summarise([]) is None
    assert summarise([1.0] * 4).interval is None
    assert summarise([1.0] * 5).interval == (1.0, 1.0)


@pytest.mark.parametrize("count", [5, 10])
def test_interval_covers_the_mean_as_often_as_it_says(count):
    generator = np.random.default_rng(count)
    draws = generator.normal(size=(4000, count))
    inside = [low <= 0 <= high for low, high in map(bootstrap_interval, draws.tolist())]
    assert 0.94 <= np.mean(inside) <= 0.96  # 2.9 standard errors of 4000 simulations either side of 95 %


def test_student_quantile_against_known_values():
    assert student_quantile(4) == pytest.approx(2.77645, abs=1e-4)
    assert student_quantile(29) == pytest.approx(2.04523, abs=1e-4)
    assert student_quantile(30) == pytest.approx(2.04227, abs=1e-4)
    assert student_quantile(100) == pytest.approx(1.98397, abs=1e-4)


def test_interval_of_infinite_values_is_their_range():
    assert bootstrap_interval([1.0, 2.0, math.inf, 3.0, 4.0]) == (1.0, math.inf)


def test_leader_and_ties():
    values = {
        "worse": {0: 3.0, 1: 3.1, 2: 3.2},
        "best": {0: 1.0, 1: 1.1, 2: 1.2},
        "crossing": {0: 0.9, 1: 1.3, 2: 1.4},
    }
    assert leaders(values, "lower") == ["best", "crossing"]
    assert leaders(values, "higher") == ["worse"]
    assert leaders({}, "lower") == []


def test_the_same_values_tie():
    seeds = {seed: float(seed) for seed in range(3)}
    assert leaders({"a": seeds, "b": dict(seeds)}, "lower") == ["a", "b"]


def test_one_common_seed_says_nothing():
    assert ties({0: 5.0}, {0: 1.0})
    assert ties({0: 5.0, 1: 5.0}, {2: 1.0, 3: 1.0})
    assert not ties({0: 5.0, 1: 5.0}, {0: 1.0, 1: 1.0})


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_same_model_under_two_names_ties(seeds):
    """200 boards of one model under two names, with independent noise: how often it comes out as a winner."""
    generator = np.random.default_rng(7)
    tied = 0
    for _ in range(200):
        a, b = (dict(enumerate(generator.normal(size=seeds).tolist())) for _ in range(2))
        tied += len(leaders({"a": a, "b": b}, "lower")) == 2
    # Three seeds of one sign happen by chance in a quarter of all boards, which is why nothing is claimed from them.
    assert tied >= (190 if seeds >= 5 else 120)


def test_three_seeds_refuse_significance():
    assert "no statement of significance" in significance_sentence(3)
    assert "With 1 sampling seed no" in significance_sentence(1)
    assert "95 % bootstrap interval" in significance_sentence(5)
