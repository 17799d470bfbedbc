"""The stored results of an earlier version: they are read, and give the tables that were printed then, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from anydiff_benchmarks.engine.compare import compare_runs, read_rows
from anydiff_benchmarks.engine.leaderboard import Leaderboard, make_leaderboard
from anydiff_benchmarks.engine.report.markdown import across_text, metrics_text

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"

CEILINGS = {
    "weather/gee@2": "full perfect ensemble",
    "weather/gpp@2": "full perfect ensemble",
    "trajectories/maze@2": "expert",
}
"""What the tasks named as their ceilings then; it stands in the note of a run, which is not published."""
INFORMED = {"weather/gee@2": ["full ensemble"], "weather/gpp@2": ["full ensemble"]}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def rows():
    return read_rows(RESULTS / "quick.jsonl")


@pytest.fixture(scope="module")
def printed():
    """Task -> the lines of its table, and of the overview under an empty name."""
    found: dict[str, list[str]] = {"": []}
    title = ""
    for line in (RESULTS / "quick.md").read_text(encoding="utf-8").splitlines():
        title = line.removeprefix("## ") if line.startswith("## ") else title
        if line.startswith("|") and ("@" in title or title == "Across domains"):
            found.setdefault("" if title == "Across domains" else title, []).append(line)
    return found


@pytest.fixture(scope="module")
def leaderboard(rows, printed):
    tasks = []
    for name, lines in printed.items():
        if not name:
            continue
        own = [row for row in rows if row.task == name]
        names = [title.split(",")[0].split(" ")[0] for title in cells(lines[0])]
        cards = [{"name": metric} for metric in names if any(metric in row.cards for row in own)]
        titles = dict.fromkeys(row.method for row in own if row.kind == "method")
        order = [title for title in dict.fromkeys(cells(line)[0] for line in lines) if title in titles]
        facts = {
            "cards": cards, "closed loop": name.startswith("trajectories/"), "ceiling": CEILINGS.get(name, ""),
            "informed": INFORMED.get(name, []), "paired": any(row.cases for row in own),
        }  # fmt: skip
        tasks.append(make_leaderboard(name, facts, own, order, len(own)))
    return Leaderboard({}, tuple(tasks))


def test_every_cell_of_the_overview_is_as_it_was_printed(leaderboard, printed):
    assert len(printed[""]) == 2 + 5 * 3
    assert across_text(leaderboard.tasks).splitlines() == printed[""]


def test_every_cell_of_every_table_is_as_it_was_printed(leaderboard, printed):
    """Means, t intervals, marks of the best and the tied, and costs."""
    assert len(leaderboard.tasks) == 10
    for task in leaderboard.tasks:
        made = [
            line for cards in (task.quality, task.oracles) if cards for line in metrics_text(task, cards).splitlines()
        ]
        assert made == printed[task.name]


def test_a_run_is_no_better_than_itself(rows):
    verdicts = [each.pair.verdict for each in compare_runs(rows, rows)]
    assert verdicts.count("tie") > 100
    assert set(verdicts) == {"tie", "not judged"}, "some metrics have no units and one seed"
