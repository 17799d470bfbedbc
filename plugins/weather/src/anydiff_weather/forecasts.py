"""Forecasts as data sets with base times, one lead time and members: their dates, and the conditions of their cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff_weather.checks import standard_axes
from anydiff_weather.times import days_of_year, one_lead, valid_times

if TYPE_CHECKING:
    from anydiff_weather.domain import Weather


def forecast_dates(data: xarray.Dataset, what: str = "the forecast") -> tuple[xarray.DataArray, xarray.DataArray]:
    """Base and valid time of each time of a forecast, both along the axis ``time``.

    Raises:
        AnydiffError: no times, neither ``valid_time`` nor ``step``, several lead times, or what
            :func:`~anydiff_weather.times.valid_times` refuses.
    """
    data = one_lead(standard_axes(data, what), what)
    if "time" not in data.coords or data["time"].ndim != 1:
        raise AnydiffError(f"{what} has no coordinate 'time' along an axis; assign the base times (00 UTC, say).")
    valid = valid_times(data, what)
    assert valid is not None
    if "valid_time" not in data.coords and "step" not in data.coords:
        raise AnydiffError(f"{what} has neither 'valid_time' nor one 'step'; select one lead time and assign it.")
    if set(valid.dims) - {"time"}:
        raise AnydiffError(f"the valid times of {what} have the axes {list(valid.dims)}; select one lead time.")
    base = data["time"].reset_coords(drop=True)
    return base, valid.broadcast_like(base)


def forecast_days(data: xarray.Dataset, what: str = "the forecast") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Base and valid day of the year of each time of a forecast, both ``[times]``; errors as :func:`forecast_dates`."""
    base, valid = forecast_dates(data, what)
    return days_of_year(base), days_of_year(valid)


def forecast_conditions(
    domain: Weather, forecast: xarray.Dataset, seeds: NDArray[np.int64] | None = None
) -> dict[str, Tensor]:
    """Conditions of each time of ``forecast``: its first K members (or those numbered ``seeds [K]``) as seeds.

    Raises:
        AnydiffError: too few members, or whatever :meth:`Weather.values` refuses.
    """
    forecast = as_forecast(forecast)
    values = domain.values(forecast, ("time", "number"), "the forecast")
    if values.shape[1] < domain.seeds:
        raise AnydiffError(
            f"the forecast has {values.shape[1]} members, but {domain.seeds} seeds are needed; add more."
        )
    chosen = np.arange(domain.seeds) if seeds is None else seeds
    days = [domain.climatology.days(dates, "the forecast") for dates in forecast_dates(forecast)]
    return domain.case_conditions(values[:, chosen], days[0], days[1])


def as_forecast(data: xarray.Dataset, what: str = "the forecast") -> xarray.Dataset:
    """``data`` with standard axes, an axis ``time`` even of one time, and no axis of lead times.

    Raises:
        AnydiffError: several lead times, or two coordinates that mean the same.
    """
    data = one_lead(standard_axes(data, what), what)
    return data.expand_dims("time") if "time" not in data.dims and "time" in data.coords else data
