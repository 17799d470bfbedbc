from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import CountingDenoiser
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.paths import VPCosine
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL
from anydiff_benchmarks.engine.leaderboard import common_cards, make_leaderboard
from anydiff_benchmarks.engine.measure import measured
from anydiff_benchmarks.engine.report import write_report
from anydiff_benchmarks.engine.runner import Options, run_suite
from anydiff_benchmarks.engine.store import Store
from anydiff_benchmarks.engine.suite import Suite, load_suite


class Quiet:
    def __init__(self):
        self.done = []

    def say(self, sentence):
        pass

    def planned(self, seconds, cells, stored):
        self.cells, self.stored = cells, stored

    def finished(self, cell, row, computed):
        self.done.append((cell.label, computed))


MIXED = ("toy/points", "toy/touchy", "toy/cut", "toy/broken")
"""Two tasks that run, one of which fails in parts, and two that do not."""


def run(toy, out, tasks=("toy/points",), workers=0, isolated=True, **changes):
    suite = load_suite(str(toy / "tiny.yaml"))
    suite = Suite(**{**suite.model_dump(), **changes})
    return run_suite(suite, out, Quiet(), Options(list(tasks), "cpu", workers, isolated=isolated))


def table(outcome):
    return {(row.method, row.nfe, row.seed): row.metrics for row in outcome.rows}


class Constant(torch.nn.Module):
    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds = seconds
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        time.sleep(self.seconds)
        return x * self.weight


@pytest.mark.parametrize(
    ("solver", "nfe", "calls"),
    [("ddim", 7, 7), ("heun", 7, 7), ("heun", 8, 8), ("edm", 5, 5), ("dpm-solver++-2m", 6, 6)],
)
def test_counted_calls_are_the_formula(solver, nfe, calls):
    counting = CountingDenoiser(NetworkDenoiser(Constant(), VPCosine()))
    sample(counting, (2,), 10, solver=solver, nfe=nfe, batch_size=4)
    assert counting.calls == 3 * calls  # three chunks
    assert counting.rows == 10 * calls


def test_a_batch_doubled_for_guidance_counts_twice_as_rows():
    counting = CountingDenoiser(NetworkDenoiser(Constant(), VPCosine()))
    label = torch.zeros(10, dtype=torch.long)
    sample(counting, (2,), 10, solver="ddim", nfe=4, guidance=ClassifierFree(2.0), condition={"label": label})
    assert (counting.calls, counting.rows) == (4, 80)


@pytest.mark.timing
def test_the_timer_agrees_with_the_denoiser():
    slow = NetworkDenoiser(Constant(0.1), VPCosine())
    with measured("cpu") as cost:
        began = time.perf_counter()
        sample(slow, (2,), 1, solver="ddim", nfe=5)
        outside = time.perf_counter() - began
    assert cost.seconds == pytest.approx(outside, rel=0.02)
    assert cost.seconds >= 0.5
    assert cost.peak_memory > 1


def test_a_run_and_its_rows(toy, tmp_path):
    outcome = run(toy, tmp_path)
    assert outcome.failed == 0
    assert len(outcome.rows) == outcome.computed == 3 * (4 + 3 * 2)
    for row in outcome.rows:
        assert set(row.metrics) == {"toy/frechet", "toy/near"}
        if row.kind == "method":
            assert row.counted_nfe == row.nfe
            assert row.rows_per_call == 1
            assert row.seconds > 0
            assert row.parameters == 1
            assert row.multiply_adds == 16  # distances to four spots of two numbers, and their mean
            assert row.weights_bytes > 100
    values = table(outcome)
    assert values["ddim", 6, 0]["toy/frechet"] < values["ddim", 3, 0]["toy/frechet"], "more calls are better here"
    assert values["resample", 0, 0]["toy/near"] > 0.95 > 0.5 > values["gaussian-diagonal", 0, 0]["toy/near"]
    pictures = [row for row in outcome.rows if row.picture]
    assert {row.seed for row in pictures} == {0}
    assert all((tmp_path / row.picture).read_bytes()[:4] == b"\x89PNG" for row in pictures)


