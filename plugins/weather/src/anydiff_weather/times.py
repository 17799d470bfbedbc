"""When a field is valid: one function for every encoding of time and lead time, and the pairing of fields by it.

A forecast has a base time, a lead time (``step``) and a valid time, base + step. Files name and encode them in many
ways; :func:`standard_times` gives all of them our names, and :func:`valid_times` is the only place where a base and a
step become a valid time. Forecasts and truth are paired by it and never by their order.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from anydiff.errors import AnydiffError

BASES = ("forecast_reference_time", "init_time", "initialization_time", "reference_time", "base_time")
"""Names of the base time where it is not called ``time``: the Climate Data Store, and others."""

STEPS = ("step", "prediction_timedelta", "forecast_period", "lead_time", "leadtime", "lead")
"""Names of the lead time: cfgrib, WeatherBench 2, the Climate Data Store, and others."""

UNIT_NANOSECONDS = {
    "nanoseconds": 1, "nanosecond": 1, "ns": 1, "microseconds": 10**3, "us": 10**3, "milliseconds": 10**6,
    "ms": 10**6, "seconds": 10**9, "second": 10**9, "sec": 10**9, "s": 10**9, "minutes": 60 * 10**9,
    "minute": 60 * 10**9, "min": 60 * 10**9, "hours": 3600 * 10**9, "hour": 3600 * 10**9, "hrs": 3600 * 10**9,
    "hr": 3600 * 10**9, "h": 3600 * 10**9, "days": 86400 * 10**9, "day": 86400 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip
"""Units of a lead time that is stored as a number, of fixed length; months and years have none."""

CALENDARS = {
    "standard": "standard", "gregorian": "standard", "proleptic_gregorian": "standard", "julian": "julian",
    "noleap": "noleap", "365_day": "noleap", "all_leap": "all_leap", "366_day": "all_leap", "360_day": "360_day",
}  # fmt: skip
"""Calendars by which days they have; those of one class name the same day alike."""

_MOST_NANOSECONDS = 290 * 365.25 * 86400e9
"""A timedelta64[ns] holds 292 years."""

SHOWN = 3
"""Times that a sentence names."""


@dataclass(frozen=True, order=True)
class Moment:
    """What tells a field's case: its valid time as text, and the number of its case where times repeat."""

    stamp: str
    case: int | None = None

    def __str__(self) -> str:
        return self.stamp[:16] if self.case is None else f"{self.stamp[:16]} (case {self.case})"


# Names and encodings ------------------------------------------------------------------------------------------------


def standard_times(data: xarray.Dataset, what: str = "the data") -> xarray.Dataset:
    """``data`` with the base time called ``time``, the lead time ``step`` (timedelta64), the valid time ``valid_time``.

    A file with a base time of another name *and* ``time`` follows CF: its ``time`` is the valid time. Where only a
    valid time is known (reanalysis of the new Climate Data Store) that becomes ``time``. The axis of times is called
    ``time``.

    Raises:
        AnydiffError: two coordinates say the same thing, or a lead time has no units.
    """
    names = {*map(str, data.dims), *map(str, data.variables)}
    base, step = _only(BASES, names, what), _only(STEPS, names, what)
    stray = [name for name in ("time", "valid_time", base, step) if name in data.data_vars]
    data = data.set_coords(stray)
    if step is not None and step != "step":
        data = data.rename({step: "step"})
    if base is not None and "time" in names:
        if "valid_time" in names:
            raise AnydiffError(
                f"{what} has 'time', 'valid_time' and {base!r}, so which is the base time is not clear; drop one."
            )
        data = _renamed(data, {"time": "valid_time", base: "time"})
    elif base is not None:
        data = _renamed(data, {base: "time"})
    data = _on_time_axis(data)
    if "step" in data.coords:
        data = data.assign_coords(step=_durations(data["step"], what))
    return data


