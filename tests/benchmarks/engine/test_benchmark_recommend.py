"""Which setting is recommended, and when none is: on rows whose units are drawn from known laws."""

from __future__ import annotations

import numpy as np
import pytest

from anydiff.metrics import MetricCard
from anydiff.tasks import Task
from anydiff_benchmarks.engine.leaderboard import Leaderboard, make_leaderboard, normalised
from anydiff_benchmarks.engine.recommend import recommend
from anydiff_benchmarks.engine.report.tables import answers_table, metrics_table
from anydiff_benchmarks.engine.report.text import cases_of, warnings_of
from anydiff_benchmarks.engine.row import Row

CARD = MetricCard("toy/error", "lower", "1", (0.0, float("inf")), 0.0, 1, uncertainty="cases")
HARD = np.random.default_rng(0).gamma(2.0, 1.0, 40)
"""How hard each case is: the same for every method."""


def row(method, nfe, better, count=40, solver="x", kind="method", spread=0.05):
    """A row whose case scores are what is hard about the case, less ``better``, with a method's own scatter."""
    scatter = np.random.default_rng([nfe, len(method)]).normal(0, spread, 40)
    scores = (HARD - better + scatter)[:count]
    return Row(
        task="toy/cases@1", method=method, nfe=nfe, training=0, seed=0, samples=count, kind=kind,
        metrics={CARD.name: float(scores.mean())}, cards={CARD.name: CARD}, units={CARD.name: tuple(scores.tolist())},
        cases=tuple(range(count)), solver=None if kind == "baseline" else {"solver": solver}, key=f"{method} {nfe}",
    )  # fmt: skip


def board(rows, planned=None):
    titles = list(dict.fromkeys(each.method for each in rows if each.kind == "method"))
    return make_leaderboard("toy/cases@1", {"cards": [], "closed loop": False}, rows, titles, planned or len(rows))


def rows_of(gains, **options):
    return [row(method, nfe, better, **options) for (method, nfe), better in gains.items()]


def test_the_cheapest_setting_that_is_not_worse_is_taken_though_cases_scatter_far_more_than_settings_differ():
    gains = {("a", 5): 0.5, ("a", 10): 0.8, ("a", 20): 0.8, ("bb", 5): 0.3, ("bb", 10): 0.7, ("bb", 20): 0.801}
    found = recommend(board([*rows_of(gains), row("floor", 0, 0.0, kind="baseline")]))
    assert (found.take.method, found.take.nfe) == ("a", 10)
    assert found.more is None or found.more.verdict == "tie"
    assert found.baseline.verdict == "win"
    assert found.baseline.difference == pytest.approx(-0.8, abs=0.05)
    assert HARD.std() > 1, "the gain of .1 is a fourteenth of what the cases scatter"


def test_what_more_calls_bring_is_told_where_they_bring_something():
    gains = {("a", 5): 0.5, ("a", 10): 0.8, ("a", 20): 0.9}
    found = recommend(board(rows_of(gains)))
    assert (found.take.nfe, found.best.nfe) == (20, 20)
    assert found.chance > 0.99
    assert found.baseline is None


def test_the_recipe_s_own_setting_is_what_a_gain_is_measured_against():
    rows = [row("a", 10, 0.8), row("own", 10, 0.6, solver="recipe")]
    found = recommend(board(rows))
    assert (found.take.method, found.gain.verdict) == ("a", "win")
    assert found.gain.difference == pytest.approx(-0.2, abs=0.05)


def test_nothing_is_recommended_of_two_cases():
    task = board(rows_of({("a", 5): 0.5, ("a", 10): 0.8}, count=2))
    assert recommend(task) is None
    assert "too few cases" in answers_table(Leaderboard({}, (task,))).rows[0][1].text


def test_a_setting_below_the_baseline_is_marked_and_said_to_be_worse():
    task = board([*rows_of({("a", 5): -0.5, ("a", 10): -0.3}), row("floor", 0, 0.0, kind="baseline")])
    assert answers_table(Leaderboard({}, (task,))).rows[0][5].text == "WORSE"
    shown = [cells[2] for cells in metrics_table(task, task.quality, lambda card: card.name).rows]
    assert [cell.style for cell in shown] == ["", "failed", "failed"]
    assert all("below floor" in cell.note for cell in shown[1:])


def test_missing_cells_and_few_cases_are_announced():
    rows = rows_of({("a", 5): 0.5, ("a", 10): 0.8}, count=12)
    task = board(rows, planned=5)
    assert cases_of(task) == 12
    missing, few, single = warnings_of(Leaderboard({}, (task,)))
    assert "toy/cases@1 (3)" in missing
    assert "fewer than 32 cases" in few
    assert "toy/cases@1 (12)" in few
    assert "One sampling seed alone: toy/cases@1." in single
    second = [each.model_copy(update={"seed": 1}) for each in rows_of({("a", 5): 0.5})]
    assert warnings_of(Leaderboard({}, (board([*rows_of({("a", 5): 0.5}), *second]),))) == []


def test_a_task_s_own_ceiling_is_no_baseline_and_stands_at_one():
    rows = [*rows_of({("a", 5): 0.5}), row("floor", 0, 0.0, kind="baseline"), row("oracle", 0, 1.0, kind="baseline")]
    task = make_leaderboard("toy/cases@1", {"cards": [], "ceiling": "oracle"}, rows, ["a"], len(rows))
    low, high = task.bounds(CARD.name)
    assert (low.method, high.method) == ("floor", "oracle")
    assert normalised(task, CARD, low.values[CARD.name].mean) == 0
    assert normalised(task, CARD, high.values[CARD.name].mean) == 1
    with pytest.raises(ValueError, match="ceiling is 'best', which is none of the baselines"):
        Task(name="a/b", recipe="a", samples=2, ceiling="best")