def test_an_unchanged_run_computes_nothing_and_more_seeds_only_the_new(toy, tmp_path):
    first = run(toy, tmp_path)
    again = run(toy, tmp_path)
    assert again.computed == 0
    assert table(again) == table(first)
    assert all(why.startswith("reused") for _, why in again.explanations)
    more = run(toy, tmp_path, seeds=(0, 1, 2, 3))
    assert more.computed == 4 + 6
    smaller = run(toy, tmp_path, samples=50)
    assert smaller.computed == len(smaller.rows)
    assert all("samples (100 -> 50) changed" in why for _, why in smaller.explanations)


def test_the_batch_size_does_not_matter_to_the_cache(toy, tmp_path):
    first = run(toy, tmp_path)
    assert run(toy, tmp_path, batch_size=7).computed == 0
    other = run(toy, tmp_path / "other", batch_size=7)
    for key, metrics in table(first).items():
        assert metrics == pytest.approx(table(other)[key], rel=1e-4), key


def test_changed_weights_miss_the_cache(toy, tmp_path):
    from anydiff.pipeline import load

    run(toy, tmp_path)
    file = toy / "anydiff_toy" / "points.safetensors"
    before = file.read_bytes()
    try:
        pipeline = load("toy/points")
        with torch.no_grad():
            pipeline.denoiser.network.bias += 1e-3
        pipeline.save(file, overwrite=True)
        changed = run(toy, tmp_path)
    finally:
        file.write_bytes(before)
    assert changed.computed == len(changed.rows), "bundled weights are a file of the plugin, and all of these count"
    assert sum("weights" in why for _, why in changed.explanations) == 3 * 6


def test_failing_cells_and_tasks_do_not_stop_the_run(toy, tmp_path):
    outcome = run(toy, tmp_path, MIXED, methods=("ddim", "toy/broken"), nfe=(3,), seeds=(0,), baselines=())
    assert set(outcome.problems) == {"toy/cut@1", "toy/broken@1"}
    assert "truncated" in outcome.problems["toy/cut@1"]
    by_cell = {(row.task, row.method): row for row in outcome.rows}
    assert by_cell["toy/points@2", "ddim"].status == "done"
    assert "ZeroDivisionError" in by_cell["toy/points@2", "toy/broken"].reason
    touchy = by_cell["toy/touchy@1", "ddim"]
    assert touchy.status == "failed"
    assert set(touchy.metrics) == {"toy/frechet"}, "the metric that works has its value"
    assert "it hurts" in touchy.reason
    assert outcome.failed == 2 + 1 + 2
    again = run(toy, tmp_path, MIXED, methods=("ddim", "toy/broken"), nfe=(3,), seeds=(0,), baselines=())
    assert again.computed == 3, "what failed is run again"
    assert sum(why.startswith("computed again: failed") for _, why in again.explanations) == 3


def test_what_a_task_cannot_have_is_no_failure(toy, tmp_path):
    asked = {
        "methods": ("ddim", {"solver": "ddim", "end": "denoise", "label": "short"}),
        "nfe": (1,),
        "seeds": (0,),
        "baselines": (),
    }
    outcome = run(toy, tmp_path, **asked)
    by_method = {row.method: row for row in outcome.rows}
    assert (by_method["ddim"].status, by_method["short"].status) == ("done", "not applicable")
    assert "needs at least 2" in by_method["short"].reason
    assert outcome.failed == 0
    assert run(toy, tmp_path, **asked).computed == 0
    write_report(tmp_path)
    assert "<b>short at 1 NFE</b> cannot be had here (n/a)" in (tmp_path / "index.html").read_text()
    assert "short at 1 NFE is n/a: nfe is 1" in (tmp_path / "report.md").read_text()


def test_a_solver_that_lies_about_its_calls_fails(toy, tmp_path, monkeypatch):
    from anydiff.solvers.plan import Plan

    run(toy, tmp_path, methods=("ddim",), nfe=(3,), seeds=(0,), baselines=())
    monkeypatch.setattr(Plan, "nfe", property(lambda plan: 2))
    outcome = run(toy, tmp_path, methods=("ddim",), nfe=(3,), seeds=(7,), baselines=())
    assert "made 3 network calls per sample, but its plan says 2" in outcome.rows[0].reason


