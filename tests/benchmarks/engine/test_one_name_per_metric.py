"""Two values of one name: one would be lost, so they are refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from anydiff.errors import AnydiffError
from anydiff.metrics import MetricCard, Score
from anydiff.recipes import Part
from anydiff.tasks.lock import task_metrics
from anydiff_benchmarks.engine.generation import Generator


def test_two_metrics_of_one_card_name_are_refused():
    parts = (Part(name="crps"), Part(name="crps"))
    task = SimpleNamespace(id="toy/points@1", metrics=parts, evaluator="")
    with pytest.raises(AnydiffError, match=r"task 'toy/points@1' is judged by .* both called 'crps'"):
        task_metrics(task, SimpleNamespace(metrics=()))
    task.metrics = parts[:1]
    assert len(task_metrics(task, SimpleNamespace(metrics=()))) == 1


def test_two_scores_of_one_card_name_are_refused():
    card = MetricCard("return", "higher", "1", (0.0, 9.0), 9.0, 1)
    generator = object.__new__(Generator)
    generator.task = SimpleNamespace(id="toy/play@1")
    with pytest.raises(AnydiffError, match="two scores whose cards are called 'return'"):
        generator._checked({"one": Score(1.0, card, 1), "two": Score(2.0, card, 1)}, "evaluator")
    assert list(generator._checked({"one": Score(1.0, card, 1)}, "evaluator")) == ["return"]
