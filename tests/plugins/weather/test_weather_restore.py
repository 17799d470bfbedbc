"""Fields with gaps and means over coarser cells, restored from files to files under the members of a forecast."""

from __future__ import annotations

import numpy as np
import pytest
import xarray

from anydiff.cli.main import run
from anydiff.pipeline import load

RECIPE = "weather/gee"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A forecast file of two cases, and the truth ``[2, 40]`` on its grid."""
    folder = tmp_path_factory.mktemp("weather")
    pipeline = load(RECIPE)
    reference = pipeline.reference(2)
    domain, condition = pipeline.domain, reference.condition
    members = [domain.decode(condition.given["members"][:, k], condition) for k in range(2)]
    truth = domain.decode(reference.states, condition)
    values = np.stack([[each["x"].to_numpy() for each in one] for one in members], 1)
    dims = ("time", "number", "latitude", "longitude")
    base = [label.moment.stamp for label in reference.labels]
    step = np.timedelta64(5, "D").astype("timedelta64[ns]")
    axes = {
        "time": np.array(base, "datetime64[ns]") - step, "number": [0, 1], "latitude": truth[0]["latitude"].to_numpy(),
        "longitude": truth[0]["longitude"].to_numpy(), "step": step,
    }  # fmt: skip
    data = xarray.Dataset({"x": (dims, values, {"units": "1"})}, axes)
    data.to_netcdf(folder / "forecast.nc", engine="h5netcdf")
    fields = xarray.concat([each.drop_vars("dayofyear", errors="ignore") for each in truth], "time")
    return pipeline, str(folder / "forecast.nc"), fields.assign_coords(time=axes["time"])


def restored(world, path, out, *arguments):
    ask = ["restore", RECIPE, "--measurement", str(path), "--condition", f"members={world[1]}", "--members", "8"]
    assert run([*ask, "--out", str(out), "--nfe", "10", *arguments]) == 0
    return xarray.open_dataset(out)


def error(found, truth):
    """Root mean square error of the mean of the members."""
    dims = ("time", "latitude", "longitude")
    mean = found["x"].mean("number").transpose(*dims).to_numpy()
    return float(np.sqrt(((mean - truth["x"].transpose(*dims).to_numpy()) ** 2).mean()))


def test_every_fifth_point_is_observed(world, tmp_path):
    _, path, truth = world
    seen = truth.copy(deep=True)
    seen["x"][..., np.arange(40) % 5 != 0] = np.nan
    seen.to_netcdf(tmp_path / "seen.nc", engine="h5netcdf")
    found = restored(world, tmp_path / "seen.nc", tmp_path / "out.nc", "--noise", "0.3")
    assert found.sizes["number"] == 8
    at = found["x"].isel(longitude=slice(None, None, 5)).mean("number")
    known = truth["x"].isel(longitude=slice(None, None, 5))
    assert float(np.abs(at - known.assign_coords(time=at["time"])).mean()) < 0.5
    assert run(
        ["sample", RECIPE, "--condition", f"members={path}", "--members", "8", "--nfe", "10", "--out",
         str(tmp_path / "prior.nc")]
    ) == 0  # fmt: skip
    assert error(found, truth) < error(xarray.open_dataset(tmp_path / "prior.nc"), truth)


def test_means_over_coarser_cells(world, tmp_path):
    _, _, truth = world
    coarse = truth.coarsen(longitude=4).mean()
    coarse["x"].attrs["units"] = "1"
    coarse.to_netcdf(tmp_path / "coarse.nc", engine="h5netcdf")
    options = ["--operator", "average-pooling", "--operator-option", "factor=[4]", "--noise", "0.1"]
    found = restored(world, tmp_path / "coarse.nc", tmp_path / "out.nc", *options)
    mean = found["x"].mean("number").coarsen(longitude=4).mean().transpose("time", "latitude", "longitude").to_numpy()
    assert float(np.abs(mean - coarse["x"].transpose("time", "latitude", "longitude").to_numpy()).mean()) < 0.3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data.rename(x="y"), "lacks the variable 'x'"),
        (lambda data: data.assign_coords(longitude=data["longitude"] + 3.0), "longitude"),
        (lambda data: data.isel(longitude=slice(0, 20)), "longitude"),
        (lambda data: data.assign(x=data["x"].assign_attrs(units="K")), "is in 'K', but must be in '1'"),
        (lambda data: data * np.nan, "observes nothing"),
        (lambda data: data.isel(time=[0, 1, 1]), "3 measurements"),
    ],
)
def test_files_that_are_refused(world, tmp_path, change, sentence, capsys):
    changed = change(world[2])
    changed.to_netcdf(tmp_path / "bad.nc", engine="h5netcdf")
    ask = ["restore", RECIPE, "--measurement", str(tmp_path / "bad.nc"), "--condition", f"members={world[1]}"]
    assert run([*ask, "--nfe", "2", "--noise", "0.1", "--out", str(tmp_path / "out.nc")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out.nc").exists()
