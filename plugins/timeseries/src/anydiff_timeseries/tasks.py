"""Benchmark tasks of the time series domain."""

from __future__ import annotations

from anydiff.tasks import Task, restoration_metrics

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


def impute() -> Task:
    """A random half of the hours of eight days of traffic from the other half, 32 windows with 8 members each."""
    return Task(
        name="timeseries/impute", version=1, recipe="timeseries/traffic", samples=256, members=8, minimum_cases=16,
        help="half of the hours of eight days from the other half, 32 windows of 8 members",
        measured="anydiff_timeseries.imputation:half_of_the_hours", told=(), metrics=restoration_metrics("field"),
        baselines={
            "interpolated": "anydiff_timeseries.imputation:interpolated",
            "linear Gaussian": "anydiff_timeseries.imputation:linear_gaussian",
        },
    )  # fmt: skip


def pm25() -> Task:
    """A day of hourly PM2.5 from a week with the data's own gaps, 64 origins in 2014, 15 members each."""
    return _forecasts("timeseries/pm25", "a day of hourly PM2.5 from the week before, 64 forecasts of 15 members")
