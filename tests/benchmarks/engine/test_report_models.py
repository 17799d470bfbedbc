"""What the report says of the models: their loss at fixed noise levels, and what `advise` says of each."""

from __future__ import annotations

import json

import pytest
from test_benchmark_engine import run

from anydiff.errors import AnydiffError
from anydiff_benchmarks.engine import advice
from anydiff_benchmarks.engine.leaderboard import read_leaderboard
from anydiff_benchmarks.engine.report import write_report
from anydiff_benchmarks.engine.report.models import advice_table, levels_table
from anydiff_benchmarks.engine.store import Store


@pytest.fixture
def folder(toy, tmp_path):
    out = tmp_path / "report"
    run(toy, out, ["toy/points"])
    return out


def test_every_report_has_the_loss_of_each_model_at_eight_levels(folder):
    with Store(folder) as store:
        board = read_leaderboard(store)
    table = levels_table(board)
    assert table.head == ["task", *(f"log-SNR {level:g}" for level in range(-4, 4))]
    (cells,) = table.rows
    assert "training seed 0" in cells[0].note
    assert all(0 < cell.value < 1.2 for cell in cells[1:]), "a mixture's exact network with a biased output"
    assert "±" in cells[1].note
    page = write_report(folder).read_text(encoding="utf-8")
    assert "log-SNR -4" in page
    assert "anydiff bench advise --out" in page, "what was not asked is said how to ask"
    assert "## Denoising loss" in (folder / "report.md").read_text(encoding="utf-8")
    with Store(folder) as store:  # a model without a loss, and a run of before
        note = store.note("run")
        (facts,) = note["tasks"].values()
        facts["trainings"][0]["denoising"] = {"problem": "it is an autoencoder."}
        store.remember("run", note)
        assert "no loss: it is an autoencoder." in levels_table(read_leaderboard(store)).rows[0][0].note
        del facts["trainings"][0]["denoising"]
        store.remember("run", note)
        assert levels_table(read_leaderboard(store)) is None


def test_what_advise_says_of_each_model_stands_in_the_report(folder, monkeypatch):
    monkeypatch.setattr("anydiff.advise.advice.LIMIT", 40)
    with Store(folder) as store:
        assert advice_table(read_leaderboard(store)) is None
        with pytest.raises(AnydiffError, match="but the run has toy/points@2; name some"):
            advice.advise_run(store, ["nothing/*"], 140, print)
        assert advice.advise_run(store, ["toy/*"], 140, lambda sentence: None) == 1
        (cells,) = advice_table(read_leaderboard(store)).rows
        assert "±" in cells[3].note
        assert "would" in cells[-1].text
        note = store.note("run")
        (facts,) = note["tasks"].values()
        assert cells[-1].text in write_report(folder).read_text(encoding="utf-8")
        facts["trainings"][0]["weights"] = "other"
        store.remember("run", note)
        assert advice_table(read_leaderboard(store)) is None, "what was said of other weights is not shown"
        assert json.dumps(store.note("advice")), "plain data"
        facts["trainings"][0]["weights"] = note["tasks"]["toy/points@2"]["weights"]
        store.remember("run", note)
        advice.advise_run(store, [], 16, lambda sentence: None)
        (cells,) = advice_table(read_leaderboard(store)).rows
        assert "does not tell how uncertain it is" in cells[-1].text, "a model that cannot be advised says why"


def test_a_run_is_needed(tmp_path):
    with Store(tmp_path) as store, pytest.raises(AnydiffError, match="holds no benchmark yet"):
        advice.advise_run(store, [], 16, print)
