"""Your own series in one file: a data set of windows, a TSDiff recipe, and forecasts as pandas frames.

Try `anydiff --plugins-dir examples train timeseries_tide/small --out runs/tide`, then
`python examples/timeseries_tide.py runs/tide` for the quantiles of the next twelve hours.
"""

import sys

import numpy as np
import pandas as pd

from anydiff import hookimpl
from anydiff_timeseries.data import part
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.series import as_series
from anydiff_timeseries.windows import WindowDataset

DOMAIN = {"context": 48, "prediction": 12, "freq": "h", "season": 12, "unit": "m"}


@hookimpl
def register_datasets(register):
    register("timeseries_tide", "sea level: two tides and a wandering mean", "timeseries_tide:Tide")


@hookimpl
def register_recipes(register):
    register("timeseries_tide/small", "TSDiff on a synthetic tide", "timeseries_tide:small")


def sea_level():
    """Two months by the hour; replace it by ``pd.read_csv(...)`` with a time index. Gaps may be NaN."""
    hours = np.arange(1500)
    wander = np.cumsum(np.random.default_rng(0).normal(0, 0.02, len(hours)))
    level = 3 + np.cos(2 * np.pi * hours / 12.42) + 0.4 * np.cos(2 * np.pi * hours / 12.0) + wander
    return pd.Series(level, index=pd.date_range("2024-01-01", periods=len(hours), freq="h"), name="sea level")


class Tide(WindowDataset):
    def __init__(self, split="train"):
        domain = TimeSeries(**DOMAIN)
        series = part(as_series(sea_level(), "h")[0], split, "2024-02-20", domain.context)
        super().__init__("timeseries_tide", [series], split, domain)


def small():
    network = {"name": "timeseries/residual", "options": {"width": 32, "blocks": 4, "cycle": 4, "patch_size": 4}}
    guidance = [{"name": "timeseries/posterior"}]
    return {"name": "timeseries_tide/small", "domain": {"name": "timeseries", "options": DOMAIN},
            "dataset": "timeseries_tide", "network": network, "path": "vp-cosine", "parametrization": "edm",
            "training": {"steps": 1500, "batch_size": 64, "schedule": "cosine"},
            "sampling": {"nfe": 20, "guidance": guidance}, "metrics": ["timeseries/mean-wql"]}  # fmt: skip


if __name__ == "__main__":
    from anydiff.pipeline import load
    from anydiff_timeseries.predictor import TSDiffPredictor

    forecast = TSDiffPredictor(load(sys.argv[1])).forecast(sea_level())["sea level"]
    print(forecast.quantile([0.05, 0.5, 0.95], axis=1).T.round(2))
