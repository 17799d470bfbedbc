"""Held-out cases that depend on those that follow: rows hold blocks of them, and seeds share these."""

from __future__ import annotations

import json

import pytest
import torch
from test_benchmark_recommend import CARD, HARD, row

from anydiff.tasks import load_task
from anydiff_benchmarks.engine.leaderboard import make_leaderboard, parts_of
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.truth import Truth


def blocks_row(seed, blocks, gain=0.0, method="a", nfe=5):
    values = tuple(float(HARD[block]) - gain for block in blocks)
    return row(method, nfe, gain).model_copy(
        update={"seed": seed, "blocks": tuple(blocks), "units": {CARD.name: values}, "key": f"{method} {nfe} {seed}"}
    )


def test_blocks_of_several_seeds_are_laid_together():
    rows = [blocks_row(0, [0, 1, 2, 3]), blocks_row(1, [1, 2, 3, 5], gain=0.2)]
    found = parts_of(rows, CARD.name)
    assert sorted(found) == [(0, -1, block) for block in (0, 1, 2, 3, 5)]
    assert found[0, -1, 2] == pytest.approx(HARD[2] - 0.1), "the mean of both seeds"
    task = make_leaderboard("toy/cases@1", {"cards": []}, rows, ["a"], 2)
    assert task.lines[0].values[CARD.name].units == 5
    assert "5 blocks of cases" in task.significance


def test_blocks_are_written_and_read_and_left_out_where_there_are_none():
    one = blocks_row(0, [0, 2])
    assert Row.parse(json.loads(one.text()), "a row").blocks == (0, 2)
    assert '"blocks"' not in row("a", 5, 0.1).text()


def test_whoever_judges_successive_cases_gives_blocks(toy):
    truth = Truth(load_task("toy/members"))
    size = len(truth.reference)
    cases = torch.arange(0, size, 3)
    asked = truth.reference.condition.rows(cases.repeat(2))
    states = torch.randn(2 * len(cases), 2, generator=torch.Generator().manual_seed(0))
    single = truth.judge(states, asked, cases)
    assert single.blocks == ()
    truth.dependence = 2
    found = truth.judge(states, asked, cases)
    assert found.values == single.values
    assert found.blocks == tuple(range(min(16, size // 10)))
    assert all(len(units.values) == len(found.blocks) for units in found.units.values())
    assert found.units.keys() == single.units.keys()
