"""Cases that follow one another: blocks of them are what an interval counts, and intervals cover what they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from worlds_of_units import sets

from anydiff.data import overlapping
from anydiff.errors import AnydiffError
from anydiff.metrics import EnsembleRMSE, blocks_of, t_interval, unit_values


def test_blocks_are_of_neighbours_and_the_same_for_whoever_has_some_of_the_cases():
    assert blocks_of(range(64), 64, 0) is None
    whole = blocks_of(range(64), 64, 2)
    assert whole == sorted(whole)
    assert sorted(set(whole)) == list(range(6)), "64 cases of dependence 2: blocks of 10 at least"
    some = [63, 0, 10, 50]
    assert blocks_of(some, 64, 2) == [whole[row] for row in some]
    assert len(set(blocks_of(range(1000), 1000, 1))) == 16, "no more than there are groups"
    assert set(blocks_of(range(9), 9, 1)) == {0}, "too few cases are one block"


def test_a_block_is_left_out_as_a_whole():
    truth, forecast = torch.zeros(6, 4), torch.arange(1.0, 7.0)[:, None].repeat(2, 4)
    given, reference = sets(forecast), sets(truth)
    value = EnsembleRMSE().compute(given, reference)
    made = unit_values(EnsembleRMSE().compute, value, given, reference, "cases", blocks=[0, 0, 2, 2, 5, 5])
    without = [((9 + 16 + 25 + 36) / 4) ** 0.5, ((1 + 4 + 25 + 36) / 4) ** 0.5, ((1 + 4 + 9 + 16) / 4) ** 0.5]
    assert made.numbers == (0, 2, 5)
    assert made.values == pytest.approx([value + 2 * (sum(without) / 3 - each) for each in without])


def test_blocks_of_scores_are_their_means_and_the_metric_is_not_asked():
    states = sets(torch.zeros(6, 4))

    def never(given, reference):
        raise AssertionError("asked again")

    scores = [1.0, 3.0, 2.0, 2.0, 0.0, 4.0]
    made = unit_values(never, 2.0, states, states, "cases", scores=scores, blocks=[0, 0, 1, 1, 2, 2])
    assert made.values == pytest.approx([2.0, 2.0, 2.0])
    uneven = unit_values(never, 2.0, states, states, "cases", scores=scores, blocks=[0, 1, 1, 1, 2, 2])
    assert sum(uneven.values) / 3 == pytest.approx(2.0), "the mean of the units is the value"
    assert unit_values(never, 2.0, states, states, "cases", scores=scores, blocks=[0, 0, 0, 1, 1, 1]) is None
    own = unit_values(never, 2.0, states, states, "samples", scores=scores, blocks=[0, 0, 1, 1, 2, 2])
    assert own.values == tuple(scores), "samples of a model follow no one"
    with pytest.raises(AnydiffError, match="blocks names the blocks of 3 cases, but there are 6"):
        unit_values(never, 2.0, states, states, "cases", scores=scores, blocks=[0, 1, 2])


@pytest.mark.parametrize(
    ("begins", "length", "expected"),
    [([0, 10, 20], 10, 0), ([0, 9, 20], 10, 1), ([0, 4, 8, 12], 10, 2), ([0, 100, 5], 10, 2), ([3], 10, 0), ([], 1, 0)],
)
def test_stretches_that_share_a_moment(begins, length, expected):
    assert overlapping(begins, [begin + length for begin in begins]) == expected


def cover(count, follow, blocks, repetitions=1500):
    """How often the interval of a mean of moving averages of ``follow`` + 1 shocks holds 0; of half of the cases."""
    random = np.random.default_rng([count, follow])
    held = 0
    for _ in range(repetitions):
        shocks = random.normal(size=count + follow)
        scores = np.convolve(shocks, np.ones(follow + 1), "valid")
        rows = np.sort(random.permutation(count)[: count // 2])
        states = sets(torch.zeros(len(rows), 4))
        chosen = blocks_of(rows.tolist(), count, follow) if blocks else None
        values = scores[rows].tolist()
        made = unit_values(None, float(np.mean(values)), states, states, "cases", scores=values, blocks=chosen)
        low, high = t_interval(made.values)
        held += low <= 0 <= high
    return held / repetitions


@pytest.mark.parametrize(("count", "follow"), [(64, 1), (64, 2), (256, 2), (512, 7)])
def test_intervals_of_blocks_cover(count, follow):
    assert 0.92 <= cover(count, follow, blocks=True) <= 0.97


def test_intervals_of_single_cases_would_not():
    assert cover(256, 2, blocks=False) < 0.9
    assert cover(512, 7, blocks=False) < 0.75
