"""Makes the data inside this package. The commands that made them::

    python -m anydiff_weather.bundle lorenz96          # about six minutes of one core
    python -m anydiff_weather.bundle era5 cfgrib-0.9.15.1.tar.gz

``lorenz96_train.nc`` and ``lorenz96_test.nc`` hold forecasts and truth of the simulator
(:mod:`anydiff_weather.lorenz96`), packed to 0.01; ``lorenz96_climatology.nc`` the climatology of the training truth.
``era5_members.nc`` is a part of the ERA5 ensemble, coarsened by averaging boxes of about 4 x 4 points.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path

import numpy as np
import xarray

from anydiff.errors import FileFormatError
from anydiff.files import atomic_path

FOLDER = Path(__file__).with_name("bundled")
LEAD = 5
TRAIN, TEST = (4000, 5, 1), (256, 31, 2)
"""Cases, members and seed of each split."""

ERA5_MEMBER = "cfgrib-0.9.15.1/tests/sample-data/era5-levels-members.nc"


def lorenz96(folder: Path = FOLDER) -> None:
    """Write the simulator's two splits and its climatology."""
    from anydiff_weather.climatology import Climatology

    splits = {"train": _simulated(*TRAIN), "test": _simulated(*TEST)}
    for name, data in splits.items():
        write_packed(data, folder / f"lorenz96_{name}.nc", 0.01)
    train = splits["train"]
    past = [
        train[["analysis"]].rename(analysis="x").drop_vars(["valid_time", "step"]),
        train[["truth"]]
        .rename(truth="x")
        .assign_coords(time=train["valid_time"].values)
        .drop_vars(["valid_time", "step"]),
    ]
    Climatology.fit(xarray.concat(past, "time"), harmonics=2).write(folder / "lorenz96_climatology.nc")


def _simulated(count: int, members: int, seed: int) -> xarray.Dataset:
    from anydiff_weather.lorenz96 import TRUTH, simulate

    cases = simulate(count, members, LEAD, seed)
    order = np.argsort(cases.day.numpy(), kind="stable")
    base = np.datetime64("2001-01-01", "ns") + cases.day.numpy()[order].astype("timedelta64[D]")
    step = np.timedelta64(LEAD, "D").astype("timedelta64[ns]")
    about = {"units": "1", "long_name": "slow variable of Lorenz-96"}
    axes = {"truth": ("time",), "analysis": ("time",), "perfect": ("time", "number"), "biased": ("time", "number")}
    arrays = {
        name: ((*dims, "latitude", "longitude"), getattr(cases, name).numpy()[order][..., None, :], about)
        for name, dims in axes.items()
    }
    coordinates = {
        "time": ("time", base, {"standard_name": "forecast_reference_time"}),
        "step": ((), step, {"standard_name": "forecast_period"}),
        "valid_time": ("time", base + step, {"standard_name": "time"}),
        "number": ("number", np.arange(members), {"standard_name": "realization", "units": "1"}),
        "latitude": ("latitude", [0.0], {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": (
            "longitude",
            np.arange(TRUTH.slow) * 360.0 / TRUTH.slow,
            {"units": "degrees_east", "standard_name": "longitude"},
        ),
    }
    title = f"Two-scale Lorenz-96 with seasons: {count} cases, {members} members, lead {LEAD} days, seed {seed}"
    return xarray.Dataset(arrays, coordinates, {"title": title, "Conventions": "CF-1.11"})


def write_packed(data: xarray.Dataset, path: Path, precision: float | None) -> None:
    """Write NetCDF, each variable as 16-bit integers in steps of ``precision`` (None: float32), compressed."""
    encoding = {}
    for name in data.data_vars:
        packing = {"dtype": "float32"} if precision is None else {
            "dtype": "int16", "scale_factor": precision, "_FillValue": -32768
        }  # fmt: skip
        encoding[name] = {**packing, "zlib": True, "complevel": 9, "shuffle": True}
    with atomic_path(path) as temporary:
        data.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)


def era5(archive: Path, folder: Path = FOLDER) -> None:
    """Write the coarsened ERA5 members from the source archive of cfgrib, and their mean and deviation.

    Raises:
        FileFormatError: the archive does not hold the file.
    """
    from anydiff_weather.climatology import Climatology

    try:
        with tarfile.open(archive) as tar:
            content = tar.extractfile(ERA5_MEMBER)
            assert content is not None
            data = xarray.open_dataset(io.BytesIO(content.read()), engine="h5netcdf").load()
    except (OSError, KeyError, tarfile.TarError, AssertionError) as error:
        raise FileFormatError(f"{str(archive)!r} has no {ERA5_MEMBER!r}; give cfgrib-0.9.15.1.tar.gz.") from error
    # Rows of 4 from the north pole; the row of the south pole is left over.
    coarse = data.isel(latitude=slice(0, 60)).coarsen(latitude=4, longitude=4).mean().sortby("latitude")
    fields = {}
    for level in (850, 500):
        for name in ("z", "t"):
            field = coarse[name].sel(isobaricInhPa=level, drop=True).astype("float32")
            about = {key: data[name].attrs[key] for key in ("standard_name", "long_name", "units")}
            field.attrs = {**about, "pressure_level": f"{level} hPa"}
            fields[f"{name}{level}"] = field
    coarse = xarray.Dataset(fields)
    coarse["step"] = np.timedelta64(0, "ns")
    coarse["number"].attrs = {"standard_name": "realization", "units": "1"}
    coarse["latitude"].attrs = {"standard_name": "latitude", "units": "degrees_north"}
    coarse["longitude"].attrs = {"standard_name": "longitude", "units": "degrees_east"}
    coarse.attrs = {
        "title": "ERA5 ensemble members, 1-2 January 2017, coarsened to 12 degrees by box averages",
        "source": "ERA5, ECMWF / Copernicus Climate Change Service; contains modified Copernicus information 2017",
        "Conventions": "CF-1.11",
    }
    write_packed(coarse, folder / "era5_members.nc", None)
    several = coarse.stack(row=("time", "number"), create_index=False).drop_vars(
        ["time", "number", "valid_time", "step"]
    )
    several = several.rename(row="time").assign_coords(time=np.repeat(coarse["time"].values, coarse.sizes["number"]))
    Climatology.fit(several, harmonics=0).write(folder / "era5_climatology.nc")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the data of anydiff-weather.")
    parser.add_argument("what", choices=["lorenz96", "era5"])
    parser.add_argument("archive", nargs="?", type=Path, help="for era5: the source archive of cfgrib")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    if arguments.what == "lorenz96":
        lorenz96(arguments.out)
    else:
        era5(arguments.archive, arguments.out)
