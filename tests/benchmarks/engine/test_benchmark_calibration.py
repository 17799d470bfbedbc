"""A calibration as a method of a suite: its samples, its identity, its cost, and what it is refused for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anydiff.calibration import Artefact
from anydiff.cli.main import run as anydiff
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.pipeline import load
from anydiff_benchmarks.engine.generation import Generator
from anydiff_benchmarks.engine.report import write_report
from anydiff_benchmarks.engine.runner import Options, run_suite
from anydiff_benchmarks.engine.suite import Method, Suite, load_suite
from anydiff_benchmarks.engine.worker import Setting as WorkerSetting
from anydiff_benchmarks.engine.worker import _loaded, forget_models


class Quiet:
    def say(self, sentence):
        pass

    def planned(self, seconds, cells, stored):
        pass

    def finished(self, cell, row, computed):
        pass


@pytest.fixture
def learned(toy):
    """Ratios of the toy's points for three calls, under the recipe's own guidance."""
    file = toy / "c.safetensors"
    load("toy/points").calibrate("dc", nfe=[3], count=4, fresh=8, out=file)
    yield file
    file.unlink()


def run(toy, out, methods, tasks=("toy/points",), nfe=(3,)):
    suite = load_suite(str(toy / "tiny.yaml"))
    changes = {"methods": methods, "nfe": nfe, "seeds": [0], "baselines": ["gaussian"], "gallery": 0}
    suite = Suite.parse({**suite.model_dump(), **changes}, "suite")
    return run_suite(suite, out, Quiet(), Options(list(tasks), "cpu", 0, isolated=False))


def kept(file, values):
    """The calibration in ``file`` with these ratios, as if fresh noises had let them pass."""
    made = Artefact.load(file)
    entry = replace(made.entries[0], dropped=False, values={"ratios": torch.tensor(values).double().numpy()})
    made.entries = [entry]
    made.save(file)
    return made


def test_its_row_has_its_samples_its_hash_and_its_cost(toy, learned, tmp_path):
    made = kept(learned, [1.0, 1.0, 0.7])
    outcome = run(toy, tmp_path, ["ddim", {"calibration": str(learned)}])
    assert outcome.failed == 0, [row.reason for row in outcome.rows]
    row = next(row for row in outcome.rows if row.method == "calibrated (calibration=c)")
    assert row.counted_nfe == 3
    assert (row.calibration_calls, row.calibration_seconds) == (made.entries[0].calls, made.entries[0].seconds)
    assert row.inputs["method"]["calibration"] == made.digest
    other = next(row for row in outcome.rows if row.method == "ddim")
    assert "calibration" not in other.inputs["method"]
    assert "calibration_calls" not in other.text()
    write_report(tmp_path)
    assert "seconds of its calibration" in (tmp_path / "report.md").read_text()
    moved = learned.with_name("moved.safetensors")
    moved.write_bytes(learned.read_bytes())
    slower = Artefact.load(moved)  # the same search on a slower machine
    slower.entries = [replace(slower.entries[0], seconds=99.0)]
    slower.save(moved)
    again = run(toy, tmp_path, [{"calibration": str(moved)}])
    assert again.computed == 0
    kept(moved, [1.0, 1.0, 0.8])
    assert run(toy, tmp_path, [{"calibration": str(moved)}]).computed == 1
    moved.unlink()


def test_samples_are_those_of_the_pipeline(toy, learned):
    kept(learned, [1.0, 1.0, 0.7])
    forget_models()
    generator: Generator = _loaded(WorkerSetting("toy/points@2", "", "cpu", 64, 0, False))[1]
    drawn, cost = generator.samples(Method.parse({"calibration": str(learned)}, "m"), 3, 6, 0)
    expected = generator.sample(6, 0, nfe=3, calibration=str(learned))
    assert torch.equal(drawn.states, expected.states)
    assert cost.calls_per_sample == 3


def test_what_was_not_calibrated_is_left_out_and_other_weights_fail(toy, learned, tmp_path):
    rows = {row.nfe: row for row in run(toy, tmp_path, [{"calibration": str(learned)}], nfe=(3, 4)).rows if row.solver}
    assert (rows[3].status, rows[4].status) == ("done", "not applicable")
    assert "nothing for 4 calls" in rows[4].reason
    for name, folder, words, status in (
        ("weights", "b", "made for the weights 0000", "failed"),
        ("recipe", "c", "belongs to another recipe than", "not applicable"),
    ):
        made = Artefact.load(learned)
        made.identity[name] = "0" * 64
        made.save(learned)
        outcome = run(toy, tmp_path / folder, [{"calibration": str(learned)}])
        row = next(row for row in outcome.rows if row.solver)
        assert (row.status, outcome.failed) == (status, status == "failed")
        assert words in row.reason


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"calibration": "c.safetensors", "solver": "ddim"}, "name either a solver or a calibration"),
        ({"solver": "calibrated"}, "name either a solver or a calibration"),
        ({"calibration": "c.safetensors", "grid": "karras"}, "a calibration has its own solver, options, grid and end"),
    ],
)
def test_a_method_is_a_solver_or_a_calibration(method, words):
    with pytest.raises(AnydiffError, match=words):
        Method.parse(method, "suite")


def test_a_missing_or_truncated_file_is_refused_before_anything_runs(toy, tmp_path, capsys):
    suite = {"name": "a", "methods": [{"calibration": "gone.safetensors"}], "nfe": [1], "seeds": [0]}
    with pytest.raises(FileFormatError, match="gone"):
        Suite.parse(suite, "suite 'a'").check_names()
    out = tmp_path / "report"
    words = ["bench", "run", "--suite", str(toy / "tiny.yaml"), "--calibration", "gone.safetensors", "--out", str(out)]
    assert anydiff(words) != 0
    assert "gone.safetensors" in capsys.readouterr().err
    assert not out.exists()