def _only(names: Sequence[str], known: set[str], what: str) -> str | None:
    found = [name for name in names if name in known]
    if len(found) > 1:
        raise AnydiffError(f"{what} has both {found[0]!r} and {found[1]!r}, which mean the same; drop one of them.")
    return found[0] if found else None


def _renamed(data: xarray.Dataset, names: dict[str, str]) -> xarray.Dataset:
    """Rename coordinates and the axes of their name."""
    data = data.reset_index([name for name in names if name in data.indexes])
    dims = {old: new for old, new in names.items() if old in data.dims}
    data = data.rename_dims(dims).rename_vars({old: new for old, new in names.items() if old in data.variables})
    return data.set_xindex("time") if data.coords["time"].dims == ("time",) else data


def _on_time_axis(data: xarray.Dataset) -> xarray.Dataset:
    """An axis ``valid_time`` called ``time``; with no base time known the valid time is the time."""
    if "valid_time" not in data.dims or "time" in data.dims:
        return data
    if "time" not in data.coords:
        return data.rename(valid_time="time")
    count = data.sizes["valid_time"]
    base = xarray.Variable("time", np.broadcast_to(data["time"].to_numpy(), (count,)).copy(), data["time"].attrs)
    valid = xarray.Variable("time", data["valid_time"].to_numpy(), data["valid_time"].attrs)
    data = data.drop_vars(["time", "valid_time"]).rename_dims(valid_time="time")
    return data.assign_coords(time=base, valid_time=valid)


def _durations(step: xarray.DataArray, what: str) -> xarray.DataArray:
    """Lead times as timedelta64[ns], from that type or from numbers whose ``units`` say what they count.

    Raises:
        AnydiffError: no units, units of no fixed length, or a lead time that is missing or longer than 290 years.
    """
    values = step.to_numpy()
    attributes = {name: value for name, value in step.attrs.items() if name not in ("units", "dtype")}
    if values.dtype.kind == "m":
        made = values.astype("timedelta64[ns]")
    elif values.dtype.kind == "O" and all(isinstance(each, datetime.timedelta) for each in values.flat):
        made = values.astype("timedelta64[us]").astype("timedelta64[ns]")
    elif values.dtype.kind in "iuf":
        unit = str(step.attrs.get("units", "")).strip()
        length = UNIT_NANOSECONDS.get(unit) or UNIT_NANOSECONDS.get(unit.lower())
        if length is None:
            raise AnydiffError(
                f"the lead times of {what} are {values.dtype} in the units {unit!r}, so their length is unknown; set "
                "data['step'].attrs['units'] to 'hours' or 'days'."
            )
        if not np.isfinite(values).all():
            raise AnydiffError(f"a lead time of {what} is missing; drop those forecasts.")
        beyond = np.abs(values.astype(np.float64)) * length >= _MOST_NANOSECONDS
        if beyond.any():  # a product of whole numbers comes around in silence: the smallest one times a day is 0
            raise AnydiffError(
                f"a lead time of {what} is {values[beyond].flat[0]} {unit}, more than 290 years, as what stands for a "
                "missing value is; drop those forecasts."
            )
        whole = values.astype(np.int64) * length if values.dtype.kind in "iu" else np.rint(
            values.astype(np.float64) * length
        ).astype(np.int64)  # fmt: skip
        made = whole.astype("timedelta64[ns]")
    else:
        raise AnydiffError(f"the lead times of {what} are {values.dtype}, not durations; give them as timedelta64.")
    if np.isnat(made).any():
        raise AnydiffError(f"a lead time of {what} is missing; drop those forecasts.")
    return xarray.DataArray(made, dims=step.dims, attrs=attributes)


def one_lead(data: xarray.Dataset, what: str) -> xarray.Dataset:
    """``data`` without an axis of lead times.

    Raises:
        AnydiffError: it has several.
    """
    if "step" not in data.dims:
        return data
    if data.sizes["step"] == 1:
        return data.isel(step=0)
    if "step" in data.coords:
        hours = data["step"].to_numpy() / np.timedelta64(1, "h")
        spread = f" from {hours[0]:g} to {hours[-1]:g} hours"
    else:
        spread = ""
    raise AnydiffError(
        f"{what} has {data.sizes['step']} lead times{spread}; select one lead time, with data.isel(step=0) say."
    )


