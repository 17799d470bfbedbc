"""Samples made elsewhere that do not tell their case: their number fits the cases, or how many there are is asked."""

from types import SimpleNamespace

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.pipeline.pipeline import Pipeline
from anydiff.states import UNCONDITIONAL, StateSpec


class Plain:
    spec = StateSpec.single((1,))

    def encode(self, objects):
        return torch.tensor(objects).reshape(-1, 1)

    def match(self, objects, labels):
        return None


def _pipeline(*metrics):
    recipe = SimpleNamespace(metrics=[SimpleNamespace(name=name, options={}) for name in metrics])
    return Pipeline(recipe, SimpleNamespace(), Plain())


def _cases(count):
    return SampleSet(torch.arange(float(count))[:, None], UNCONDITIONAL, Plain())


@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_number_that_does_not_fit_the_cases_is_refused_with_the_option(count):
    with pytest.raises(AnydiffError, match=rf"ensemble-rmse .* {count} samples .* 4 held-out ones; .*--cases N"):
        _pipeline("ensemble-rmse").paired([0.0] * count, _cases(4))


@pytest.mark.parametrize(("count", "cases"), [(4, 4), (8, 4), (4, 2), (3, 1)])
def test_as_many_for_each_case_are_taken_in_order(count, cases):
    samples, reference = _pipeline("ensemble-rmse").paired([float(n) for n in range(count)], _cases(cases))
    assert samples.states[:, 0].tolist() == list(range(count))
    assert len(reference) == cases


def test_metrics_of_the_whole_set_take_any_number():
    samples, reference = _pipeline().paired([0.0] * 3, _cases(4))
    assert (len(samples), len(reference)) == (3, 4)
