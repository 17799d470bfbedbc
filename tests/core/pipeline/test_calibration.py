"""Calibration of a trained pipeline: in Python, on the command line, and what refuses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anydiff.cli.main import run as anydiff
from anydiff.errors import AnydiffError
from anydiff.pipeline import calibrated_for, load


@pytest.fixture
def calibrated(run, tmp_path):
    file = tmp_path / "c.safetensors"
    words = ["calibrate", str(run), "--nfe", "4,5", "--out", str(file), "--count", "4", "--fresh", "8"]
    assert anydiff(words) == 0
    return run, file, words


def test_from_calibrate_to_samples(calibrated, tmp_path, capsys):
    run, file, words = calibrated
    pipeline = load(run)
    entry_plan = pipeline.plan(4, calibration=file)
    assert entry_plan.nfe == 4
    assert "DCUniPC" in entry_plan.solver
    made = pipeline.sample_set(6, nfe=4, seed=1, calibration=file).states
    assert torch.equal(made, pipeline.sample_set(6, seed=1, solver=entry_plan).states)
    out = tmp_path / "samples.csv"
    capsys.readouterr()
    words_of_sample = ["sample", str(run), "--count", "3", "--nfe", "5", "--calibration", str(file), "--out", str(out)]
    assert anydiff(words_of_sample) == 0
    assert "5 NFE each" in capsys.readouterr().err
    assert anydiff(["evaluate", str(run), "--count", "30", "--nfe", "4", "--calibration", str(file)]) == 0
    before = file.read_bytes()
    assert anydiff(words) != 0
    assert "exists" in capsys.readouterr().err
    assert anydiff([*words, "--resume"]) == 0
    assert file.read_bytes() == before


def test_what_is_refused(calibrated, recipe, tmp_path):
    run, file, _ = calibrated
    pipeline = load(run)
    for words, options in (
        ("nothing for 7 calls", {"nfe": 7}),
        ("grid is 'karras', but a calibration has its own", {"nfe": 4, "grid": "karras"}),
        ("solver is 'ddim', but a calibration has its own", {"nfe": 4, "solver": "ddim"}),
        ("nothing for 4 calls with Clamp", {"nfe": 4, "guidance": _clamp()}),
    ):
        with pytest.raises(AnydiffError, match=words):
            pipeline.sample_set(2, calibration=file, **options)
    parameter = next(pipeline.denoiser.network.parameters())
    with torch.no_grad():
        parameter.add_(1.0)
    with pytest.raises(AnydiffError, match="made for the weights"):
        pipeline.sample_set(2, nfe=4, calibration=file)
    with pytest.raises(AnydiffError, match="unknown method of calibration 'cd'"):
        pipeline.calibrate("cd", nfe=[4])
    with pytest.raises(AnydiffError, match="unknown option of method of calibration 'dc': 'nope'"):
        pipeline.calibrate("dc", nfe=[4], nope=1)


def _clamp():
    from anydiff.denoisers.wrappers import Clamp

    return [Clamp()]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nfe", "4,x"], "--nfe is '4,x'; write numbers with commas"),
        (["--nfe", "0"], "each must be a whole number of at least 1"),
        (["--resume", "--overwrite"], "leave one of them out"),
        (["--seconds", "0"], "limit of 0 seconds"),
    ],
)
def test_bad_words(run, tmp_path, capsys, words, says):
    file = tmp_path / "c.safetensors"
    assert anydiff(["calibrate", str(run), "--out", str(file), *words]) != 0
    assert says in " ".join(capsys.readouterr().err.split())
    assert not file.exists()


def test_a_plan_does_not_carry_where_a_calibration_begins(run):
    """Without the start the plan of searched times would begin with noise of another scale, and nothing would show."""
    pipeline = load(run)
    made = pipeline.calibrate("auto", nfe=[3], count=16, fresh=16, evaluations=1)
    values = {"times": np.array([0.5, 0.3, 0.1, 0.001]), "indices": np.array([99, 299, 499])}
    made.entries = [replace(made.entries[0], values=values, dropped=False, nodes=())]
    with pytest.raises(AnydiffError, match=r"begins at states of its own \(PriorAt\), which a plan does not carry"):
        pipeline.plan(3, calibration=made)
    found = calibrated_for(pipeline, made, 3)
    assert found.nfe == 3
    assert torch.equal(
        pipeline.sample_set(4, nfe=3, calibration=made).states, pipeline.sample_set(4, solver=found).states
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"condition": {"lab": "a"}}, "unknown condition 'lab'"),
        ({"guidance": [float("nan")]}, "guidance is nan, but a scale must be a finite number"),
        ({"guidance": [1.0, 1.0]}, "is named twice"),
        ({"base": "nope"}, "unknown base of DC-Solver 'nope'"),
        ({"on": "nope"}, "unknown time grid 'nope'"),
    ],
)
def test_what_a_pipeline_is_asked(run, tmp_path, options, words):
    file = tmp_path / "c.safetensors"
    with pytest.raises(AnydiffError, match=words):
        load(run).calibrate("dc", **{"nfe": [4], "count": 2, "fresh": 2, "out": file, **options})
    assert not file.exists()