# The valid time -----------------------------------------------------------------------------------------------------


def valid_times(data: xarray.Dataset, what: str = "the data") -> xarray.DataArray | None:
    """The valid time of each field: base + step, or what ``valid_time`` says, or ``time`` alone; None without any.

    Args:
        data: with standard names (:func:`standard_times`).
        what: what they are, for the sentences.

    Raises:
        AnydiffError: times that are no dates or missing, or a ``valid_time`` that is not base + step.
    """
    given = _dates(data, "valid_time", what)
    base = _dates(data, "time", what)
    if base is None or "step" not in data.coords:
        if given is None and base is not None and base.attrs.get("standard_name") == "forecast_reference_time":
            raise AnydiffError(
                f"the times of {what} are base times, and there is neither 'valid_time' nor 'step'; assign one of them."
            )
        return base if given is None else given
    computed = _later(base, data["step"])
    if given is not None:
        one, two = (list(map(stamp, each.to_numpy().flat)) for each in xarray.broadcast(computed, given))
        wrong = [place for place, pair in enumerate(zip(one, two, strict=True)) if pair[0] != pair[1]]
        if wrong:
            raise AnydiffError(
                f"{len(wrong)} of {len(one)} valid times of {what} are not base time plus step (first: 'valid_time' "
                f"says {two[wrong[0]][:16]}, but time + step is {one[wrong[0]][:16]}); correct or drop one of them."
            )
    return computed


def _dates(data: xarray.Dataset, name: str, what: str) -> xarray.DataArray | None:
    """A coordinate of dates; None where there is none.

    Raises:
        AnydiffError: it holds no dates, or one is missing.
    """
    if name not in data.coords:
        return None
    dates = data[name].reset_coords(drop=True)
    values = dates.to_numpy()
    if values.dtype.kind not in "M" and not all(hasattr(each, "timetuple") for each in values.flat):
        raise AnydiffError(f"the times of {what} are {values.dtype}, not dates; decode them with xarray.decode_cf.")
    zoned = next((each for each in values.flat if getattr(each, "tzinfo", None) is not None), None)
    if zoned is not None:
        raise AnydiffError(f"the times of {what} have a time zone ({zoned.tzinfo}); give them in UTC without one.")
    if values.dtype.kind == "M" and np.isnat(values).any():
        raise AnydiffError(f"{int(np.isnat(values).sum())} of the times of {what} are missing; drop those fields.")
    return dates


def _later(base: xarray.DataArray, step: xarray.DataArray) -> xarray.DataArray:
    """base + step. Steps go in microseconds where they are whole ones, so that years beyond 2262 keep their meaning."""
    step = step.reset_coords(drop=True)
    coarse = step.astype("timedelta64[us]")
    exact = coarse if (coarse.astype("timedelta64[ns]") == step).all() else step
    if base.dtype.kind == "M":
        return _labelled(base.variable + exact.variable, base, step)
    # xarray makes timedelta64 of Python's durations, which dates of cftime do not take; so NumPy adds them.
    one, two = xarray.broadcast(base, exact)
    moved = one.to_numpy() + two.to_numpy().astype(object)
    return _labelled(xarray.Variable(one.dims, moved), base, step)


def _labelled(values: xarray.Variable, base: xarray.DataArray, step: xarray.DataArray) -> xarray.DataArray:
    coordinates = {name: each for one in (base, step) for name, each in one.coords.items() if name in values.dims}
    return xarray.DataArray(values, coordinates)


def stamp(when: Any) -> str:
    """A date of any type as text of one form, to microseconds."""
    if isinstance(when, np.datetime64):
        return str(when.astype("datetime64[us]"))
    return (
        f"{when.year:04d}-{when.month:02d}-{when.day:02d}T{when.hour:02d}:{when.minute:02d}:{when.second:02d}"
        f".{getattr(when, 'microsecond', 0):06d}"
    )


