"""Samples made elsewhere: those that tell their case are asked for its conditions, the others go by their order."""

from types import SimpleNamespace

import pytest
import torch

from anydiff.domains import Domain
from anydiff.errors import AnydiffError
from anydiff.metrics import MetricCard, SampleSet
from anydiff.pipeline.pipeline import Pipeline
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec


class Plain(Domain):
    """An object is a number, or (number, case)."""

    spec = StateSpec.single((1,))

    def encode(self, objects):
        return torch.tensor([each[0] if isinstance(each, tuple) else each for each in objects]).reshape(-1, 1)

    def encode_asked(self, objects, condition):
        return self.encode(objects) / condition.given.get("scale", torch.ones(1))[:, None]

    def match(self, objects, labels):
        return [labels.index(each[1]) for each in objects] if isinstance(objects[0], tuple) else None

    decode = read = write = draw = None


def _pipeline(*metrics):
    recipe = SimpleNamespace(
        name="plain", metrics=[SimpleNamespace(name=name, options={}) for name in metrics], sampling=None
    )
    return Pipeline(recipe, SimpleNamespace(), Plain())


def _cases(count, condition=UNCONDITIONAL):
    return SampleSet(torch.arange(float(count))[:, None], condition, Plain(), list("abcdefgh"[:count]))


@pytest.fixture
def held_out(monkeypatch):
    monkeypatch.setattr(Pipeline, "reference", lambda self, count=None: _cases(4))


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_without_a_word_nothing_is_taken_in_order(held_out, count):
    with pytest.raises(AnydiffError, match=rf"ensemble-rmse .* 4 held-out cases .* {count} samples is of; .*--cases N"):
        _pipeline("ensemble-rmse").evaluate_objects([0.0] * count)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_number_that_does_not_fit_the_cases_is_refused_with_the_option(count):
    with pytest.raises(AnydiffError, match=rf"ensemble-rmse .* 4 held-out cases .* {count} samples .*--cases N"):
        _pipeline("ensemble-rmse").evaluate_objects([0.0] * count, _cases(4))


@pytest.mark.parametrize(("count", "cases"), [(4, 4), (8, 4), (4, 2), (3, 1)])
def test_as_many_for_each_case_are_taken_in_order(count, cases):
    samples, reference = _pipeline("ensemble-rmse").paired([float(n) for n in range(count)], _cases(cases))
    assert samples.states[:, 0].tolist() == list(range(count))
    assert not samples.untold
    assert len(reference) == cases


def test_metrics_of_the_whole_set_stand_beside_one_that_has_no_value(held_out, monkeypatch):
    card = MetricCard("whole", "lower", "1", (0.0, 9.0), 0.0, 2)
    whole = SimpleNamespace(needs=(), card=card, compute=lambda samples, reference: 2.0)
    metrics = _pipeline("ensemble-rmse", "whole")
    from anydiff.metrics.ensembles import EnsembleRMSE

    made = {"ensemble-rmse": EnsembleRMSE(), "whole": whole}
    monkeypatch.setattr("anydiff.pipeline.evaluate._made", lambda part: made[part.name])
    scores = metrics.evaluate_objects([0.0] * 3)
    assert scores["whole"].value == 2.0
    assert "nothing tells" in scores["ensemble-rmse"].problem


def test_samples_that_tell_their_case_are_asked_for_its_conditions():
    scale = {"scale": torch.tensor([1.0, 2.0, 4.0, 8.0])}
    reference = _cases(4, Conditioning(scale, loss_weight=torch.ones(4), truth={"x": torch.ones(4)}))
    objects = [(8.0, "d"), (3.0, "b"), (16.0, "d"), (5.0, "b")]
    samples, cases = _pipeline().paired(objects, reference)
    assert cases.labels == ["b", "d"]
    assert samples.states[:, 0].tolist() == [1.5, 1.0, 2.5, 2.0]
    assert [name for name, _ in samples.condition.tensors()] == ["given.scale"]
    assert samples.condition.given["scale"].tolist() == [2.0, 8.0, 2.0, 8.0]
