"""One metric cannot spoil another's value: what it raises, returns or writes into is named, and the others count."""

from __future__ import annotations

import json
import math

import pytest
import torch

from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard
from anydiff.metrics.judging import Judge, judge
from anydiff.plugins import report_to
from anydiff.testing.points import Points


class Spread(Metric):
    """The deviation of all entries; what it does besides is the test's."""

    def __init__(self, name="spread", act=lambda samples, reference: None, high=math.inf):
        self.name, self.act, self.high = name, act, high

    @property
    def card(self):
        return MetricCard(self.name, "lower", "1", (0.0, self.high), 0.0, 2)

    def compute(self, samples, reference):
        answer = self.act(samples, reference)
        kept = samples.derived("spread", lambda own: float(own.states.std()))
        return kept if answer is None else answer[0]


@pytest.fixture
def told():
    sentences = []
    report_to(sentences.append)
    yield sentences
    report_to(None)


def zero(samples, reference):
    samples.states.zero_()


def zero_by_numpy(samples, reference):
    samples.states.numpy()[:] = 0


def relabel(samples, reference):
    samples.condition.given["label"][0] = 1


def zero_the_reference(samples, reference):
    reference.states.zero_()


def fail(samples, reference):
    raise RuntimeError("no\nluck")


def leave(samples, reference):
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (zero, "writes into states of the samples"),
        (zero_by_numpy, "writes into states of the samples"),
        (relabel, "writes into condition 'label' of the samples"),
        (zero_the_reference, "writes into states of the reference"),
        (fail, "failed (RuntimeError: no luck)"),
        (leave, "failed (SystemExit: 0)"),
        (lambda *sets: ["0.5"], "gives '0.5', which is str and no float"),
        (lambda *sets: [torch.tensor(0.5)], "which is Tensor and no float"),
        (lambda *sets: [True], "which is bool and no float"),
        (lambda *sets: [[None]], "gives [None], which is list and no float"),
        (lambda *sets: [math.nan], "is NaN for these samples"),
    ],
)
def test_a_bad_metric_is_named_and_the_next_reads_what_it_would_have_read(told, act, says):
    samples, reference = Points.cloud(12), Points.cloud(8)
    right = float(samples.states.std())
    before = samples.states.clone(), samples.condition.given["label"].clone(), reference.states.clone()
    scores = judge([("bad", Spread("bad", act)), ("good", Spread("good"))], samples, reference)
    assert scores["good"].value == right
    assert scores["good"].problem == ""
    assert math.isnan(scores["bad"].value)
    assert says in scores["bad"].problem
    assert scores["bad"].problem.startswith("metric 'bad'")
    assert told == [scores["bad"].problem]
    after = samples.states, samples.condition.given["label"], reference.states
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_none_is_no_value():
    class Forgets(Spread):
        def compute(self, samples, reference):
            return None

    with pytest.raises(AnydiffError, match=r"metric 'forgets' gives None, which is NoneType and no float"):
        judge([("forgets", Forgets("forgets"))], Points.cloud(4), Points.cloud(4))


def test_a_value_outside_the_card_is_kept_and_said(told):
    scores = judge([("spread", Spread(high=0.5))], Points.cloud(12), Points.cloud(12))
    assert scores["spread"].value > 0.5
    assert "but its card promises 0 to 0.5" in scores["spread"].problem
    assert told == [scores["spread"].problem]


def test_samples_that_are_the_reference_are_kept_once():
    both = Points.cloud(6)
    with pytest.raises(AnydiffError, match="writes into states of the samples"):
        Judge(both, both).value(Spread("bad", zero), "bad")
    assert both.states.any()


PLUGIN = """
from anydiff import hookimpl
from anydiff.metrics import Metric, MetricCard

class Good(Metric):
    name = "zoo_faulty/good"

    @property
    def card(self):
        return MetricCard(self.name, "lower", "1", (0.0, 9.0), 0.0, 2)

    def compute(self, samples, reference):
        return float(samples.states.double().std())

class Faulty(Good):
    name = "zoo_faulty"

    def compute(self, samples, reference):
        samples.states.zero_()
        return ANSWER

@hookimpl
def register_metrics(register):
    register("zoo_faulty", "faulty", "zoo_faulty:Faulty")
    register("zoo_faulty/good", "good", "zoo_faulty:Good")
"""


@pytest.mark.parametrize(("answer", "says"), [("1 / 0", "ZeroDivisionError"), ("0.5", "writes into states")])
def test_evaluate_shows_the_others_and_ends_with_a_code(tmp_path, monkeypatch, capsys, answer, says):
    from anydiff.plugins import forget

    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "zoo_faulty.py").write_text(PLUGIN.replace("ANSWER", answer))
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(folder))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "images,zoo_faulty")
    forget()
    try:
        from anydiff.pipeline import load

        changes = ["sampling.nfe=1", "metrics=[zoo_faulty, zoo_faulty/good]"]
        pipeline = load("images/fashion").with_changes(changes)
        monkeypatch.setattr("anydiff.pipeline.load", lambda source: pipeline)
        code = run(["evaluate", "images/fashion", "--count", "4", "--json"])
    finally:
        report_to(None)
        forget()
        import sys

        sys.modules.pop("zoo_faulty", None)
    out, error = capsys.readouterr()
    found = json.loads(out)
    assert code == 1
    assert found["zoo_faulty"]["value"] is None
    assert says in found["zoo_faulty"]["problem"]
    assert "metric 'zoo_faulty' of plugin 'zoo_faulty'" in error
    assert 0.1 < found["zoo_faulty/good"]["value"] < 2
