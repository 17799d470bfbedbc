"""Small forecasts with known truth, and pipelines on them that cost nothing."""

import numpy as np
import xarray

from anydiff_weather.climatology import Climatology

GRID = {"latitude": np.array([-10.0, 10.0]), "longitude": np.arange(5) * 72.0}
DIMS = ("time", "number", "latitude", "longitude")


def season(dates):
    return 280 + 10 * np.cos(2 * np.pi * xarray.DataArray(dates).dt.dayofyear.to_numpy() / 365.25)


def days(count, spacing=7, begin="2003-03-01"):
    return np.array(begin, "datetime64[ns]") + np.arange(count) * np.timedelta64(spacing, "D")


def truth(count=40, lead=0, **options):
    """Fields at the valid times, all different."""
    dates = days(count, **options) + np.timedelta64(lead, "D")
    values = season(dates)[:, None, None] + 3 * np.random.default_rng(0).normal(size=(count, 2, 5))
    return xarray.Dataset({"t": (("time", *GRID), values.astype(np.float32), {"units": "K"})}, {"time": dates, **GRID})


def perfect(count=40, lead=3, members=3, **options):
    """A forecast that holds the truth as every member: base times, and one step."""
    data = truth(count, lead, **options).expand_dims(number=np.arange(members)).transpose(*DIMS)
    step = np.timedelta64(lead, "D").astype("timedelta64[ns]")
    return data.assign_coords(time=days(count, **options), step=step)


def climatology():
    """The season, with a spread of 3 K."""
    dates = np.arange("2001-01-01", "2009-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    values = season(dates)[:, None, None] + 3 * np.random.default_rng(1).normal(size=(len(dates), 2, 5))
    past = xarray.Dataset({"t": (("time", *GRID), values, {"units": "K"})}, {"time": dates, **GRID})
    return Climatology.fit(past, harmonics=1)


def saved(data, path):
    if path.suffix == ".zarr":
        data.to_zarr(path, consolidated=False)
    else:
        data.to_netcdf(path, engine="h5netcdf")
    return str(path)


def trained(folder, **options):
    """A weights file of an untrained, tiny SEEDS on files in ``folder``: 8 cases, of which the last 4 are held out."""
    from anydiff.pipeline import Pipeline
    from anydiff.recipes import Recipe, load_recipe

    climatology().write(folder / "climatology.nc")
    files = {
        "forecast": saved(perfect(8), folder / "train.nc"),
        "climatology": str(folder / "climatology.nc"),
        "truth": saved(truth(8, 3), folder / "truth.nc"),
    }
    data = {"name": "weather/files", "options": {**files, "member_labels": 1, "test_share": 0.5, **options}}
    changes = ["network.options={width: 8, blocks: 1, heads: 2}", "sampling.nfe=2"]
    recipe = load_recipe("weather/gee", changes).model_dump(mode="json")
    domain = {"name": "weather", "options": {"climatology": files["climatology"], "seeds": 2}}
    made = Recipe.parse({**recipe, "name": "own", "domain": domain, "dataset": data}, "the recipe")
    Pipeline.untrained(made).save(folder / "own.safetensors")
    return folder / "own.safetensors"
