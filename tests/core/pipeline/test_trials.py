"""The trials of a domain cannot spoil the metrics: what they raise or return is one sentence of plugin and domain."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, Score
from anydiff.metrics.judging import judge, trials
from anydiff.plugins import report_to
from anydiff.testing.points import Points


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """The domain is of a plugin; sentences are told to this list."""
    known = {"domains": [SimpleNamespace(name="trajectories", plugin="loops")], "metrics": []}
    monkeypatch.setattr("anydiff.metrics.judging.registry", lambda: SimpleNamespace(entries=known.get))
    sentences = []
    report_to(sentences.append)
    yield sentences
    report_to(None)


CARD = MetricCard("loop/return", "higher", "1", (0.0, 1.0), 1.0, 1)


class Constant(Metric):
    card = MetricCard("constant", "lower", "1", (0.0, math.inf), 0.0, 1)

    def __init__(self, value=0.5):
        self.value = value

    def compute(self, samples, reference):
        return self.value


def _raise(error):
    raise error


BAD = [
    (lambda: _raise(RuntimeError("no\nluck")), "failed (RuntimeError: no luck)"),
    (lambda: _raise(SystemExit(0)), "failed (SystemExit: 0)"),
    (lambda: _raise(AnydiffError("gymnasium is not installed.")), "has no value: gymnasium is not installed."),
    (lambda: None, "gives None, which is no dictionary of scores"),
    (lambda: "0.5", "gives '0.5', which is no dictionary of scores"),
    (lambda: {"loop/return": 0.5}, "which is no dictionary of scores"),
    (lambda: {"loop/return": Score(0.5, None, 3)}, "which is no dictionary of scores"),
    (lambda: {"loop/return": Score("0.5", CARD, 3)}, "gives '0.5', which is str and no float"),
    (lambda: {"loop/return": Score(None, CARD, 3)}, "gives None, which is NoneType and no float"),
    (lambda: {"loop/return": Score(torch.tensor(0.5), CARD, 3)}, "which is Tensor and no float"),
    (lambda: {"loop/return": Score(math.nan, CARD, 3)}, "is NaN"),
]


@pytest.mark.parametrize(("ask", "says"), BAD)
def test_what_is_wrong_is_named_and_the_metrics_stand(told, ask, says):
    cloud = Points.cloud(4)
    scores = judge([("constant", Constant())], cloud, cloud, trials("trajectories", ask))
    assert scores["constant"] == Score(0.5, Constant.card, 4)
    (bad,) = [score for name, score in scores.items() if name != "constant"]
    assert math.isnan(bad.value)
    assert says in bad.problem
    assert told == [bad.problem]
    assert "evaluate() of domain 'trajectories' of plugin 'loops'" in bad.problem


@pytest.mark.parametrize(("ask", "says"), BAD)
def test_alone_it_ends_the_command(ask, says):
    cloud = Points.cloud(4)
    with pytest.raises(AnydiffError, match="evaluate\\(\\) of domain 'trajectories'"):
        judge([], cloud, cloud, trials("trajectories", ask))


def test_trials_stand_where_every_metric_fails():
    cloud = Points.cloud(4)
    scores = judge([("constant", Constant(None))], cloud, cloud, {"loop/return": Score(0.5, CARD, 3)})
    assert scores["loop/return"] == Score(0.5, CARD, 3)
    assert "NoneType" in scores["constant"].problem


def test_a_value_outside_the_card_is_kept_and_said():
    (score,) = trials("trajectories", lambda: {"loop/return": Score(2.0, CARD, 3)}).values()
    assert score.value == 2.0
    assert "but its card promises 0 to 1" in score.problem


def test_two_values_of_one_name_are_not_one():
    cloud = Points.cloud(4)
    scores = judge([("constant", Constant())], cloud, cloud, {"constant": Score(9.0, Constant.card, 1)})
    assert scores["constant"].value == 0.5
    assert "rename one of them" in scores["constant"].problem


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_is_one(error):
    with pytest.raises(error):
        trials("trajectories", lambda: _raise(error()))
