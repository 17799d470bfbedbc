"""The time series domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

import math

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"

#: What the conformance kit builds; data sets of the user's own have no default.
ANYDIFF_CHECK_OPTIONS = {"timeseries/residual": {"spec": [1, 48], "width": 16, "blocks": 2}}


@hookimpl
def register_domains(register: Register) -> None:
    """Windows of a series."""
    register("timeseries", "windows of a series: context, then prediction", "anydiff_timeseries.domain:TimeSeries")


@hookimpl
def register_datasets(register: Register) -> None:
    """Bundled, fetched, synthetic and the user's own series."""
    data, ledger = "anydiff_timeseries.data", "anydiff_timeseries.ledger"
    register(
        "timeseries/traffic",
        "hourly traffic volume on I-94, 2012 to 2018; bundled",
        f"{data}:Traffic",
        ledger=f"{ledger}:TRAFFIC",
    )
    register(
        "timeseries/pm25",
        "hourly PM2.5 in Beijing, 2010 to 2014, with its gaps; bundled",
        f"{data}:BeijingPM25",
        ledger=f"{ledger}:PM25",
    )
    register(
        "timeseries/exchange-rate",
        "eight daily exchange rates, 1990 to 2010; by container",
        f"{data}:ExchangeRate",
        ledger=f"{ledger}:EXCHANGE",
    )
    register(
        "timeseries/seasonal-gaussian",
        "a seasonal Gaussian process whose conditionals are known",
        f"{data}:SeasonalGaussian",
    )
    register(
        "timeseries/csv", "your own series: a CSV file of time stamps and numbers, or JSON lines", f"{data}:CSVSeries"
    )


@hookimpl
def register_networks(register: Register) -> None:
    """One network, two ways to mix time."""
    register(
        "timeseries/residual",
        "gated residual blocks over time, dilated convolutions or a state space",
        "anydiff_timeseries.networks:WindowNetwork",
    )


@hookimpl
def register_guidance(register: Register) -> None:
    """Towards what was observed: bounded by the likelihood's variance, and TSDiff's published self-guidance."""
    register(
        "timeseries/posterior",
        "towards what was observed, as far as the noise level leaves the window uncertain",
        "anydiff_timeseries.posterior:PosteriorGuidance",
        neutral={"noise": math.inf},
    )
    register(
        "timeseries/observation",
        "TSDiff: towards what was observed, by quantile (Q) or squared (MS) energy",
        "anydiff_timeseries.tsdiff:ObservationGuidance",
        neutral={"scale": 0.0},
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """Forecasts by GluonTS's definitions (each sample against its own case), and unconditional windows."""
    metrics = "anydiff_timeseries.metrics"
    register(
        "timeseries/mean-wql",
        "mean weighted quantile loss (the CRPS of TSDiff's paper)",
        f"{metrics}:MeanWeightedQuantileLoss",
        paired=True,
    )
    register("timeseries/crps", "CRPS over the sum of |y|", f"{metrics}:RelativeCRPS", paired=True)
    register("timeseries/mase", "mean absolute scaled error of the median", f"{metrics}:ScaledError", paired=True)
    register("timeseries/coverage-error", "coverage against its level", f"{metrics}:ForecastCoverage", paired=True)
    register("timeseries/lps", "linear predictive score of synthetic windows", f"{metrics}:LinearPredictiveScore")
    register("timeseries/autocorrelation", "distance of autocorrelations", f"{metrics}:AutocorrelationDistance")


@hookimpl
def register_recipes(register: Register) -> None:
    """TSDiff and its conditional twin."""
    recipes = "anydiff_timeseries.recipes"
    register(
        "timeseries/traffic",
        "TSDiff on hourly traffic volume",
        f"{recipes}:traffic",
        weights="anydiff_timeseries:weights/traffic.safetensors",
    )
    register(
        "timeseries/traffic-conditional",
        "TSDiff-Cond on hourly traffic",
        f"{recipes}:traffic_conditional",
        weights="anydiff_timeseries:weights/traffic-conditional.safetensors",
    )
    register(
        "timeseries/pm25",
        "TSDiff on hourly PM2.5 in Beijing",
        f"{recipes}:pm25",
        weights="anydiff_timeseries:weights/pm25.safetensors",
    )


@hookimpl
def register_tasks(register: Register) -> None:
    """Forecasts of hourly traffic and of PM2.5."""
    register(
        "timeseries/impute@1",
        "half of the hours of eight days of traffic from the other half",
        "anydiff_timeseries.tasks:impute",
    )
    register(
        "timeseries/traffic@1",
        "a day of hourly traffic from the week before, 64 forecasts of 15 members",
        "anydiff_timeseries.tasks:traffic",
    )
    register(
        "timeseries/pm25@1",
        "a day of hourly PM2.5 from the week before, 64 forecasts of 15 members",
        "anydiff_timeseries.tasks:pm25",
    )
