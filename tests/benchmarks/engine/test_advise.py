"""Planted faults are named: a coarse solver, a wrong network, few samples; on a mixture whose network is exact."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from anydiff.advise import Bench, Judged, Share, advise, denoising_levels
from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.metrics import UnitValues
from anydiff.pipeline import load


@pytest.fixture
def exact(toy):
    pipeline = load("toy/points")
    with torch.no_grad():
        pipeline.denoiser.network.bias.zero_()
    settings = pipeline.recipe.sampling.model_copy(update={"nfe": 5})
    return dataclasses.replace(pipeline, recipe=pipeline.recipe.model_copy(update={"sampling": settings}))


@pytest.fixture(autouse=True)
def _coarser(monkeypatch):
    monkeypatch.setattr("anydiff.advise.advice.LIMIT", 80)


def test_a_first_order_solver_with_three_calls_is_a_solver_problem(exact, toy):
    solver = exact.recipe.sampling.solver.model_copy(update={"name": "ddim", "options": {}})
    settings = exact.recipe.sampling.model_copy(update={"solver": solver})
    coarse = dataclasses.replace(exact, recipe=exact.recipe.model_copy(update={"sampling": settings}))
    found = advise(coarse, 140, nfe=3)
    assert found.cause == "solver"
    assert found.asked.share.value > 3 * found.sample.value > 0
    assert found.chosen is not None
    assert found.chosen.nfe > 3
    assert "another solver" in found.sentence
    assert found.chosen.name in found.sentence


def test_a_biased_network_is_a_network_problem_and_more_calls_are_not_advised(exact):
    with torch.no_grad():
        exact.denoiser.network.bias.fill_(0.4)
    found = advise(exact, 140, nfe=40)
    assert found.cause == "network"
    assert found.network.value - found.network.half_width > 0
    assert "More training" in found.sentence
    broken = denoising_levels(exact)
    with torch.no_grad():
        exact.denoiser.network.bias.zero_()
    right = denoising_levels(exact)
    assert [each.log_snr for each in right] == [each.log_snr for each in broken]
    assert all(one.loss > other.loss for one, other in zip(broken, right, strict=True))
    assert all(each.share < 1.05 for each in right), "the exact network is nowhere worse than a Gaussian's"
    assert all(each.loss > 0 for each in right)


def test_few_samples_of_a_good_model_are_a_sample_problem(exact):
    found = advise(exact, 24, nfe=40)
    assert found.cause == "sample"
    assert "More samples" in found.sentence
    assert found.calls <= 2000


@pytest.mark.parametrize(
    ("count", "options", "match"),
    [
        (20, {}, r"toy/frechet of 20 samples does not tell how uncertain it is; give count=23 or more"),
        (400, {}, None),
        (140, {"tolerance": 1.5}, "tolerance is 1.5, but must lie between 0 and 1"),
        (0, {}, "count"),
    ],
)
def test_what_cannot_be_split_is_refused(exact, count, options, match):
    if match is None:
        assert advise(exact, count, nfe=40).samples == count
        return
    with pytest.raises(AnydiffError, match=match):
        advise(exact, count, **options)


def test_the_command_says_the_same(toy, capsys):
    assert run(["advise", "toy/points", "--count", "60", "--nfe", "4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cause"] in ("solver", "network", "sample")
    assert said["solver"]["value"] == pytest.approx(said["value"] - said["limit"])
    assert said["network"]["value"] == pytest.approx(said["limit"] - said["ceiling"])
    assert len(said["levels"]) >= 6
    assert run(["advise", "toy/points", "--count", "60", "--nfe", "4"]) == 0
    assert "lost by the solver" in capsys.readouterr().out


@pytest.mark.parametrize(("gain", "taken"), [(0.5, "ddim"), (0.01, "by-budget"), (-0.5, "by-budget")])
def test_a_setting_that_beats_the_model_s_own_limit_beyond_the_interval_is_taken(exact, monkeypatch, gain, taken):
    """As with a forecast whose coarse samples score better than fine ones: the nearest to the limit is not the best."""
    bench = Bench(exact, 140, 0, {})
    wobble = torch.linspace(-0.1, 0.1, 16).tolist()

    def judged(value, states, sign=1.0):
        return Judged(states, value, UnitValues(tuple(value + sign * each for each in wobble), tuple(range(16))))

    limit = judged(1.0, torch.eye(4))

    def drawn(solver, grid, nfe):
        if solver == "heun":
            raise AnydiffError("too few calls.")
        if solver == "ddim":
            return judged(1.0 - gain, torch.eye(4) + 0.2, sign=-1.0)
        return judged(1.0, torch.eye(4) + (0.01 if solver == "by-budget" else 0.1))

    monkeypatch.setattr(bench, "drawn", drawn)
    asked = bench.trial(limit, "ddim", None, 5, drawn("ddim", None, 5))
    found = bench.choose(limit, asked, 80, 0.1, lambda sentence: None)
    assert (found.solver, found.nfe) == (taken, 5)


def test_a_share_whose_own_interval_holds_nothing_is_the_samples_fault(exact):
    """As with 16 samples of a maze's plans, where a difference of .018 ± .023 was called the solver's."""
    found = advise(exact, 140, nfe=40)
    network = Share(0.001, 0.01)
    unsure = dataclasses.replace(found.asked, share=Share(0.018, 0.023))
    said = dataclasses.replace(found, asked=unsure, network=network, sample=Share(0.0168, float("nan")), samples=16)
    assert said.cause == "sample"
    assert "about 32 would tell" in said.sentence
    sure = dataclasses.replace(found.asked, share=Share(0.018, 0.005))
    assert dataclasses.replace(said, asked=sure).cause == "solver"
    assert dataclasses.replace(said, asked=sure, sample=Share(0.02, float("nan"))).cause == "sample"
