"""The example of guided optimisation: members with a higher regional mean than the best of as many, no rougher."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "weather_highest_mean.py"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("anydiff_weather")
    spec = importlib.util.spec_from_file_location("weather_highest_mean", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_optimised_members_beat_the_best_of_as_many_and_are_no_rougher(example):
    rows = example.compare(members=6, cases=2, rounds=3, gain=1.0, nfe=6)
    assert rows["plain"][0] + 1.0 < rows["picked"][0] < rows["optimised"][0]
    assert rows["optimised"][1] < 1.1 * rows["plain"][1]


def test_the_reward_is_of_the_values_that_the_files_hold(example, monkeypatch):
    monkeypatch.delitem(sys.modules, "weather_highest_mean", raising=False)  # other tests run the example by name
    from anydiff import load

    pipeline = load("weather/gee")
    found = pipeline.optimise(
        example.regional_mean, 2, rounds=1, gain=1.0, nfe=3, condition=pipeline.reference(2).asked(2)
    )
    for member, reward in zip(found.objects, found.rewards[-1], strict=True):
        values = torch.from_numpy(member["x"].to_numpy())
        assert float(values[:, example.LONGITUDES].mean()) == pytest.approx(float(reward), rel=1e-4)
    assert "weather_highest_mean" not in sys.modules


def test_the_command_names_the_case_and_the_member_of_each_field(tmp_path, capsys):
    import xarray

    from anydiff.cli.main import run

    command = ["optimise", "weather/gee", "--reward", f"{EXAMPLE}:regional_mean", "--gain", "1", "--rounds", "1"]
    out = tmp_path / "highest.nc"
    assert run([*command, "--cases", "2", "--members", "3", "--nfe", "3", "--out", str(out)]) == 0
    assert "wrote 3 samples for each of 2 cases" in capsys.readouterr().err
    with xarray.open_dataset(out) as data:
        assert dict(data["x"].sizes)["number"] == 3
        assert dict(data["x"].sizes)["time"] == 2
    assert run([*command, "--nfe", "3", "--out", str(tmp_path / "no.nc")]) == 2
    assert "give --condition members=" in capsys.readouterr().err
    assert not (tmp_path / "no.nc").exists()
