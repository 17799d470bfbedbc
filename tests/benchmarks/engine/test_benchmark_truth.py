"""What samples are judged by is not where they are drawn; ensembles, closed loops, oracles, a task's own baselines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from test_benchmark_engine import run, table

from anydiff.errors import AnydiffError
from anydiff.recipes import load_recipe
from anydiff_benchmarks.engine.truth import Truth, TruthProcess

CHEAT = """
import os
import gc

import torch
from anydiff import hookimpl

def look():
    from anydiff_toy.parts import Mixture
    truth = {tuple(row) for row in Mixture("test").states.tolist()}
    hits = 0
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.ndim == 2 and thing.shape[1] == 2:
            hits += sum(tuple(row) in truth for row in thing.detach().tolist())
    return hits

@hookimpl
def wrap_denoiser(denoiser):
    with open(os.environ["CHEAT_FOUND"], "a") as file:
        file.write(f"{look()}\\n")
"""


@pytest.mark.parametrize("held", [False, True])
def test_a_plugin_that_looks_for_the_truth_while_sampling_finds_nothing(site, tmp_path, held):
    """It knows what to look for, and walks through every tensor of the process that samples.

    With ``held`` the process holds the held-out data on purpose, to show that the plugin would find it.
    """
    folder, environment = site
    cheats = tmp_path / "cheats"
    cheats.mkdir()
    content = CHEAT + ("\nfrom anydiff_toy.parts import Mixture\nHELD = Mixture('test').states\n" if held else "")
    (cheats / "cheat.py").write_text(content)
    command = [
        sys.executable,
        "-m",
        "anydiff",
        "--plugins-dir",
        str(cheats),
        "bench",
        "--suite",
        str(folder / "tiny.yaml"),
    ]
    command += ["--tasks", "toy/points", "--out", str(tmp_path / "report"), "--workers", "0", "--seeds", "1"]
    found = tmp_path / "found"
    environment = {**environment, "CHEAT_FOUND": str(found), "ANYDIFF_PLUGINS": "benchmarks,toy,cheat"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    hits = [int(line) for line in found.read_text().split()]
    assert len(hits) >= 6
    assert all(hit >= 300 for hit in hits) if held else not any(hits)


def test_ensembles_are_judged_case_by_case(toy, tmp_path):
    outcome = run(toy, tmp_path, ("toy/members",), nfe=(6,), seeds=(0,), samples=None)
    rows = {row.method: row for row in outcome.rows}
    assert "real" not in rows, "one truth per case is no ensemble"
    assert rows["ddim"].samples == 120
    assert rows["ddim"].reference_samples == 20, "20 cases of 6 members"
    assert rows["origin"].status == "done"
    assert rows["origin"].metrics["crps"] > rows["ddim"].metrics["crps"]
    assert rows["resample"].status == "done"
    assert "gave (3, 2), but 120 states were asked for" in rows["wrong"].reason
    half = run(toy, tmp_path, ("toy/members",), nfe=(6,), seeds=(0,), samples=60)
    assert {row.reference_samples for row in half.rows if row.status == "done"} == {10}


def test_an_oracle_that_does_not_say_so_is_labelled_and_printed_apart(toy, tmp_path):
    from anydiff_benchmarks.engine.report import write_report

    outcome = run(toy, tmp_path, ("toy/members",), nfe=(6,), seeds=(0,), methods=("ddim",))
    cards = outcome.rows[-1].cards
    assert cards["toy/best"].oracle_of == 6
    assert cards["crps"].oracle_of == 0
    assert cards["crps"].reference
    page = write_report(tmp_path).read_text()
    quality, oracles = page.split("<h3>Oracles</h3>")
    assert "best [m] ↓" not in quality.rpartition("<table>")[2]
    assert ">best [m] ↓<" in oracles
    assert "best of 6" in (tmp_path / "report.md").read_text()


def test_a_closed_loop_has_its_evaluators_scores_and_its_own_baselines(toy, tmp_path):
    outcome = run(toy, tmp_path, ("toy/loop",), nfe=(3, 6), seeds=(0, 1), methods=("ddim", "edm"))
    assert outcome.failed == 0
    assert {row.method for row in outcome.rows if row.kind == "baseline"} == {"nothing"}
    row = next(row for row in outcome.rows if row.method == "ddim" and row.nfe == 6)
    assert set(row.metrics) == {"toy/return"}
    assert row.counted_nfe is None, "how often it plans is its own affair"
    assert row.rows_per_sample == 2 * 6, "but what it cost is counted: two plans of six calls"


def test_a_process_that_judges_and_dies_is_started_again(toy):
    truth = TruthProcess()
    try:
        opening = truth.open("toy/points@2", 3)
        assert opening.size == 300
        assert set(opening.asked.given) == {"label"}
        assert opening.picture[:4] == b"\x89PNG"
        truth._process.kill()
        assert truth.real("toy/points@2", 50, 0).values.keys() == {"toy/frechet", "toy/near"}
        with pytest.raises(AnydiffError, match="unknown task"):
            truth.open("toy/absent@1", 0)
        assert truth.real("toy/points@2", 50, 0).samples == 50, "an error is no end"
    finally:
        truth.close()


def test_a_task_says_how_many_cases_it_needs_and_that_is_not_frozen(toy):
    from anydiff.tasks.lock import freeze
    from anydiff.tasks.task import load_task

    task = load_task("toy/points@2")
    more = task.model_copy(update={"minimum_cases": 123})
    truth = Truth(more)
    assert truth.opening(0).least == 123
    assert Truth(task).opening(0).least == max(card.minimum_samples for card in truth.cards)
    assert freeze(more, sketch=False) == freeze(task, sketch=False)


def test_the_worlds_time_is_no_matter_of_network_calls(toy, monkeypatch):
    """A loop of 0.2 s an episode and 0.01 s a call: each is found, and not the one in the other."""
    from anydiff.tasks.task import load_task
    from anydiff_benchmarks.engine import worker

    class Slow:
        task, device = load_task("toy/loop@1"), torch.device("cpu")
        pipeline = type("P", (), {"recipe": type("R", (), {"sampling": load_recipe("toy/points").sampling})})
        now = 0.0

        def closed_loop(self, method, nfe, count, seed):
            self.now += count * (0.2 + 0.01 * nfe)

        def baseline(self, name, count, seed):
            return None

    slow = Slow()

    @contextlib.contextmanager
    def measured(device):
        began, cost = slow.now, SimpleNamespace(seconds=0.0)
        yield cost
        cost.seconds = slow.now - began

    monkeypatch.setattr(worker, "measured", measured)
    speed = worker._speed(SimpleNamespace(isolated=True), None, slow)
    assert speed.row == pytest.approx(0.01)
    assert speed.judged == pytest.approx(0.2)


def test_no_state_leaves_the_process_with_the_truth(toy):
    from anydiff.tasks.task import load_task

    opening = Truth(load_task("toy/points")).opening(0)
    tensors = [value for value in vars(opening).values() if hasattr(value, "shape")]
    assert not tensors
    assert {name: tuple(value.shape) for name, value in opening.asked.tensors()} == {"given.label": (300,)}


def test_an_unfrozen_task_is_refused_and_the_others_run(toy, tmp_path):
    lock = toy / "anydiff_toy" / "tasks.lock.json"
    before = lock.read_text()
    from anydiff_benchmarks.engine.worker import forget

    forget()
    try:
        lock.write_text(json.dumps({name: entry for name, entry in json.loads(before).items() if "touchy" not in name}))
        outcome = run(
            toy, tmp_path, ("toy/points", "toy/touchy"), methods=("ddim",), nfe=(3,), seeds=(0,), baselines=()
        )
    finally:
        lock.write_text(before)
        forget()
    assert "anydiff bench lock toy/touchy@1" in outcome.problems["toy/touchy@1"]
    assert [row.status for row in outcome.rows] == ["done"]


def test_judged_in_the_process_that_samples_the_numbers_are_the_same_and_the_rows_say_so(toy, tmp_path):
    apart = run(toy, tmp_path, nfe=(3,), seeds=(0,), gallery=0)
    here = run(toy, tmp_path, nfe=(3,), seeds=(0,), gallery=0, isolated=False)
    assert table(here) == table(apart)
    assert here.computed == len(here.rows), "whoever could see the truth may not stand for whoever could not"
    assert not {row.key for row in here.rows} & {row.key for row in apart.rows}
    assert {row.inputs["judged"] for row in here.rows} == {"in the process that samples"}
    assert not any("judged" in row.inputs for row in apart.rows)
