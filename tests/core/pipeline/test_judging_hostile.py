"""Metrics that break what they are handed, their own card or their own making: the others keep their values."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from anydiff.errors import AnydiffError, PluginError
from anydiff.metrics import Metric, MetricCard, SampleSet
from anydiff.metrics.judging import judge
from anydiff.plugins import report_to
from anydiff.registry import Entry, Registry
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff.testing.points import Points


class Hostile(Metric):
    def __init__(self, act=lambda samples: 1.0, card=None):
        self.act = act
        self._card = card or (lambda: MetricCard("hostile", "lower", "1", (0.0, math.inf), 0.0, 2))

    @property
    def card(self):
        return self._card()

    def compute(self, samples, reference):
        return self.act(samples)


class Sees(Metric):
    """What is left of the sample set: entries, conditions, names of the cases."""

    card = MetricCard("sees", "higher", "1", (0.0, math.inf), 1.0, 2)

    def compute(self, samples, reference):
        assert torch.tensor(1.0).dtype == torch.float32
        return samples.states.numel() + 100 * len(samples.condition.given) + 10_000 * samples.labels.index("b")


class NoFloat(Fraction):
    def __float__(self):
        raise ValueError("no float")


class NoText:
    def __repr__(self):
        raise ValueError("no text")


def reset(samples):
    object.__setattr__(samples, "states", torch.zeros_like(samples.states))


def swap(samples):
    object.__setattr__(samples.condition, "given", {})


def add(samples):
    samples.condition.given["more"] = torch.zeros(4)


def double(samples):
    torch.set_default_dtype(torch.float64)
    return "none"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda samples: 10**400, "failed (OverflowError"),
        (lambda samples: NoFloat(1, 3), "failed (ValueError: no float)"),
        (lambda samples: NoText(), "gives a value that cannot be printed, which is NoText"),
        (lambda samples: samples.condition.given["label"].zero_(), "writes into condition 'label' of the samples"),
        (lambda samples: samples.condition.given.clear(), "failed (AttributeError: 'mappingproxy'"),
        (add, "failed (TypeError: 'mappingproxy' object does not support item assignment)"),
        (swap, "writes into given of the conditioning of the samples"),
        (lambda samples: samples.states.resize_(1), "writes into states of the samples"),
        (reset, "writes into states of the samples"),
        (lambda samples: samples.labels.sort(), "writes into labels of the samples"),
        (double, "which is str and no float"),
    ],
)
def test_whatever_a_metric_does_the_next_sees_what_was_there(act, says):
    states = torch.randn(4, 2)
    samples = SampleSet(states, Conditioning({"label": torch.tensor([0, 1, 0, 1])}), Points(), ["d", "b", "c", "a"])
    told: list[str] = []
    report_to(told.append)
    try:
        reference = SampleSet(states.clone(), UNCONDITIONAL, Points())
        scores = judge([("hostile", Hostile(act)), ("sees", Sees())], samples, reference)
    finally:
        report_to(None)
    assert scores["sees"].value == 8 + 100 + 10_000
    assert math.isnan(scores["hostile"].value)
    assert len(told) == 1
    assert says in told[0]


def leave():
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (leave, "the card of metric 'first' failed (SystemExit: 3)"),
        (lambda: None, "is NoneType and no MetricCard"),
        (
            lambda: MetricCard("core/mmd", "lower", "1", (0.0, 1.0), 0.0, 2),
            "is called 'core/mmd', which is another metric's name",
        ),
        (lambda: MetricCard("hostile", "lower", "1", (0.0, 1.0), 0.0, 2), "as another metric of this recipe is"),
    ],
)
def test_a_card_that_is_none_or_another_metrics_is_refused_and_the_rest_is_kept(card, says, monkeypatch):
    monkeypatch.setattr("anydiff.registry.Registry.names", lambda self, kind: ["core/mmd"])
    states = torch.randn(4, 2)
    sets = SampleSet(states, UNCONDITIONAL, Points()), SampleSet(states.clone(), UNCONDITIONAL, Points())
    scores = judge([("hostile", Hostile()), ("first", Hostile(lambda samples: 77.0, card))], *sets)
    assert scores["hostile"].value == 1.0
    assert math.isnan(scores["first"].value)
    assert says in scores["first"].problem


def test_two_of_one_name_are_two_scores():
    states = torch.randn(4, 2)
    sets = SampleSet(states, UNCONDITIONAL, Points()), SampleSet(states.clone(), UNCONDITIONAL, Points())
    scores = judge([("hostile", Hostile()), ("hostile", Hostile(lambda samples: 2.0))], *sets)
    assert [score.value for score in scores.values()][:1] == [1.0]
    assert "as another metric of this recipe is" in scores["hostile (2)"].problem


def test_a_metric_that_could_not_be_made_costs_no_other_its_value():
    states = torch.randn(4, 2)
    sets = SampleSet(states, UNCONDITIONAL, Points()), SampleSet(states.clone(), UNCONDITIONAL, Points())
    scores = judge([("broken", PluginError("cannot be made.")), ("hostile", Hostile())], *sets)
    assert (scores["hostile"].value, scores["broken"].problem) == (1.0, "cannot be made.")


class Breaks:
    def __init__(self, error=None, scale=1):
        raise (SystemExit(3) if error is None else error)


def test_what_a_plugins_code_raises_while_something_is_made_names_the_plugin(monkeypatch):
    registry = Registry()
    registry.add("third", [Entry("networks", "third/net", "breaks", f"{__name__}:Breaks", "third")])
    with pytest.raises(PluginError, match=r"network 'third/net' of plugin 'third' cannot be made \(SystemExit: 3\)"):
        registry.build("networks", "third/net")
    with pytest.raises(PluginError, match=r"with the options error, scale \(KeyError: 'x'\); change them, or run"):
        registry.build("networks", "third/net", error=KeyError("x"), scale=2)
    with pytest.raises(AnydiffError, match="its own sentence"):
        registry.build("networks", "third/net", error=AnydiffError("its own sentence"))
