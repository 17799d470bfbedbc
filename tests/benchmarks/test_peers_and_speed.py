"""The comparison with other libraries: its own parts, none of which needs one of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from anydiff.denoisers import FunctionDenoiser
from anydiff.paths import Flow, VPCosine
from anydiff.solvers import compile_plan, execute
from anydiff.solvers.velocity_adams import VelocityAdams
from anydiff_benchmarks.peers import ours, report, runs
from anydiff_benchmarks.peers.cases import Counted
from anydiff_benchmarks.peers.targets import NAMES, PATH, fine_endpoint, scipy_endpoint, target
from anydiff_benchmarks.speed import overhead


def distance(a, b):
    return float((a - b).square().mean().sqrt())


def test_the_reference_agrees_with_scipy():
    pytest.importorskip("scipy")
    chosen = target("W2")
    assert distance(fine_endpoint(chosen, 400)[:2], scipy_endpoint(chosen, 2, 1e-10)) < 1e-6


@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_of_the_velocity_method(order, corrector):
    chosen = target("W2")
    exact = fine_endpoint(chosen, 400)
    counts = (40, 80, 160)
    errors = []
    for nfe in counts:
        plan = compile_plan(VelocityAdams(order, corrector), PATH, nfe, ours.nodes("quadratic", nfe))
        errors.append(distance(execute(plan, chosen.oracle, chosen.start), exact))
    measured = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert measured > order + corrector - 0.4


@pytest.mark.parametrize("path", [Flow(), VPCosine(), PATH], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("nfe", [1, 2, 7])
def test_one_point_is_reached_exactly(path, nfe):
    """For data that is one point the velocity is constant: one call is enough, also from pure noise."""
    point = torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    noise = torch.tensor([[1.1, 0.4], [-0.2, 0.7]], dtype=torch.float64)
    start = path.alpha(path.t_start) * point + path.sigma(path.t_start) * noise
    plan = compile_plan(VelocityAdams(3), path, nfe, end="stop")
    out = execute(plan, FunctionDenoiser(lambda x, t: point.expand_as(x), path), start)
    assert distance(out, path.alpha(path.t_end) * point + path.sigma(path.t_end) * noise) < 1e-12


def test_every_case_of_ours_keeps_the_budget():
    chosen = target("W2")
    for case in list(ours.cases())[::7]:
        for nfe in (5, 6):
            denoise = Counted(chosen)
            assert bool(torch.isfinite(case.run(denoise, nfe)).all())
            assert 0 < denoise.calls <= nfe


def test_targets_share_one_start_for_all_libraries():
    for name in NAMES:
        chosen = target(name)
        x, t = chosen.start, PATH.t_start
        y = chosen.unscaled_start()
        kappa = PATH.sigma(t) / PATH.alpha(t)
        torch.testing.assert_close(chosen.denoise(y, kappa), chosen.oracle(x, t), rtol=1e-9, atol=1e-9)


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    monkeypatch.setattr(runs, "installed", lambda: {})
    few = list(ours.cases())[:3]
    monkeypatch.setattr(ours, "cases", lambda: iter(few))
    runs.run_missing(path, ["W2"], [5])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:2]) + "\n")
    runs.run_missing(path, ["W2"], [5])
    assert path.read_text().splitlines() == lines
    assert all(json.loads(line)["rmse"] > 0 for line in lines)


def test_tables():
    """Best of each library, the ratio, the default, and a run that failed."""
    rows = [
        {"target": "A", "nfe": 5, "library": "anydiff", "solver": "s", "grid": "g", "calls": 5, "rmse": 0.2},
        {"target": "A", "nfe": 5, "library": "anydiff", "solver": "r", "grid": "g", "calls": 5, "rmse": 0.1},
        {"target": "A", "nfe": 5, "library": "peer", "solver": "p", "grid": "g", "calls": 5, "rmse": 0.4},
        {"target": "A", "nfe": 5, "library": "peer", "solver": "over", "grid": "g", "calls": 6, "rmse": 0.001},
        {"target": "A", "nfe": 5, "library": "peer", "solver": "nan", "grid": "g", "failed": "not finite"},
    ]
    text = report.markdown(rows, [], {"peer": "1.0"}, "2020-01-01")
    assert "| A | 5 | 0.1 (r, g) | 0.25 | 0.4 (p, g) |" in text
    assert "| peer | nan | not finite | 1 |" in text
    scores = report.grouped_scores(rows, 5)
    assert [score[2] for score in scores] == ["r", "s"]
    assert math.isclose(scores[1][0], 2.0)


@pytest.mark.timing
def test_overhead_is_measured_against_the_floor_of_the_same_rounds():
    rows = overhead.measure(1000, {}, 3)
    assert {(row["library"], row["solver"]) for row in rows} == {
        (library, solver) for library in ("floor", "anydiff") for solver in ("ddim", "2m", "heun")
    }
    assert all(row["floors"] == 1 for row in rows if row["library"] == "floor")
    assert all(1 < row["floors"] < 60 and row["microseconds"] > 0 for row in rows if row["library"] == "anydiff")