def test_two_cards_cannot_share_a_column(toy, tmp_path):
    rows = run(toy, tmp_path, nfe=(3,), seeds=(0,), baselines=()).rows
    assert [card.name for card in common_cards(rows)] == ["toy/frechet", "toy/near"]
    other = rows[-1].model_copy(deep=True)
    other.cards["toy/frechet"] = replace(other.cards["toy/frechet"], version="2")
    with pytest.raises(AnydiffError, match=r"cannot share a column: version is '1' for one and '2'"):
        make_leaderboard("t", {}, [*rows[:-1], other], ["ddim", "edm"], 3)


@pytest.mark.timing
def test_the_harness_costs_little(toy, tmp_path):
    """What a cell costs beside sampling and metrics: at most 20 ms of processor time."""
    began = time.process_time()
    outcome = run(
        toy, tmp_path, methods=("ddim",), nfe=(1,), seeds=tuple(range(100)), baselines=(), samples=20, gallery=0
    )
    spent = time.process_time() - began
    inside = sum(row.seconds + row.metric_seconds for row in outcome.rows)
    assert (spent - min(inside, spent)) / 100 < 0.02


def test_unknown_tasks_and_devices(toy, tmp_path):
    with pytest.raises(AnydiffError, match=r"unknown task 'toy/pionts'; did you mean 'toy/points@"):
        run(toy, tmp_path, ("toy/pionts",))
    suite = load_suite(str(toy / "tiny.yaml"))
    with pytest.raises(AnydiffError, match="does not have"):
        run_suite(suite, tmp_path, Quiet(), Options(device="cuda:77"))


def test_an_interrupt_keeps_what_is_done(toy, tmp_path):
    class Impatient(Quiet):
        def finished(self, cell, row, computed):
            super().finished(cell, row, computed)
            if len(self.done) == 5:
                raise KeyboardInterrupt

    suite = load_suite(str(toy / "tiny.yaml"))
    with pytest.raises(KeyboardInterrupt):
        run_suite(suite, tmp_path, Impatient(), Options(["toy/points"], "cpu", 0))
    with Store(tmp_path) as store:
        assert len(store.rows(store.note("run")["keys"]["toy/points@2"])) == 5
    assert run(toy, tmp_path).computed == 25


def test_a_round_that_the_budget_does_not_allow_is_left_to_the_next_run(toy, tmp_path, monkeypatch):
    whole = table(run(toy, tmp_path / "whole"))
    asked = []

    def at_first(suite, spent, expected, cells):
        asked.append((spent, {cell.seed for cell in cells}))
        return len(asked) == 1

    monkeypatch.setattr("anydiff_benchmarks.engine.runner.affordable", at_first)
    part = run(toy, tmp_path / "part", budget_seconds=1e6)
    assert [seeds for _, seeds in asked] == [{0}, {1}], "seed by seed"
    assert asked[0][0] == 0 < asked[1][0], "what was spent is known before the second seed"
    assert {row.seed for row in part.rows} == {0}
    assert part.computed == len(part.rows) == len([key for key in whole if key[2] == 0])
    assert part.failed == 0
    monkeypatch.setattr("anydiff_benchmarks.engine.runner.affordable", lambda *_: True)
    assert table(run(toy, tmp_path / "part")) == whole


def test_no_cell_is_begun_once_the_budget_is_used(toy, tmp_path, monkeypatch):
    """Also in the first round, which is begun whatever it costs."""
    whole = table(run(toy, tmp_path / "whole"))
    asked = set()

    def after_three(suite, spent):
        asked.add(spent)  # nothing, and the seconds after each cell
        return len(asked) > 3

    monkeypatch.setattr("anydiff_benchmarks.engine.runner.used_up", after_three)
    part = run(toy, tmp_path / "part", budget_seconds=1e6)
    assert part.computed == len(part.rows) == 3
    assert part.failed == 0
    monkeypatch.setattr("anydiff_benchmarks.engine.runner.used_up", lambda *_: False)
    assert table(run(toy, tmp_path / "part")) == whole
