"""Cards: what may share a column, and what a metric refuses."""

import dataclasses

import pytest
import torch

from anydiff.domains import Domain
from anydiff.errors import AnydiffError, NonFiniteError, UnknownNameError
from anydiff.metrics import Metric, MetricCard, SampleSet, require_same_card
from anydiff.states import UNCONDITIONAL, Conditioning, Leaf, StateSpec


class Numbers(Domain):
    name = "numbers"
    spec = StateSpec([Leaf("number", (1,))])

    def encode(self, objects):
        return torch.tensor(objects)[:, None]

    def decode(self, states, condition=None):
        return states[:, 0].tolist()

    def read(self, path):
        return []

    def write(self, objects, path):
        pass

    def draw(self, objects, path, titles=None):
        pass


class MeanGap(Metric):
    card = MetricCard("mean-gap", "lower", "1", (0.0, float("inf")), 0.0, minimum_samples=3, features="a@1")

    def compute(self, samples, reference):
        self.check(samples, reference)
        return abs(float(samples.states.mean() - reference.states.mean()))


def numbers(*values: float) -> SampleSet:
    return SampleSet(torch.tensor(values, dtype=torch.float32)[:, None], UNCONDITIONAL, Numbers())


def test_check_refuses_what_cannot_be_judged():
    metric = MeanGap()
    assert metric.compute(numbers(1, 2, 3), numbers(4, 5, 6)) == 3
    with pytest.raises(AnydiffError, match="at least 3 samples, but the sample set has 2"):
        metric.compute(numbers(1, 2), numbers(4, 5, 6))
    with pytest.raises(AnydiffError, match="the reference has 1"):
        metric.compute(numbers(1, 2, 3), numbers(4))
    with pytest.raises(NonFiniteError, match="row 1 of the sample set"):
        metric.compute(numbers(1, float("nan"), 3), numbers(4, 5, 6))


def test_a_sample_set_checks_shapes_and_conditions():
    with pytest.raises(AnydiffError, match="needs"):
        SampleSet(torch.zeros(3, 2), UNCONDITIONAL, Numbers())
    with pytest.raises(AnydiffError, match="condition 'label' has"):
        SampleSet(torch.zeros(3, 1), Conditioning({"label": torch.zeros(2)}), Numbers())


@pytest.mark.parametrize("change", [{"features": "a@2"}, {"version": "2"}, {"direction": "higher"}, {"unit": "K"}])
def test_different_cards_do_not_share_a_column(change):
    card = MeanGap.card
    assert require_same_card([card, dataclasses.replace(card)]) == card
    with pytest.raises(AnydiffError, match=f"cannot share a column: {next(iter(change))}"):
        require_same_card([card, dataclasses.replace(card, **change)])
    with pytest.raises(AnydiffError, match="no metric card"):
        require_same_card([])


def test_a_domain_without_conditions_refuses_them():
    assert Numbers().parse_condition({}, 3) == {}
    assert Numbers().conditions == {}
    assert Numbers().describe_condition({}) == []
    with pytest.raises(UnknownNameError, match="label"):
        Numbers().parse_condition({"label": "3"}, 3)


def test_what_is_derived_from_a_sample_set_is_worked_out_once_for_each_key():
    asked = []

    def total(samples):
        asked.append(len(samples))
        return float(samples.states.sum())

    some, other = numbers(1, 2, 3), numbers(4, 5)
    assert [some.derived("total", total), some.derived("total", total), other.derived("total", total)] == [6, 6, 9]
    assert asked == [3, 2]
    assert some.derived("another key", total) == 6
    assert asked == [3, 2, 3]
