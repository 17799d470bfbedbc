"""Trajectories restored from way-points of a text file: they pass there, between a start and a goal that are known."""

from __future__ import annotations

import re

import numpy as np
import pytest

from anydiff.cli.main import run
from anydiff.pipeline import load

RECIPE = "trajectories/maze"


@pytest.fixture(scope="module")
def truth():
    """Observations ``[48, 4]`` of a held-out trajectory."""
    pipeline = load(RECIPE)
    (episode,) = pipeline.domain.decode(pipeline.reference(1).states)
    return np.asarray(episode.observations, dtype=np.float64)


def place(row, count=2):
    return " ".join(f"{value:.4f}" for value in row[:count])


def asked(tmp_path, truth, *arguments):
    ends = ["--condition", f"start={place(truth[0], 4)}", "--condition", f"goal={place(truth[-1])}"]
    return ["restore", RECIPE, *ends, "--nfe", "6", "--out", str(tmp_path / "plans.hdf5"), *map(str, arguments)]


def test_way_points_are_passed(tmp_path, truth):
    """Plans from the same start to the same goal that know of no way-points pass elsewhere."""
    (tmp_path / "points.txt").write_text(f"12: {place(truth[12])}\n24: {place(truth[24])}\n36: {place(truth[36])}\n")
    pipeline = load(RECIPE)
    ask = asked(tmp_path, truth, "--measurement", tmp_path / "points.txt", "--noise", 0.05, "--members", 8)
    assert run(ask) == 0

    def off(name):
        plans = np.stack([np.asarray(each.observations) for each in pipeline.domain.read(tmp_path / name)])
        assert len(plans) == 8
        assert np.abs(plans[:, 0, :2] - truth[0, :2]).max() < 0.05
        return np.linalg.norm(plans[:, [12, 24, 36], :2] - truth[[12, 24, 36], :2], axis=-1).mean()

    ends = {"start": place(truth[0], 4), "goal": place(truth[-1])}
    pipeline.domain.write(pipeline.sample(8, condition=ends, nfe=6), tmp_path / "free.hdf5")
    assert off("plans.hdf5") < 0.5 * off("free.hdf5")


def test_cases_are_parted_by_an_empty_line_and_what_is_not_told_is_free(tmp_path, truth):
    (tmp_path / "points.txt").write_text("3: 1 2\n5: 1.5, 2.5, 0, 0\n\n\n7: 2\n")
    domain = load(RECIPE).domain
    found = domain.read_measurement(tmp_path / "points.txt", domain.spec.shape).values
    first = domain.layout["observation"].start
    assert found.shape == (2, 48, 6)
    assert found[0, 3, first : first + 2].tolist() == [1, 2]
    assert int((~found[0].isnan()).sum()) == 6
    assert found[1, 7, first] == 2
    assert int((~found[1].isnan()).sum()) == 1


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("48: 1 2\n", [], "line 1 of .* names step 48, but a trajectory has the steps 0 to 47"),
        ("3: 1 2\n3: 2 2\n", [], "line 2 of .* names step 3 a second time"),
        ("3 1 2\n", [], "must be 't: x y' with 1 to 4 numbers"),
        ("3: 1 2 3 4 5\n", [], "must be 't: x y' with 1 to 4 numbers"),
        ("3: nan 2\n", [], "must be 't: x y'"),
        ("\n", [], "holds no way-points"),
        ("3: 1 2\n", ["--mask", "m.txt"], "way-points tell what was seen"),
        ("3: 1 2\n", ["--operator", "average-pooling"], "leave --operator out"),
        ("3: 900 2\n", ["--noise", "0.1"], "values outside of 20 deviations of the data"),
    ],
)
def test_what_is_refused(tmp_path, truth, capsys, text, options, sentence):
    (tmp_path / "points.txt").write_text(text)
    assert run(asked(tmp_path, truth, "--measurement", tmp_path / "points.txt", *options)) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "plans.hdf5").exists()
