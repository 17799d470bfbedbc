"""What a model must beat: the strongest baseline that costs no such model, by an interval that excludes 0."""

from __future__ import annotations

import dataclasses

import pytest
from test_benchmark_recommend import CARD, row, rows_of

from anydiff.tasks import Task, find_tasks
from anydiff_benchmarks.engine.leaderboard import Leaderboard, make_leaderboard
from anydiff_benchmarks.engine.recommend import recommend
from anydiff_benchmarks.engine.report.tables import across_table, answers_table
from anydiff_benchmarks.engine.report.text import line_name, warnings_of

FACTS = {"cards": [], "closed loop": False, "paired": True}


def board(rows, **facts):
    titles = list(dict.fromkeys(each.method for each in rows if each.kind == "method"))
    return make_leaderboard("toy/cases@1", {**FACTS, **facts}, rows, titles, len(rows))


def free(**gains):
    return [row(name, 0, gain, kind="baseline") for name, gain in gains.items()]


def test_better_than_a_weak_baseline_is_not_better_than_the_strongest():
    """As poses were: .57 against the mean pose's .18, and heatmap regression's .67 stood unread beside it."""
    task = board([*rows_of({("a", 5): 0.5, ("a", 10): 0.6}), *free(weak=0.0, regression=0.9)])
    found = recommend(task)
    assert (found.baseline_name, found.baseline.verdict) == ("regression", "loss")
    cell = answers_table(Leaderboard({}, (task,))).rows[0][5]
    assert (cell.text, cell.style) == ("WORSE", "failed")
    assert "regression" in cell.note
    assert "toy/cases@1 (worse than regression)" in warnings_of(Leaderboard({}, (task,)))[0]
    assert line_name(task.line("regression"), task) == "regression (strongest free baseline)"
    assert line_name(task.line("weak"), task) == "weak"
    assert all(cells[2].value < 0 for cells in across_table([task]).rows), "0 is the strongest baseline"


def test_level_with_the_strongest_is_said_to_be_not_told_apart():
    task = board([*rows_of({("a", 5): 0.5}), *free(weak=0.0, linear=0.5)])
    assert recommend(task).baseline.verdict == "tie"
    assert "not told apart from linear" in warnings_of(Leaderboard({}, (task,)))[0]


def test_better_is_who_beats_every_free_baseline_whatever_their_means():
    """A baseline of a slightly worse mean that scatters more is not beaten, though the strongest is."""
    noisy = row("noisy", 0, -0.3, kind="baseline", spread=3.0)
    task = board([*rows_of({("a", 5): 0.9}), *free(steady=0.5), noisy])
    assert task.free(CARD.name)[0].method == "steady"
    found = recommend(task)
    assert (found.baseline_name, found.baseline.verdict) == ("noisy", "tie")


def test_what_knows_more_than_a_model_is_told_and_copies_of_the_training_data_are_not_free():
    rows = [*rows_of({("a", 5): 0.5}), *free(weak=0.0, ensemble=0.8, oracle=1.0, resample=0.9, real=1.2)]
    told = board(rows, ceiling="oracle", informed=["ensemble"])
    assert [line.method for line in told.free(CARD.name)] == ["resample", "weak"], (
        "of forecasts, data are a climatology"
    )
    sets = board(rows, ceiling="oracle", informed=["ensemble"], paired=False)
    assert [line.method for line in sets.free(CARD.name)] == ["weak"], "a copy of the data is perfect and worth nothing"
    assert recommend(sets).baseline.verdict == "win"
    assert [line.method for line in board(rows).free(CARD.name)] == ["oracle", "resample", "ensemble", "weak"]


def test_a_baseline_stands_beside_every_training():
    def trained(training, gain):
        scores = tuple(value + 0.01 * training for value in row("a", 5, gain).units[CARD.name])
        return row("a", 5, gain).model_copy(
            update={"training": training, "units": {CARD.name: scores}, "metrics": {CARD.name: sum(scores) / 40}}
        )

    task = board([*(trained(training, 0.5) for training in range(3)), *free(weak=0.0)])
    verdict = task.against_free(task.lines[0], CARD)[1]
    assert (verdict.verdict, verdict.units) == ("win", 3)


def test_informed_names_baselines():
    with pytest.raises(ValueError, match="informed names 'best', which is none of the baselines"):
        Task(name="a/b", recipe="a", samples=2, informed=("best",))
    task = Task(name="a/b", recipe="a", samples=2, baselines={"best": "a.b:c"}, informed=("best",))
    assert "informed" not in task.definition(), "a lock of before holds"


def test_only_the_simulator_s_ensemble_is_informed_among_our_tasks():
    tasks, problems = find_tasks(["*"])
    assert not problems
    named = {task.name: task.informed for task in tasks if task.informed}
    assert named == {
        "weather/assimilate": ("full ensemble", "full ensemble, ensemble Kalman"),
        "weather/gee": ("full ensemble",),
        "weather/gpp": ("full ensemble",),
    }


def test_the_power_of_a_small_difference_is_told():
    task = board([*rows_of({("a", 5): 0.5, ("bb", 5): 0.5}, spread=0.02)])
    assert 0.5 < task.power(CARD) <= 1
    assert "A difference of 2 % between two methods would be found with probability" in task.significance
    assert dataclasses.replace(task, lines=task.lines[:1]).power(CARD) is None
