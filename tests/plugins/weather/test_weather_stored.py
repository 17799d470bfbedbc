"""Forecasts that are larger than memory: the examples, the hash and the climatology of those that are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray
from test_weather_seeds import forecast, past

from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError
from anydiff.paths import VPLinear
from anydiff.training.examples import ExampleStream
from anydiff.training.settings import TrainingSettings
from anydiff_weather.baselines import climatology
from anydiff_weather.climatology import Climatology
from anydiff_weather.files import open_dataset
from anydiff_weather.forecast_files import ForecastFiles

TINY = 1e-6


@pytest.fixture(params=["zarr", "nc"])
def files(request, tmp_path):
    """Ten forecasts in three chunks with their truth, and the climatology of that."""
    data = forecast(times=10)
    valid = (data["time"] + data["step"]).to_numpy()
    truth = data.isel(number=0, drop=True).drop_vars("step").assign_coords(time=valid)
    for name, each in (("f", data), ("t", truth)):
        path = tmp_path / f"{name}.{request.param}"
        if request.param == "zarr":
            encoding = {key: {"chunks": (4, *each[key].shape[1:])} for key in each.data_vars}
            each.to_zarr(path, encoding=encoding, consolidated=False)
        else:
            encoding = {key: {"chunksizes": (4, *each[key].shape[1:])} for key in each.data_vars}
            each.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    Climatology.fit(past(years=12), harmonics=1).write(tmp_path / "c.nc")
    return {
        "forecast": tmp_path / f"f.{request.param}",
        "climatology": tmp_path / "c.nc",
        "truth": tmp_path / f"t.{request.param}",
        "truth_labels": 1,
    }


@pytest.mark.parametrize("split", ["train", "test"])
def test_cases_that_are_not_held_are_those_that_are(files, split):
    held, stored = (ForecastFiles(**files, split=split, memory=memory) for memory in (512.0, TINY))
    assert len(stored) == len(held)
    assert stored.hash == held.hash
    assert stored.case_labels([0])[0].moment == held.case_labels([0])[0].moment
    assert stored.dependence == held.dependence
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(0)).tolist()
    for indices in (order[:7], order, [0]):
        one, two = held.batch(indices), stored.batch(indices)
        assert torch.equal(one[0], two[0])
        assert all(torch.equal(value, two[1].given[name]) for name, value in one[1].given.items())
    assert held.pieces is None


def test_cases_of_a_chunk_follow_each_other_in_a_training(files):
    stored = ForecastFiles(**files, memory=TINY)
    edges, together = stored.pieces
    assert edges.tolist() == [0, 4 * 40, 8 * 40], "eight cases of forty examples, in chunks of four"
    assert together == 1
    settings = TrainingSettings(steps=1, batch_size=4)
    stream = ExampleStream(stored, VPLinear(), settings)
    epoch = np.array(stream.indices(range(len(stored))))
    assert sorted(epoch) == list(range(len(stored)))
    assert len(set((epoch[:160] // 160).tolist())) == 1


def test_baselines_read_what_they_need_or_say_that_they_need_memory(files):
    held, stored = (ForecastFiles(**files, memory=memory) for memory in (512.0, TINY))
    condition = held.batch([0, 1])[1]
    assert torch.equal(climatology(stored, condition, 5, 0), climatology(held, condition, 5, 0))
    with pytest.raises(AnydiffError, match=r"is read case by case, .* raise memory"):
        stored.members[:, :2]


@pytest.mark.parametrize("files", ["nc"], indirect=True)
def test_a_value_that_is_not_finite_is_found_when_its_case_is_read(tmp_path, files):
    with xarray.open_dataset(files["forecast"], engine="h5netcdf", decode_timedelta=False) as opened:
        data = opened.load()
    data["t"][5, 0, 0, 0] = np.nan
    data.to_netcdf(tmp_path / "bad.nc", engine="h5netcdf", encoding={"t": {"chunksizes": (4, *data["t"].shape[1:])}})
    stored = ForecastFiles(**{**files, "forecast": tmp_path / "bad.nc"}, memory=TINY)
    stored.batch([0])
    with pytest.raises(NonFiniteError, match="time 1, number 0"):  # of the second chunk
        stored.batch([5 * 40])


@pytest.mark.parametrize("files", ["zarr"], indirect=True)
def test_a_lost_chunk_is_named_and_not_read_as_fill_values(files):
    next(each for each in (files["forecast"] / "t" / "c" / "2").rglob("0") if each.is_file()).unlink()
    for memory in (512.0, TINY):
        with pytest.raises(FileFormatError, match=r"chunk 'c/2/.* of array 't' .* is not stored"):
            ForecastFiles(**files, memory=memory)


def test_a_climatology_of_a_file_is_that_of_its_fields_in_memory(tmp_path):
    days = np.datetime64("2000-01-01") + np.arange(400) * np.timedelta64(1, "D")
    rng = np.random.default_rng(1)
    values = 280 + 5 * rng.normal(size=(400, 3, 4)) + 10 * np.sin(np.arange(400) / 58)[:, None, None]
    data = xarray.Dataset(
        {"t": (("time", "latitude", "longitude"), values, {"units": "K"})},
        {"time": days, "latitude": [-10.0, 0.0, 10.0], "longitude": [0.0, 90.0, 180.0, 270.0]},
    )
    data.to_zarr(tmp_path / "p.zarr", encoding={"t": {"chunks": (30, 3, 4)}}, consolidated=False)
    one, two = Climatology.fit(data), Climatology.fit(open_dataset(tmp_path / "p.zarr", in_memory=False))
    for held, stored in zip(one.arrays, two.arrays, strict=True):
        np.testing.assert_allclose(stored, held, rtol=1e-6)
    assert abs(one.arrays[1].mean() - 5) < 0.5
