"""A user's own forecasts as training pairs, in memory or read from their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray
from numpy.typing import NDArray

from anydiff.data import Column, Pieces, overlapping
from anydiff.domains import Domain
from anydiff.domains.kit import Split, domain_of_data, last_share
from anydiff.errors import AnydiffError
from anydiff_weather.checks import standard_axes
from anydiff_weather.data import ForecastCases
from anydiff_weather.domain import Weather, encode_day
from anydiff_weather.ensembles import forecast_cases
from anydiff_weather.files import open_dataset
from anydiff_weather.forecasts import as_forecast, forecast_dates
from anydiff_weather.stored import BaseDays, CaseColumn, StoredCases, edges_of
from anydiff_weather.times import calendar_of, check_calendar, moments, pair, stamp, valid_times

MEGABYTE = 1 << 20


class ForecastFiles(ForecastCases):
    """A user's own forecasts: NetCDF, Zarr or GRIB with the axes time (of the base), number, and one lead time.

    The cases are taken in the order of their base times, whatever their order in the file.

    Args:
        forecast: the file of the ensemble.
        climatology: a file made by ``Climatology.fit(past).write(path)``; None for the domain's.
        split: ``"train"`` or ``"test"``.
        truth: a file of the truth (reanalysis) with the axis time, matched to the valid times; needed for
            ``truth_labels`` and for scores against the truth.
        seeds: K; None for the domain's.
        member_labels: see :class:`ForecastCases`.
        truth_labels: see :class:`ForecastCases`.
        test_share: the last share of the times is the test split.
        memory: megabytes; cases that have more are not held, but read from the file when a batch asks for them, and
            no more of them than that are kept. What is drawn is the same.
        domain: the recipe's; None makes one of ``climatology`` and 2 seeds.
    """

    def __init__(
        self,
        forecast: str | Path,
        climatology: str | Path | None = None,
        split: Split = "train",
        truth: str | Path | None = None,
        seeds: int | None = None,
        member_labels: int = 3,
        truth_labels: int = 0,
        test_share: float = 0.2,
        memory: float = 256.0,
        domain: Domain | None = None,
    ) -> None:
        if climatology is None and not isinstance(domain, Weather):
            raise AnydiffError(
                "climatology is missing; name a file made by Climatology.fit(past).write(path), or give the domain."
            )
        made = domain_of_data(
            Weather, domain, climatology=None if climatology is None else str(climatology), seeds=seeds
        )
        data = _in_order(as_forecast(open_dataset(forecast, in_memory=False)))
        base, valid = (made.climatology.days(dates, "the forecast") for dates in forecast_dates(data))
        if not 0 < last_share(len(base), "train", test_share).stop < len(base):
            raise AnydiffError(
                f"the forecast has {len(base)} times, too few for two splits at test_share {test_share}."
            )
        rows = last_share(len(base), split, test_share)
        part = data.isel(time=rows)
        observed = (
            None if truth is None else _truth(part, standard_axes(open_dataset(truth, in_memory=False), "the truth"))
        )
        fields = [name for name in made.variables if name in part]
        self._times = [dates.to_numpy() for dates in forecast_dates(part)]
        edges, pieces = edges_of(part[fields], rows.start or 0), Pieces(round(memory * MEGABYTE))
        members = CaseColumn(part, made, ("time", "number"), "the forecast", valid[rows], edges)
        columns: list[Column] = [members, BaseDays(made, base[rows], edges, members)]
        if observed is not None:
            columns.append(CaseColumn(observed, made, ("time",), "the truth", valid[rows], edges))
        stored = [StoredCases(column, pieces) for column in columns]
        self._edges: tuple[NDArray[np.int64], int] | None = None
        fits = sum(4 * each.shape.numel() for each in stored) <= pieces.limit
        if not fits:
            self._edges = edges, max(1, int(pieces.limit / 2 // sum(column.piece_bytes for column in columns)))
        self.members, self.climatology, *truths = (each.loaded() if fits else each for each in stored)
        self.truth, self.analysis = truths[0] if truths else None, None
        self.valid_day = encode_day(valid[rows])
        self._begin("weather/files", made, split, member_labels, truth_labels, forecast_cases(part[fields]))

    @property
    def pieces(self) -> tuple[NDArray[np.int64], int] | None:
        """The examples of cases that are stored together; None where all are in memory."""
        return None if self._edges is None else (self._edges[0] * len(self._label), self._edges[1])

    @property
    def dependence(self) -> int:
        """How many following forecasts begin before a forecast's valid time."""
        return overlapping(*self._times)


def _in_order(forecast: xarray.Dataset) -> xarray.Dataset:
    """``forecast`` by ascending base time, so that the last share of its cases is the latest.

    Raises:
        AnydiffError: a base time occurs twice, so that it might be in both splits.
    """
    base, _ = forecast_dates(forecast)
    stamps = [stamp(each) for each in base.to_numpy()]
    repeated = sorted({each for each in stamps if stamps.count(each) > 1}) if len(set(stamps)) < len(stamps) else []
    if repeated:
        raise AnydiffError(
            f"{len(repeated)} base times of the forecast occur more than once (first {repeated[0][:16]}); keep one "
            "each, with drop_duplicates('time') say."
        )
    return forecast.isel(time=sorted(range(len(stamps)), key=stamps.__getitem__))


def _truth(forecast: xarray.Dataset, truth: xarray.Dataset) -> xarray.Dataset:
    """The truth at the valid times of ``forecast``.

    Raises:
        AnydiffError: other calendars, or a valid time without truth or with several.
    """
    when = [valid_times(each, what) for each, what in ((forecast, "the forecast"), (truth, "the truth"))]
    assert when[0] is not None
    assert when[1] is not None
    names = ("the forecast", "the truth")
    check_calendar(calendar_of(when[0]), calendar_of(when[1]), names)
    places = pair(moments(forecast, names[0]), moments(truth, names[1]), names)
    return truth.isel(time=places)
