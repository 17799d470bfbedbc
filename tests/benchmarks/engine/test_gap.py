"""The gap between ODE and SDE: none for an exact score, told for a wrong one, never the bias of the steps."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from anydiff.advise import gap
from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.metrics import sliced_wasserstein
from anydiff.pipeline import load

MODULE = sys.modules["anydiff.advise.ode_sde_gap"]


@pytest.fixture
def exact(toy):
    pipeline = load("toy/points")
    with torch.no_grad():
        pipeline.denoiser.network.bias.zero_()
    return pipeline


@pytest.fixture(autouse=True)
def _coarser(monkeypatch):
    monkeypatch.setattr(MODULE, "LEAST", 15)


def test_an_exact_score_leaves_no_gap_and_no_residual(exact):
    told = []
    found = gap(exact, 200, report=told.append)
    assert found.distance < 2 * found.floor
    assert not found.seen
    assert found.change <= 2 * found.floor
    assert found.of == "score"
    assert max(each.size for each in found.residuals) < 0.1
    assert [each.log_snr for each in found.residuals] == sorted((e.log_snr for e in found.residuals), reverse=True)
    assert len(told) >= 5
    assert "no difference" in found.sentence


def test_a_wrong_score_has_both(exact):
    right = gap(exact, 200)
    with torch.no_grad():
        exact.denoiser.network.bias.fill_(0.8)
    found = gap(exact, 200)
    assert found.seen
    assert found.distance > right.distance
    sizes = [(each.size, other.size) for each, other in zip(found.residuals, right.residuals, strict=True)]
    assert max(one for one, _ in sizes) > 10 * max(other for _, other in sizes)
    assert "they differ" in found.sentence


def test_the_command_prints_a_table_and_json(exact, toy, capsys):
    assert run(["gap", "toy/points", "--count", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"distance", "floor", "change", "steps", "residuals", "seen", "summary"} <= set(found)
    assert len(found["residuals"]) == 8
    assert run(["gap", "toy/points", "--count", "20"]) == 0
    assert "ODE to SDE" in capsys.readouterr().out


def test_what_is_no_gap_is_refused(exact, toy, capsys):
    with pytest.raises(AnydiffError, match="the finest grid has 20 steps, but at least 30"):
        gap(exact, 50, most=20)
    with pytest.raises(AnydiffError, match="count is 1"):
        gap(exact, 1)
    assert run(["gap", "toy/points", "--count", "0"]) != 0
    assert "count is 0" in capsys.readouterr().err


def test_samples_that_still_change_with_the_steps_are_refused(exact, monkeypatch):
    distances = iter([*[0.01] * MODULE.SPLITS, *[0.5] * 20])
    monkeypatch.setattr(MODULE, "sliced_wasserstein", lambda one, two: next(distances))
    with pytest.raises(AnydiffError, match="with 30 steps the samples differ by"):
        gap(exact, 20, most=40)


def test_the_sliced_distance_of_a_shift_and_a_scale():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    assert sliced_wasserstein(points, points.flip(0)) == 0
    # The mean squared share of a direction in a shift of length r is r²/3 in three dimensions.
    shifted = sliced_wasserstein(points, points + torch.tensor([3.0, 0.0, 0.0]), projections=4000)
    assert shifted == pytest.approx(3**0.5, rel=0.03)
    assert sliced_wasserstein(points, 2 * points) == pytest.approx(1, rel=0.1)
    with pytest.raises(AnydiffError, match="500 and 499 rows"):
        sliced_wasserstein(points, points[1:])
