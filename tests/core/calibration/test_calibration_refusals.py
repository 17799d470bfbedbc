"""What a calibration refuses: one sentence with the name, the value and the fix; nothing is overwritten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anydiff.calibration import (
    S3,
    Artefact,
    AutoDiffusion,
    DCSolver,
    DPMSolverV3Statistics,
    Entry,
    Setting,
    SpentError,
    calibrate,
    plan_of_entry,
)
from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError, NotApplicableError
from anydiff.paths import VPLinear
from anydiff.solvers import build_plan
from anydiff.solvers.ddim import DDIM

PATH = VPLinear()
SETTING = Setting(nfe=(4,), count=8, fresh=8)
FEW = {"evaluations": 1}


def oracle():
    means = torch.tensor([[-1.0, 0.0], [0.7, 0.8], [0.6, -0.9]], dtype=torch.float64)
    return GaussianMixtureOracle(PATH, means, 0.3, torch.tensor([1.0, 2.0, 3.0]))


def calibrated(method, denoiser=None, identity=None, **changes):
    return calibrate(
        denoiser or oracle(),
        (2,),
        method,
        replace(SETTING, **changes),
        identity or {"name": "t"},
        out=changes.get("out"),
    )


@pytest.mark.parametrize(
    ("method", "nfe", "words"),
    [
        (lambda: DCSolver(), 2, "nfe is 2, but DC-Solver compensates from step 3 on"),
        (lambda: DPMSolverV3Statistics(points=5, degree=3), 2, "nfe is 2, but degree 3 needs 3 network calls"),
        (lambda: DPMSolverV3Statistics(points=5), 10, "the statistics have 5 points, too few for 10 steps"),
        (lambda: AutoDiffusion(**FEW), 1001, "1001 steps are asked for, but a grid chooses among 1000 times"),
        (lambda: S3(base="ddpm", **FEW), 4, "baseline DDPM.*draws noise on the way.*name a deterministic solver"),
        (lambda: DPMSolverV3Statistics(base="ddpm"), 4, "baseline DDPM.*draws noise on the way"),
    ],
)
def test_too_few_calls_too_many_and_noise_on_the_way(method, nfe, words):
    with pytest.raises(NotApplicableError if "statistics have" not in words else AnydiffError, match=words):
        calibrated(method(), nfe=(nfe,))


def test_a_law_may_be_compared_with_noise_on_the_way():
    assert len(calibrated(AutoDiffusion(base="ddpm", **FEW)).entries) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DCSolver(candidates=3), "candidates is 3, but must be a whole number of at least 4"),
        (lambda: DPMSolverV3Statistics(degree=4), "degree is 4, but must be a whole number from 1 to 3"),
        (lambda: DPMSolverV3Statistics(points=2), "points is 2, but must be a whole number of at least 3"),
        (lambda: S3(evaluations=0), "evaluations is 0, but must be"),
        (lambda: replace(SETTING, calls=0), "calls is 0, but must be a whole number of at least 1"),
        (lambda: replace(SETTING, seconds=float("nan")), "seconds is nan, but a limit of nan seconds allows no search"),
        (lambda: replace(SETTING, seconds="x"), "seconds is 'x'"),
        (lambda: replace(SETTING, nfe=(1.5,)), "nfe is 1.5, but must be a whole number"),
        (lambda: replace(SETTING, guidances=((), ())), "the guidance 'none' is named twice"),
        (lambda: calibrated(DCSolver(), identity={"name": 3}), "what a model is told by are texts"),
        (
            lambda: calibrated(AutoDiffusion(**FEW), count=7),
            "count is 7, but 'auto' says nothing of fewer than 8",
        ),
        (lambda: calibrated(AutoDiffusion(**FEW), fresh=2), "fresh is 2, but 'auto' says nothing of fewer than 8"),
    ],
)
def test_options_that_mean_nothing(make, words):
    with pytest.raises(AnydiffError, match=words):
        make()


def test_a_budget_below_one_evaluation_stops_and_keeps_the_file(tmp_path):
    file = tmp_path / "c.safetensors"
    setting = replace(SETTING, calls=5)
    with pytest.raises(SpentError, match="limit of 5 network calls"):
        calibrate(oracle(), (2,), DCSolver(), setting, {"name": "t"}, out=file)
    assert not file.exists()


def test_a_network_that_is_not_finite_is_named_by_time_and_call():
    broken = FunctionDenoiser(
        lambda x, t: torch.where(torch.arange(2) == 1, x * float("nan") if t < 0.1 else x, x), PATH
    )
    with pytest.raises(NonFiniteError, match=r"network call \d+ of \d+, at t=0\.09"):
        calibrated(DPMSolverV3Statistics(points=5), broken)


def artefact(method, values, nodes=()):
    return Artefact(method.name, {}, {}, {}, [Entry(4, "", values, False, (0, 0), (0, 0), (0, 0, 0), 1, 1.0, nodes)])


TIMES = np.array([0.5, 0.4, 0.3, 0.1, 0.001])


@pytest.mark.parametrize(
    ("method", "values", "words"),
    [
        (DCSolver(), {"ratios": np.ones(9)}, "9 ratios for 4 calls"),
        (DCSolver(), {"ratios": np.ones((4, 2))}, "TypeError"),
        (DCSolver(), {"rates": np.ones(4)}, "KeyError: 'ratios'"),
        (AutoDiffusion(), {"times": TIMES[[0, 0, 2, 3, 4]]}, "do not strictly decrease"),
        (AutoDiffusion(), {"times": np.linspace(0.9, 0.001, 9)}, "make a plan of 8"),
        (S3(), {"kind": np.zeros(1, np.int64)}, "KeyError"),
        (DPMSolverV3Statistics(), {"scale": np.zeros(1)}, "KeyError"),
    ],
)
def test_damaged_values_are_one_sentence(method, values, words):
    with pytest.raises(FileFormatError, match=f"values for 4 calls .*{words}.*; calibrate anew"):
        plan_of_entry(artefact(method, values), method, PATH, 4, ())


def test_ratios_belong_to_their_nodes(tmp_path):
    """A grid that gives other nodes than it did (a new version of it, another end of the path) takes no old ratios."""
    method, values = DCSolver(), {"ratios": np.array([1.0, 1.0, 0.7, 0.9])}
    nodes = method.plan(values, PATH, 4).nodes
    assert plan_of_entry(artefact(method, values, nodes), method, PATH, 4, ()).nodes == nodes
    moved = (*nodes[:2], nodes[2] * 1.001, *nodes[3:])
    with pytest.raises(AnydiffError, match=r"made for the nodes \[1, .*, but its grid gives \[1, .* calibrate anew"):
        plan_of_entry(artefact(method, values, moved), method, PATH, 4, ())
    file = tmp_path / "c.safetensors"
    artefact(method, values, nodes).save(file)
    assert Artefact.load(file).entries[0].nodes == nodes


@pytest.mark.parametrize("nodes", [[1.0, 0.5, 0.5, 0.1], [1.0, 0.5, 0.6], [1.0, float("nan"), 0.1]])
def test_no_plan_on_nodes_that_do_not_decrease(nodes):
    with pytest.raises(AnydiffError, match="do not strictly decrease; sort them and drop repeated ones"):
        build_plan(DDIM(), PATH, nodes)
