"""Benchmark tasks of the time series domain."""

from __future__ import annotations

from anydiff.tasks import Task

_METRICS = tuple({"name": f"timeseries/{name}"} for name in ("mean-wql", "crps", "mase", "coverage-error"))
_BASELINES = {
    "seasonal naive": "anydiff_timeseries.baselines:seasonal_naive",
    "weekly naive": "anydiff_timeseries.baselines:weekly_naive",
    "linear Gaussian": "anydiff_timeseries.baselines:linear_gaussian",
}


def _forecasts(name: str, help: str) -> Task:
    return Task(
        name=name,
        version=1,
        recipe=name,
        help=help,
        samples=64 * 15,
        members=15,
        minimum_cases=32,
        metrics=_METRICS,  # type: ignore[arg-type]
        baselines=_BASELINES,
    )


def traffic() -> Task:
    """A day of hourly traffic from a week, 64 origins from April to September 2018, 15 members each."""
    return _forecasts("timeseries/traffic", "a day of hourly traffic from the week before, 64 forecasts of 15 members")


def pm25() -> Task:
    """A day of hourly PM2.5 from a week with the data's own gaps, 64 origins in 2014, 15 members each."""
    return _forecasts("timeseries/pm25", "a day of hourly PM2.5 from the week before, 64 forecasts of 15 members")
