"""The study of `advise`: the report counts what agrees and what does not; a planted fault stands beside its name."""

from __future__ import annotations

import pytest

from anydiff_benchmarks.advice.command import read
from anydiff_benchmarks.advice.report import good, markdown, told, within
from anydiff_benchmarks.advice.study import planted

ROW = {
    "recipe": "a/b", "seed": 0, "samples": 64, "metric": "a/c", "unit": "1", "cause": "solver", "calls": 195,
    "advise seconds": 20.0, "seconds": 60.0, "predicted": 0.11, "predicted half width": 0.01, "measured": 0.1,
    "measured half width": 0.02, "predicted distance": 0.12, "measured distance": 0.1, "network": 0.3, "sample": 0.05,
    "ceiling": 0.0, "chosen": "ddim", "chosen calls": 5, "settings": 24, "chosen error": 0.43, "best": "heun, time",
    "best error": 0.4, "behind": 0.03, "behind half width": 0.01, "chosen distance": 0.02, "nearest": "ddim",
    "nearest distance": 0.02,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (True, True, True)),
        ({"predicted distance": 0.13}, (False, True, True)),
        ({"measured half width": 0.06}, (True, False, True)),
        ({"chosen error": 0.45}, (True, True, False)),
        ({"measured distance": None, "predicted distance": None}, (None, True, True)),
        ({"settings": 1}, (True, True, None)),
        ({"chosen": None}, (True, True, None)),
        ({"best error": -0.01, "behind": 0.02}, (True, True, False)),
        ({"best error": -0.01, "behind": 0.005}, (True, True, True)),
    ],
)
def test_what_agrees(changes, expected):
    row = {**ROW, **changes}
    assert (within(row), told(row), good(row)) == expected


def test_the_report_counts_both_sides():
    far = {**ROW, "seed": 1, "predicted distance": 0.2, "chosen error": 0.6}
    fault = {
        "recipe": "a/b",
        "seed": 0,
        "fault": "16 samples",
        "truth": "sample",
        "cause": "refused",
        "sentence": "no.",
    }
    text = markdown([ROW, far, {"recipe": "a/d", "seed": 0, "refused": "it has no metric."}, fault])
    assert "within 25% of what is measured in 1 of 2 rows" in text
    assert "at most 1.1 times the best in 1 of 2 rows; of the others the difference is beyond its interval in 1" in text
    assert "a/d, seed 0, was refused: it has no metric." in text
    assert "| a/b | 16 samples | sample | refused | no. |" in text
    only_solver = {name: value for name, value in ROW.items() if not name.startswith(("chosen", "best", "behind"))}
    assert "in 0 of 0 rows" in markdown([only_solver])


def test_a_fault_that_cannot_be_asked_about_is_a_row_with_the_reason(monkeypatch):
    from anydiff.errors import AnydiffError

    def refuse(*arguments, **options):
        raise AnydiffError("too few.")

    monkeypatch.setattr("anydiff_benchmarks.advice.study.advise", refuse)
    rows = planted("weather/gee", 0, 16, lambda name: None)
    assert [(row["truth"], row["cause"]) for row in rows] == [
        ("network", "refused"), ("solver", "refused"), ("sample", "refused"),
    ]  # fmt: skip


def test_nothing_is_read_where_there_was_no_run(tmp_path):
    assert read(tmp_path / "advice.jsonl") == []
