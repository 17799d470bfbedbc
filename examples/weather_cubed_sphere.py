"""ERA5 on the cubed sphere: regrid ten members, train a small SEEDS-GEE there, regrid its members back and score them.

Try `anydiff --plugins-dir examples train weather_cubed_sphere/small --out runs/cube`, then
`python examples/weather_cubed_sphere.py runs/cube`. Three analyses train and one tests: this shows the way, not skill.
"""

import sys
import tempfile
from pathlib import Path

import xarray

from anydiff import hookimpl, load
from anydiff.recipes import load_recipe
from anydiff_weather import forecasts, seeds
from anydiff_weather.climatology import Climatology
from anydiff_weather.data import ForecastCases, bundled
from anydiff_weather.domain import Weather
from anydiff_weather.grids import to_cubed_sphere, to_latitude_longitude
from anydiff_weather.metrics import verify

SIZE, FILE = 8, Path(tempfile.gettempdir()) / "weather_cubed_sphere" / "climatology.nc"  # the paper's size is 48


@hookimpl
def register_datasets(register):
    register("weather_cubed_sphere", "ERA5 members on a cubed sphere", "weather_cubed_sphere:era5_on_cube")


@hookimpl
def register_recipes(register):
    register("weather_cubed_sphere/small", "SEEDS-GEE on the cubed sphere, small", "weather_cubed_sphere:small")


def era5_on_cube(split="train"):
    flat = Climatology.read("era5")  # the domain reads grid and units from a climatology's file
    Climatology(to_cubed_sphere(flat.mean, SIZE), to_cubed_sphere(flat.std, SIZE)).write(FILE)
    data = bundled("era5_members.nc").isel(time=slice(0, 3) if split == "train" else slice(3, None))
    domain, days = Weather(str(FILE), seeds=2), forecasts.forecast_days(data)
    members = domain.values(to_cubed_sphere(data, SIZE), ("time", "number"), "ERA5")
    return ForecastCases("weather_cubed_sphere", domain, members, *days, None, split=split, member_labels=8)


def small():
    network = "network.options={width: 32, blocks: 2, heads: 2, periodic: [false, false, false]}"  # face, y, x
    recipe = load_recipe("weather/gee", [network, "training.steps=500"]).model_dump(mode="json")
    domain = {"name": "weather", "options": {"climatology": str(era5_on_cube() and FILE), "seeds": 2}}
    return {**recipe, "name": "weather_cubed_sphere/small", "domain": domain, "dataset": "weather_cubed_sphere"}


def table(model, n=16):  # n generated members; the third is the truth, the first two are seeds
    data = bundled("era5_members.nc").isel(time=slice(3, None))
    made = to_latitude_longitude(seeds.emulate(model, to_cubed_sphere(data, SIZE), n), data.latitude, data.longitude)
    ensembles = {"seeds": data.isel(number=slice(0, 2)), "SEEDS": made, "others": data.isel(number=slice(3, None))}
    rows = [verify(each, data.isel(number=2), Climatology.read("era5")) for each in ensembles.values()]
    return xarray.concat(rows, xarray.Variable("ensemble", list(ensembles)))


if __name__ == "__main__":
    print(table(load(sys.argv[1])).t850.to_pandas().T.round(3))
