"""Frequencies and time stamps: which period of a regular grid each stamp stands for, without losing one.

A frequency is a grid of pandas periods (``"h"``, ``"2h"``, ``"D"``, ``"W"``, ``"M"``). Its names for stamps at the
beginning and at the end of a period (``"MS"`` and ``"ME"``) mean the same grid.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anydiff.errors import AnydiffError

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
EXAMPLES = "'h', '15min', 'D', 'B', 'W', 'ME', 'QE' or 'YE'"

_SECONDS = {"D": 86400, "h": 3600, "min": 60, "s": 1}
_DAY = 86_400 * 10**9  # nanoseconds
_FINER = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# The usual seasons of a naive forecast, in units of one period.
_SEASONS = {"h": 24, "min": 60, "s": 60, "D": 7, "B": 5, "W": 52, "M": 12, "Q": 4, "Y": 1}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without pandas's warnings that periods of business days, and some spellings of frequencies, will go one day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@dataclass(frozen=True)
class Frequency:
    """A regular grid in time.

    Attributes:
        base: the pandas alias of one period: ``"h"``, ``"M"``, ``"Q-DEC"``.
        step: periods from one value to the next.
    """

    base: str
    step: int = 1

    @property
    def period(self) -> str:
        """The frequency of a ``pandas.Period``: ``"2h"``, ``"M"``."""
        return f"{self.step}{self.base}" if self.step > 1 else self.base

    @property
    def alias(self) -> str:
        """The frequency as pandas writes those of stamps: ``"2h"``, ``"ME"``."""
        return spelled(self.base, self.step)

    @property
    def grid(self) -> str:
        """One text per grid: quarters that begin in the same months are one, however their year is counted."""
        if not self.base.startswith("Q-"):
            return self.period
        month = MONTHS[9 + MONTHS.index(self.base[2:]) % 3]
        return Frequency(f"Q-{month}", self.step).period

    @property
    def season(self) -> int:
        """Steps after which such series usually repeat themselves: a day, a week, a year; 1 where none is usual."""
        unit = _SEASONS.get(self.base.split("-")[0], 1)
        if self.base == "min":
            unit = 1440
        return unit // self.step if unit % self.step == 0 else 1


def spelled(base: str, step: int) -> str:
    """The alias for stamps of ``step`` periods ``base``."""
    kind, _, anchor = base.partition("-")
    name = {"M": "ME", "Q": "QE", "Y": "YE"}.get(kind, kind)
    name = f"{name}-{anchor}" if anchor else name
    return f"{step}{name}" if step > 1 else name


def frequency(text: Any) -> Frequency:
    """The grid that a pandas alias names.

    Args:
        text: ``"h"``, ``"15min"``, ``"D"``, ``"B"``, ``"W-MON"``, ``"ME"``, ``"MS"``, ``"QE"``, ``"YE-JUN"`` and
            so on; ``"M"``, ``"Q"`` and ``"Y"``, as periods have them, too.

    Raises:
        AnydiffError: another text, or a frequency that is no grid of periods.
    """
    with quietly():
        try:
            offset = pd.tseries.frequencies.to_offset(text)
            code, step = str(offset.rule_code), int(offset.n)
        except (ValueError, TypeError, AttributeError):
            raise AnydiffError(f"freq is {text!r}, but must be a frequency of pandas: {EXAMPLES}.") from None
    kind, _, anchor = code.partition("-")
    if step < 1:
        raise AnydiffError(f"freq is {text!r}, but time must go forward; use one of {EXAMPLES}.")
    if kind in _SECONDS or kind in _FINER:
        return _clock(kind, step)
    if kind in ("MS", "ME"):
        return Frequency("M", step)
    if kind in ("QE", "YE"):
        return Frequency(f"{kind[0]}-{anchor}", step)
    if kind in ("QS", "YS"):
        return Frequency(f"{kind[0]}-{MONTHS[MONTHS.index(anchor) - 1]}", step)
    if kind in ("W", "B"):
        return Frequency(code, step)
    raise AnydiffError(
        f"freq is {text!r}, but such steps are no grid of periods; use one of {EXAMPLES} (for the last business day of "
        "a month 'ME', with series.index.to_period('M'))."
    )


def _clock(kind: str, step: int) -> Frequency:
    """Equal times with one spelling: 60 minutes are an hour, 24 hours a day."""
    nanoseconds = step * (10**9 * _SECONDS[kind] if kind in _SECONDS else 10**9 // _FINER[kind])
    units = {**{unit: 10**9 * seconds for unit, seconds in _SECONDS.items()}}
    units.update({unit: 10**9 // parts for unit, parts in _FINER.items()})
    base = next(unit for unit, size in units.items() if nanoseconds % size == 0)
    return Frequency(base, nanoseconds // units[base])


@dataclass(frozen=True)
class Stamping:
    """Where in its period a series stamps its values.

    Attributes:
        end: whether the offset counts from the end of the period, else from its beginning.
        offset: nanoseconds.
        utc: whether the stamps are in coordinated universal time, said so.
    """

    end: bool = False
    offset: int = 0
    utc: bool = False

    def stamps(self, begin: int, freq: Frequency, count: int) -> pd.DatetimeIndex:
        """The stamps of ``count`` values, the first of a period that begins ``begin`` nanoseconds after 1970."""
        with quietly():
            first = pd.Timestamp(begin).to_period(freq.base).ordinal
            periods = pd.PeriodIndex.from_ordinals(first + freq.step * np.arange(count), freq=freq.base)
            times = (periods + 1 if self.end else periods).to_timestamp() + pd.Timedelta(self.offset, "ns")
        times = pd.DatetimeIndex(times, freq=None).as_unit("ns")
        return times.tz_localize("UTC") if self.utc else times


def place(index: pd.DatetimeIndex, freq: Frequency, name: str) -> tuple[NDArray[np.int64], pd.Period, Stamping]:
    """The step of each stamp, counted from the first; the first one's period; and how the periods are stamped.

    Args:
        index: stamps in order.
        freq: the grid they must lie on.
        name: of the series, for errors.

    Raises:
        AnydiffError: a time zone, a stamp that is missing, doubled or out of order, stamps off the grid, or stamps of
            another frequency; the sentence says how many and what to do.
    """
    utc = index.tz is not None
    if utc:
        index = without_zone(index, freq, name)
    _check_order(index, name)
    with quietly():
        periods = index.to_period(freq.base)
        begins = periods.to_timestamp()
        ends = (periods + 1).to_timestamp()
    if freq.base == "B" and (index.dayofweek >= 5).any():
        odd = index[int((index.dayofweek >= 5).argmax())]
        raise AnydiffError(
            f"series {name!r} has {int((index.dayofweek >= 5).sum())} of {len(index)} time stamps at a weekend ({odd} "
            "is the first), but frequency 'B' is business days; use freq 'D'."
        )
    ordinals = np.asarray(periods.asi8, dtype=np.int64)
    _check_frequency(index, ordinals, freq, name)
    after, before = ((index - edges).as_unit("ns").asi8 for edges in (begins, ends))
    from_begin, from_end = bool((after == after[0]).all()), bool((before == before[0]).all())
    if not from_begin and not from_end:
        raise AnydiffError(_irregular(index, after, freq, name))
    # Months of one length do not tell the 31st from the last day, which is what people mean.
    last_day = freq.base[0] in "MQY" and before[0] >= -_DAY
    end = bool(from_end and (last_day or not from_begin))
    with quietly():
        start = pd.Period(ordinal=int(ordinals[0]), freq=freq.period)
    return (ordinals - ordinals[0]) // freq.step, start, Stamping(end, int((before if end else after)[0]), utc)


def place_periods(index: pd.PeriodIndex, freq: Frequency, name: str) -> tuple[NDArray[np.int64], pd.Period, Stamping]:
    """As :func:`place`, for an index of periods of the same grid."""
    if frequency(index.freqstr).grid != freq.grid:
        raise AnydiffError(
            f"series {name!r} has frequency {index.freqstr!r}, but {freq.alias!r} is needed; give that frequency "
            f"to the domain and the data, or resample it: series.resample({freq.alias!r}).mean()."
        )
    if index.hasnans:
        raise AnydiffError(f"series {name!r} has a missing time stamp; drop those rows.")
    with quietly():
        return place(pd.DatetimeIndex(index.to_timestamp()), freq, name)


def infer(index: pd.DatetimeIndex, name: str) -> Frequency:
    """The frequency of stamps: their most common distance, gaps or not.

    Raises:
        AnydiffError: too few stamps, or distances that are no frequency; the sentence asks for ``freq``.
    """
    if index.tz is not None:
        index = index.tz_localize(None)
    _check_order(index, name)
    if len(index) < 3:
        raise AnydiffError(
            f"series {name!r} has {len(index)} time stamps, too few to tell a frequency; give freq, one of {EXAMPLES}."
        )
    step = pd.Timedelta(_most_common(np.diff(index.asi8)), unit=index.unit)
    days = step / pd.Timedelta(days=1)
    if _business_days(index, step):
        return Frequency("B")
    month = int(index[0].month)
    if (index.is_month_end & ~index.is_month_start).all():
        month += 1
    ends = MONTHS[(month - 2) % 12]  # the month before the one in which a period begins
    for base, least, most in (("M", 28, 31), (Frequency(f"Q-{ends}").grid, 90, 92), (f"Y-{ends}", 365, 366)):
        if least <= days <= most and days.is_integer():
            return Frequency(base)
    if days == 7:
        # A week of pandas ends at the day it is named after; the stamps begin or end it.
        return Frequency(f"W-{WEEKDAYS[index[0].dayofweek]}")
    if days < 28:
        return frequency(step)
    raise AnydiffError(
        f"the time stamps of series {name!r} are mostly {_words(step)} apart, which tells no frequency; give freq, one "
        f"of {EXAMPLES}, or '2ME' for two months."
    )


def without_zone(index: pd.DatetimeIndex, freq: Frequency, name: str) -> pd.DatetimeIndex:
    """``index`` without its zone, which must be UTC.

    Raises:
        AnydiffError: another zone.
    """
    if index.tz.utcoffset(None) != timedelta(0):
        raise AnydiffError(_zone(name, index.tz, freq, bool((index == index.normalize()).all())))
    return index.tz_localize(None)


def _zone(name: str, zone: Any, freq: Frequency, midnight: bool) -> str:
    whole_days = freq.base not in ("h", "min", "s", *_FINER)
    fix = "tz_localize(None)" if whole_days and midnight else "tz_convert('UTC')"
    return (
        f"series {name!r} has the time zone {zone}, whose clock may change and break a regular frequency; use {fix}, "
        f"which keeps {'the local days' if whole_days and midnight else 'every hour'}."
    )


def _check_order(index: pd.DatetimeIndex, name: str) -> None:
    if index.hasnans:
        raise AnydiffError(f"series {name!r} has a missing time stamp; drop those rows.")
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise AnydiffError(
            f"series {name!r} has {int(index.duplicated().sum())} doubled time stamps, {twice} twice among them; if "
            "several series stand below each other, name each row's in a column item_id; else keep one: "
            "series[~series.index.duplicated()]."
        )
    if not index.is_monotonic_increasing:
        raise AnydiffError(f"the time stamps of series {name!r} are not in order; use sort_index().")


def _check_frequency(index: pd.DatetimeIndex, ordinals: NDArray[np.int64], freq: Frequency, name: str) -> None:
    """Refuse stamps that share a period, lie between two steps, or are mostly further apart than one step."""
    if len(index) < 2:
        return
    steps = np.diff(ordinals)
    common = pd.Timedelta(_most_common(np.diff(index.asi8)), unit=index.unit)
    says = (
        f"series {name!r} was read with frequency {freq.alias!r}, but its time stamps are mostly {_words(common)} apart"
    )
    resample = f"series.resample({freq.alias!r}).mean()"
    if (steps == 0).any():
        raise AnydiffError(
            f"{says}: {int((steps == 0).sum())} of {len(index)} values would share a period with another; give the "
            f"frequency of the data, or resample it: {resample}."
        )
    off = (ordinals - ordinals[0]) % freq.step != 0
    if off.any():
        raise AnydiffError(
            f"{says}: {int(off.sum())} of {len(index)} values lie between the steps that begin at {index[0]} "
            f"({index[int(off.argmax())]} is the first); give the frequency of the data, or resample it: {resample}."
        )
    if len(index) > 2 and _most_common(steps) > freq.step:
        raise AnydiffError(
            f"{says}: {int((ordinals[-1] - ordinals[0]) // freq.step + 1 - len(index))} values would be missing "
            f"between the {len(index)} that are there; {_use(index, name)}, or, if they are gaps, say so by "
            f"rows without a value: series.asfreq({freq.alias!r})."
        )
    if freq.period == "D" and _business_days(index, common):
        raise AnydiffError(
            f"series {name!r} was read with frequency 'D', but none of its {len(index)} time stamps is at a weekend; "
            "use freq 'B', or, if the weekends are gaps, say so by rows without a value: series.asfreq('D')."
        )


def _use(index: pd.DatetimeIndex, name: str) -> str:
    try:
        return f"use freq {infer(index, name).alias!r}"
    except AnydiffError:
        return "give the frequency of the data"


def _words(step: pd.Timedelta) -> str:
    """``"2 h"``, ``"31 D"``."""
    found = frequency(step)
    return f"{found.step} {found.base}"


def _business_days(index: pd.DatetimeIndex, step: pd.Timedelta) -> bool:
    """Whether stamps of whole days leave out every weekend of at least two weeks."""
    return bool(step == pd.Timedelta(days=1) and len(index) >= 10 and (index.dayofweek < 5).all())


def _irregular(index: pd.DatetimeIndex, after: NDArray[np.int64], freq: Frequency, name: str) -> str:
    odd = int((after != after[0]).argmax())
    return (
        f"series {name!r} is irregular: {int((after != after[0]).sum())} of its {len(index)} time stamps do not lie on "
        f"the grid of frequency {freq.alias!r} that begins at {index[0]}, {index[odd]} is the first; use "
        f"resample({freq.alias!r}).mean(), or series.set_axis(series.index.to_period({freq.period!r})) if each stands "
        "for its whole period."
    )


def _most_common(steps: NDArray[np.int64]) -> int:
    """The most common of ``steps``, the least of several."""
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])
