"""A model that samples on its own plan alone has one line in the benchmark: that of the calls it carries."""

from __future__ import annotations

import pytest

from anydiff_benchmarks.engine.leaderboard import read_leaderboard
from anydiff_benchmarks.engine.report import write_report
from anydiff_benchmarks.engine.runner import Options, run_suite
from anydiff_benchmarks.engine.store import Store
from anydiff_benchmarks.engine.suite import Suite, load_suite


class Quiet:
    def say(self, sentence):
        pass

    def planned(self, seconds, cells, stored):
        pass

    def finished(self, cell, row, computed):
        pass


@pytest.fixture
def student(toy):
    """The toy's points as a denoiser on a plan of two calls alone."""
    from anydiff.pipeline import load

    base = load("toy/points")
    path = base.denoiser.path
    grid = [path.t_start, 0.4, path.t_end]
    made = base.with_changes(["sampling.solver=ddim", "sampling.nfe=2", f"sampling.grid={grid}", "sampling.fixed=true"])
    file = toy / "student.safetensors"
    made.save(file, overwrite=True)
    yield file
    file.unlink()


def test_its_line_is_that_of_its_own_calls(toy, student, tmp_path):
    suite = load_suite(str(toy / "tiny.yaml"))
    changes = {"methods": ["ddim", "edm"], "nfe": [3], "seeds": [0, 1], "baselines": ["real", "gaussian"]}
    suite = Suite(**{**suite.model_dump(), **changes, "models": {"student": {"toy/points": [str(student)]}}})
    outcome = run_suite(suite, tmp_path, Quiet(), Options(["toy/points"], "cpu", 0, isolated=False))
    assert outcome.failed == 0, outcome.problems
    own = [row for row in outcome.rows if row.method.startswith("student")]
    assert [(row.method, row.nfe, row.counted_nfe) for row in own] == [("student · recipe", 2, 2)] * 2
    with Store(tmp_path) as store:
        board = read_leaderboard(store)
    lines = [(line.method, line.nfe) for line in board.tasks[0].lines]
    assert lines == [("student · recipe", 2), ("ddim", 3), ("edm", 3)]
    line = board.tasks[0].lines[0]
    assert line.values["toy/frechet"].mean > 0
    write_report(tmp_path)
    assert "student · recipe" in (tmp_path / "report.md").read_text()
