"""The units that a value rests on: what they are, and that their spread is that of the value."""

from __future__ import annotations

import math

import pytest
import torch
from worlds_of_units import REFERENCE, WORLDS, Vectors, coverage, sets, share

from anydiff.errors import AnydiffError
from anydiff.metrics import EnsembleRMSE, SampleSet, unit_values
from anydiff.states import Conditioning


def test_the_units_of_a_mean_are_its_terms():
    states = torch.tensor([0.0, 2.0, 0.0, 2.0, 0.0])[:, None].repeat(1, 4)
    made = unit_values(share, 0.6, sets(states), REFERENCE, "samples")
    assert made.values == pytest.approx([1, 0, 1, 0, 1])


def test_a_case_takes_its_truth_and_all_of_its_members_with_it():
    truth = torch.zeros(3, 4)
    forecast = torch.tensor([1.0, 2.0, 3.0])[:, None].repeat(2, 4)  # members of cases 0, 1, 2, 0, 1, 2
    given, reference = sets(forecast), sets(truth)
    value = EnsembleRMSE().compute(given, reference)
    made = unit_values(EnsembleRMSE().compute, value, given, reference, "cases")
    without = [math.sqrt((4 + 9) / 2), math.sqrt((1 + 9) / 2), math.sqrt((1 + 4) / 2)]
    assert made.values == pytest.approx([value + 2 * (sum(without) / 3 - each) for each in without])
    assert sum(made.values) / 3 == pytest.approx(value)


@pytest.mark.parametrize("count", [2, 16, 100])
def test_many_samples_are_left_out_in_groups_and_too_few_have_no_units(count):
    states = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    made = unit_values(share, share(sets(states), REFERENCE), sets(states), REFERENCE, "set")
    assert (made is None) == (count < 3)
    assert made is None or len(made.values) == 16
    assert unit_values(share, 0.5, sets(states), REFERENCE, "set", least=count) is None


def test_a_metric_without_a_value_of_a_part_has_no_units():
    def refuses(given, reference):
        if len(given) < 20:
            raise AnydiffError("too few.")
        return 1.0

    states = sets(torch.zeros(20, 4))
    assert unit_values(refuses, 1.0, states, REFERENCE, "samples") is None
    assert unit_values(lambda given, reference: math.nan, 1.0, states, REFERENCE, "samples") is None
    assert unit_values(share, math.inf, states, REFERENCE, "samples") is None


def test_a_metrics_own_scores_are_taken_and_must_agree_with_its_value():
    states = sets(torch.zeros(4, 4))

    def never(given, reference):
        raise AssertionError("asked again")

    made = unit_values(never, 2.5, states, states, "cases", scores=[1.0, 2.0, 3.0, 4.0])
    assert made.values == (1.0, 2.0, 3.0, 4.0)
    for scores, match in (
        ([1.0, 2.0], "gives 2 scores of 4 cases; give one for each"),
        ([1.0, math.nan, 3.0, 4.0], "score number 1 of 4 cases is nan"),
        ([1.0, 2.0, 3.0, 4.1], "value is 2.5, but the mean of its 4 scores is 2.525"),
    ):
        with pytest.raises(AnydiffError, match=match):
            unit_values(never, 2.5, states, states, "cases", scores=scores)


def test_rows_of_a_set_take_what_was_derived_of_it():
    asked = []

    def rows(given):
        asked.append(len(given))
        return given.states.sum(dim=1)

    given = SampleSet(torch.arange(12.0).reshape(3, 4), Conditioning(), Vectors())
    part = given.rows([2, 0])
    assert part.rows([0]).derived_rows("sums", rows).tolist() == [38.0]
    assert part.derived_rows("sums", rows).tolist() == [38.0, 6.0]
    assert part.derived_rows("texts", lambda each: [str(k) for k in range(len(each))]) == ["2", "0"]
    assert asked == [3]


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover_as_often_as_they_say(name):
    """Of 200 repetitions the standard error of a share of 95 % is 1.5 %; the table of docs/benchmark.md has 2,000."""
    one, other = coverage(WORLDS[name], 200)
    assert 0.90 <= one <= 0.99, one
    assert other >= 0.90, other  # of two sets against one reference the interval is a little wide
