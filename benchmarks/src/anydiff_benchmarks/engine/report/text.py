"""How numbers and names are written in every report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Leaderboard, Line, TaskLeaderboard
from anydiff_benchmarks.engine.recommend import recommend
from anydiff_benchmarks.engine.statistics import Summary

BASELINE_HELP: Mapping[str, str] = {
    "real": "held-out against held-out (ceiling)",
    "resample": "training data",
    "gaussian": "Gaussian of all moments",
    "gaussian-diagonal": "marginal Gaussian",
    "independent": "frequencies of classes",
}


def number(value: float | None) -> str:
    """Four significant digits, without an exponent where a person can do without."""
    if value is None:
        return "–"
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.3e}"
    digits = 3 - (math.floor(math.log10(abs(value))) if value else 0)
    text = f"{value:.{max(0, min(digits, 8))}f}"
    return "0" if value == 0 else text


def span(summary: Summary) -> str:
    """The interval; without one the least and greatest value of the seeds. Empty where all are equal."""
    low, high = summary.interval or (summary.least, summary.greatest)
    if low == high:
        return ""
    between = f"{number(low)} … {number(high)}"
    return between if summary.interval is None else f"[{between}]"


def arrow(direction: str) -> str:
    """Which way is better."""
    return "↓" if direction == "lower" else "↑"


def heading(card: MetricCard) -> str:
    """The metric's name without its plugin's, its unit, and which way is better."""
    unit = "" if card.unit in ("", "1") else f" [{card.unit}]"
    return f"{card.name.rsplit('/', 1)[-1].replace('-', ' ')}{unit} {arrow(card.direction)}"


def short(hash_: str) -> str:
    """The first digits of a hash."""
    return hash_[:12]


ENOUGH = 32
"""Fewer cases are announced at the top of a report."""
COSTS = (
    ("rows_per_sample", "network rows per sample"),
    ("milliseconds", "ms per sample"),
    ("peak_memory_mib", "peak MiB"),
    ("parameters", "parameters"),
    ("multiply_adds", "multiply-adds per call and sample"),
    ("weights_bytes", "bytes of weights"),
    ("calibration_calls", "calls of its calibration"),
    ("calibration_seconds", "seconds of its calibration"),
)
"""Columns of cost: the name of :meth:`~anydiff_benchmarks.engine.leaderboard.Line.cost`, and its title."""
LATER_COSTS = ("multiply_adds", "weights_bytes", "calibration_calls", "calibration_seconds")
"""Those that rows of earlier versions, and of methods without a calibration, lack."""


def cost_text(name: str, value: float) -> str:
    """A cost as people write it."""
    return f"{value:,.0f}" if name in ("parameters", "multiply_adds", "weights_bytes") else number(value)


def counted(line: Line) -> str:
    """The network calls of a line as counted; the budget in brackets where nothing was counted."""
    calls = line.cost("counted_nfe")
    return "0" if line.nfe == 0 else f"{calls.median:g}" if calls else f"({line.nfe})"


def line_name(line: Line, task: TaskLeaderboard) -> str:
    """What a line is called: baselines say what they are, and which one a model must beat."""
    if line.nfe:
        return line.method
    name = BASELINE_HELP.get(line.method, line.method)
    beaten = [task.bounds(card.name)[0] for card in task.cards[:1]]
    return f"{name} (strongest free baseline)" if line in beaten else name


def warnings_of(board: Leaderboard) -> list[str]:
    """What a reader must know before the first table: missing cells, tasks no better than what is free, few cases or
    seeds.
    """
    found = []
    missing = {task.name: task.missing for task in board.tasks if task.missing}
    if missing:
        each = ", ".join(f"{name} ({count})" for name, count in missing.items())
        found.append(f"Cells without a row yet: {each}. The same command goes on with them.")
    behind = [text for task in board.tasks if (text := _behind(task))]
    if behind:
        found.append(
            "By the first metric, the recommended setting is no better than the strongest baseline that costs no such "
            f"model: {'; '.join(behind)}."
        )
    few = {task.name: cases for task in board.tasks if 0 < (cases := cases_of(task)) < ENOUGH}
    if few:
        each = ", ".join(f"{name} ({count})" for name, count in few.items())
        found.append(
            f"Judged on fewer than {ENOUGH} cases, because the time budget bought no more: {each}. Their intervals are "
            "wide; run these tasks with --budget 0 before you rely on them."
        )
    single = [task.name for task in board.tasks if task.lines and len(task.seeds) == 1]
    if single:
        found.append(
            f"One sampling seed alone: {', '.join(single)}. Their intervals count the cases, or the groups of samples, "
            "of that seed."
        )
    return found


def _behind(task: TaskLeaderboard) -> str:
    """The task with the free baseline that its recommended setting does not beat; empty where it beats all."""
    found = recommend(task)
    if found is None or found.baseline is None or found.baseline.verdict == "win":
        return ""
    words = {"loss": "worse than", "tie": "not told apart from"}.get(found.baseline.verdict, "not judged against")
    return f"{task.name} ({words} {BASELINE_HELP.get(found.baseline_name, found.baseline_name)})"


def cases_of(task: TaskLeaderboard) -> int:
    """The fewest different cases that a setting of a paired task is judged on; 0 where no sample has a case."""
    counts = [len({case for row in line.rows for case in row.cases}) for line in task.lines]
    return min(counts, default=0)


def task_sentence(facts: Mapping[str, Any], seeds: int) -> str:
    """What a table rests on, in a sentence or two."""
    reference = facts["reference"]
    trainings = len({(each["model"], each["source"]) for each in facts["trainings"]})
    text = (
        f"{facts['samples']} of the task's {facts['full samples']} samples per cell x {seeds} sampling "
        f"seed{'s' if seeds != 1 else ''}, {trainings} trained model{'s' if trainings != 1 else ''}; judged "
        f"against {reference['samples']} {reference['split']} examples of {reference['data set']}; network of "
        f"{facts['parameters']:,} parameters; {facts['machine']['name']} ({facts['machine']['device']}, "
        f"{facts['machine']['threads']} thread{'s' if facts['machine']['threads'] != '1' else ''})."
    )
    if facts["members"]:
        text += f" Ensembles of {facts['members']} members: {facts['samples'] // facts['members']} cases."
    if facts["closed loop"]:
        text += " Judged in closed loop by the task's evaluator; NFE is the budget of one plan."
    if facts["over budget"]:
        text += " This task needs more than its share of the time budget even at the least its metrics accept."
    return text