def days_of_year(dates: xarray.DataArray) -> NDArray[np.int64]:
    """Days of the year, 1 to 366, of the shape of ``dates``."""
    return np.asarray(dates.dt.dayofyear.to_numpy()).astype(np.int64)


def calendar_of(dates: xarray.DataArray) -> str:
    """The class of the calendar: standard, noleap, all_leap, 360_day or julian."""
    name = str(dates.dt.calendar)
    return CALENDARS.get(name, name)


def check_calendar(found: str, wanted: str, names: tuple[str, str]) -> None:
    """Refuse times of different calendars: their days cannot be matched.

    Raises:
        AnydiffError: the calendars differ.
    """
    if found != wanted:
        raise AnydiffError(
            f"the calendar of {names[0]} is {found!r}, but that of {names[1]} is {wanted!r}; convert one with "
            "convert_calendar."
        )


# Pairing ------------------------------------------------------------------------------------------------------------


def moments(data: xarray.Dataset, what: str) -> list[Moment]:
    """Of each entry along the axis ``time``: its valid time, and its ``case`` where there is such a coordinate.

    Raises:
        AnydiffError: there are no times.
    """
    valid = valid_times(data, what)
    if valid is None:
        raise AnydiffError(f"{what} has no coordinate 'time', so it cannot be paired; assign the valid times.")
    count = data.sizes["time"]
    stamps = [stamp(each) for each in np.broadcast_to(valid.to_numpy(), (count,))]
    cases = np.broadcast_to(data["case"].to_numpy(), (count,)).tolist() if "case" in data.coords else [None] * count
    return [Moment(when, case) for when, case in zip(stamps, cases, strict=True)]


def pair(given: Sequence[Moment], known: Sequence[Moment], names: tuple[str, str]) -> list[int]:
    """The place in ``known`` of each of ``given``: that of its valid time, and of its case where times repeat.

    Args:
        given: of the forecasts.
        known: of the truth.
        names: what the two are called ("the ensemble", "the truth").

    Raises:
        AnydiffError: a moment of ``given`` is not in ``known``, or several of ``known`` have its time.
    """
    by_time: dict[str, list[int]] = {}
    for place, moment in enumerate(known):
        by_time.setdefault(moment.stamp, []).append(place)
    places, missing, several = [], [], []
    for moment in given:
        found = by_time.get(moment.stamp, [])
        told = [place for place in found if moment.case is not None and known[place].case == moment.case]
        # A number of the case decides among equal times alone; other files count their cases from elsewhere.
        found = told if len(found) > 1 and moment.case is not None else found
        places += found[:1]
        missing += [moment] * (not found)
        several += [moment] * (len(found) > 1)
    if missing:
        raise AnydiffError(
            f"{len(missing)} of {len(given)} fields of {names[0]} have valid times that {names[1]} lacks (first "
            f"{_listed(missing)}); select the fields it has, or correct 'time' and 'step'."
        )
    if several:
        raise AnydiffError(
            f"{names[1]} has several fields for the valid times of {len(several)} of {len(given)} fields of {names[0]} "
            f"(first {_listed(several)}); keep one of them, or number them by a coordinate 'case' in both."
        )
    return places


def check_complete(places: Sequence[int], known: Sequence[Moment], names: tuple[str, str]) -> None:
    """Refuse entries of ``known`` that none of ``places`` is.

    Raises:
        AnydiffError: tells how many, and the first.
    """
    left = [known[place] for place in sorted(set(range(len(known))) - set(places))]
    if left:
        raise AnydiffError(
            f"{len(left)} of {len(known)} times of {names[1]} have no field in {names[0]} (first {_listed(left)}); "
            "select those that it has, with truth.sel(time=valid_times)."
        )


def _listed(found: Sequence[Moment]) -> str:
    shown = list(dict.fromkeys(map(str, found)))[:SHOWN]
    return ", ".join(shown)
