"""Your own forecasts: climatology, data set, a small SEEDS recipe, and a generated ensemble as an xarray data set.

Try `anydiff --plugins-dir examples train weather_own_forecasts/small --out runs/own`, then
`python examples/weather_own_forecasts.py runs/own`. The files here are synthetic; put your own paths in their place.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray

from anydiff import hookimpl, load
from anydiff.recipes import load_recipe
from anydiff_weather.climatology import Climatology
from anydiff_weather.forecast_files import ForecastFiles
from anydiff_weather.seeds import emulate

FOLDER = Path(tempfile.gettempdir()) / "weather_own_forecasts"
GRID = {"latitude": np.linspace(-75, 75, 6), "longitude": np.arange(0, 360, 30.0)}


@hookimpl
def register_datasets(register):
    register("weather_own_forecasts", "synthetic forecasts in your own files", "weather_own_forecasts:own_forecasts")


@hookimpl
def register_recipes(register):
    register("weather_own_forecasts/small", "SEEDS-GEE, small", "weather_own_forecasts:small")


def files():  # a forecast of 5 members at 3 days, and a climatology of past years
    random, days = np.random.default_rng(0), np.arange("2019-01-01", "2021-01-01", dtype="datetime64[D]")
    season = 285 + 8 * np.cos(2 * np.pi * (days - days[0]).astype(int) / 365.25)[:, None, None]
    past = season + 3 * random.normal(size=(len(days), 6, 12))
    member = past[3:603:3, None] + 2 * random.normal(size=(200, 5, 6, 12))
    about, when, step = {"units": "K"}, days.astype("datetime64[ns]"), np.array(3, "timedelta64[D]")
    past = xarray.Dataset({"t2m": (("time", *GRID), past, about)}, {"time": when, **GRID})
    axes = {"time": when[0:600:3], "number": np.arange(5), "step": step.astype("timedelta64[ns]")}
    forecast = xarray.Dataset({"t2m": (("time", "number", *GRID), member, about)}, {**axes, **GRID})
    Climatology.fit(past).write(FOLDER / "climatology.nc")
    forecast.to_netcdf(FOLDER / "forecast.nc", engine="h5netcdf")
    return {name: str(FOLDER / f"{name}.nc") for name in ("forecast", "climatology")}


def own_forecasts(split="train"):
    return ForecastFiles(**files(), split=split)


def small():
    changes = ["network.options={width: 16, blocks: 1, heads: 2}", "training.steps=300"]
    recipe = load_recipe("weather/gee", changes).model_dump(mode="json")
    domain = {"name": "weather", "options": {"climatology": files()["climatology"], "seeds": 2}}
    return {**recipe, "name": "weather_own_forecasts/small", "domain": domain, "dataset": "weather_own_forecasts"}


if __name__ == "__main__":
    print(emulate(load(sys.argv[1]), xarray.open_dataset(files()["forecast"]).isel(time=slice(-3, None)), members=16))
