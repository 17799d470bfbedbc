"""Benchmark tasks of the time series domain."""

from __future__ import annotations

from anydiff.benchmark import Task

_METRICS = tuple({"name": f"timeseries/{name}"} for name in ("mean-wql", "crps", "mase", "coverage-error"))
_BASELINES = {
    "seasonal naive": "anydiff_timeseries.baselines:seasonal_naive",
    "weekly naive": "anydiff_timeseries.baselines:weekly_naive",
    "linear Gaussian": "anydiff_timeseries.baselines:linear_gaussian",
}


def traffic() -> Task:
    """A day of hourly traffic from a week, 64 origins from April to September 2018, 15 members each."""
    return Task(
        name="timeseries/traffic",
        version=1,
        recipe="timeseries/traffic",
        help="a day of hourly traffic from the week before, 64 forecasts of 15 members",
        samples=64 * 15,
        members=15,
        metrics=_METRICS,  # type: ignore[arg-type]
        baselines=_BASELINES,
    )
