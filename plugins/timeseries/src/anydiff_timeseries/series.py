"""Series as they come (pandas, GluonTS) in one checked form: name, start, and float64 values with NaN where missing.

A gap in the time stamps and a NaN are the same thing here: a value that was not observed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anydiff.errors import AnydiffError


@dataclass(frozen=True)
class Series:
    """One univariate series.

    Attributes:
        name: what messages call it (the item id, the column).
        start: the period of the first value.
        values: float64 ``[n]``, NaN where nothing was observed.
    """

    name: str
    start: pd.Period
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def to_pandas(self) -> pd.Series:
        """The same as a ``pandas.Series`` with a period index."""
        index = pd.period_range(self.start, periods=len(self.values), freq=self.start.freq)
        return pd.Series(self.values, index=index, name=self.name)


def as_series(data: Any, freq: str) -> list[Series]:
    """Everything in ``data`` as checked series of frequency ``freq``.

    Args:
        data: a ``pandas.Series``, a ``DataFrame`` (a series per column), a mapping of names to series, or a GluonTS
            data set (entries with ``start`` and ``target``).
        freq: the frequency, as pandas writes it (``"h"``).

    Raises:
        AnydiffError: a time zone, a doubled, unsorted or irregular time stamp, another frequency, a value that is
            infinite or no number, or nothing observed at all; the sentence names the series.
    """
    if isinstance(data, pd.Series):
        found = [from_pandas(data, freq, str(data.name if data.name is not None else "target"))]
    elif isinstance(data, pd.DataFrame):
        found = [from_pandas(data[column], freq, str(column)) for column in data.columns]
    elif isinstance(data, Mapping):
        found = [from_pandas(series, freq, str(name)) for name, series in data.items()]
    elif isinstance(data, Iterable):
        found = list(_entries(data, freq))
    else:
        raise AnydiffError(f"data is a {type(data).__name__}, but must be pandas data or a GluonTS data set.")
    if not found:
        raise AnydiffError("data holds no series; give at least one.")
    return found


def from_pandas(series: pd.Series, freq: str, name: str) -> Series:
    """One series with a time index; stamps between the first and the last that do not stand there are missing."""
    index = series.index
    if not len(series):
        raise AnydiffError(f"series {name!r} is empty; leave it out.")
    if isinstance(index, pd.DatetimeIndex):
        _check_stamps(index, freq, name)
        index = index.to_period(freq)
    elif not isinstance(index, pd.PeriodIndex):
        raise AnydiffError(
            f"series {name!r} has a {type(index).__name__}, but needs time stamps; use "
            "series.set_axis(pd.to_datetime(...))."
        )
    if _normal(index.freqstr) != _normal(freq):
        raise AnydiffError(f"series {name!r} has frequency {index.freqstr!r}, but {freq!r} is needed; resample it.")
    full = pd.period_range(index[0], index[-1], freq=freq)
    values = _numbers(series, name)
    return checked(Series(name, full[0], pd.Series(values, index=index).reindex(full).to_numpy(np.float64)))


def from_entry(entry: Mapping[str, Any], freq: str, position: int = 0) -> Series:
    """One entry of a GluonTS data set: ``start`` (a period, or text), ``target [n]`` and perhaps ``item_id``."""
    name = str(entry.get("item_id", position))
    if "start" not in entry or "target" not in entry:
        missing = "start" if "start" not in entry else "target"
        raise AnydiffError(f"series {name!r} has no {missing!r}; give GluonTS entries with start and target.")
    start = entry["start"]
    if not isinstance(start, pd.Period):
        stamp = pd.Timestamp(start)
        if stamp.tzinfo is not None:
            raise AnydiffError(_time_zone(name, stamp.tzinfo))
        start = stamp.to_period(freq)
    if _normal(start.freqstr) != _normal(freq):
        raise AnydiffError(f"series {name!r} has frequency {start.freqstr!r}, but {freq!r} is needed; resample it.")
    values = _numbers(entry["target"], name)
    if values.ndim != 1:
        raise AnydiffError(
            f"series {name!r} has a target of shape {values.shape}, but must be univariate; split it into series."
        )
    return checked(Series(name, start, values))


def checked(series: Series) -> Series:
    """``series``, refused where it is infinite somewhere or nowhere observed."""
    if np.isinf(series.values).any():
        where = int(np.isinf(series.values).argmax())
        raise AnydiffError(f"series {series.name!r} is infinite at {series.start + where}; mark missing values as NaN.")
    if np.isnan(series.values).all():
        raise AnydiffError(f"series {series.name!r} holds no observed value; leave it out.")
    return series


def check_trainable(series: Series, length: int) -> Series:
    """``series``, refused for training where it is constant or shorter than a window of ``length`` steps."""
    if len(series) < length:
        raise AnydiffError(
            f"series {series.name!r} has {len(series)} steps, but a window has {length} (context and prediction); "
            "leave it out or choose a shorter context."
        )
    observed = series.values[~np.isnan(series.values)]
    if observed.min() == observed.max():
        raise AnydiffError(
            f"series {series.name!r} is constant ({observed[0]:g}), with nothing to learn; leave it out."
        )
    return series


def _entries(data: Iterable[Any], freq: str) -> Iterator[Series]:
    for position, entry in enumerate(data):
        if not isinstance(entry, Mapping):
            raise AnydiffError(
                f"entry {position} of the data is a {type(entry).__name__}, but must be a GluonTS entry (a mapping)."
            )
        yield from_entry(entry, freq, position)


def _check_stamps(index: pd.DatetimeIndex, freq: str, name: str) -> None:
    if index.tz is not None:
        raise AnydiffError(_time_zone(name, index.tz))
    if index.hasnans:
        raise AnydiffError(f"series {name!r} has a missing time stamp; drop those rows.")
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise AnydiffError(
            f"series {name!r} has the time stamp {twice} twice; keep one: series[~series.index.duplicated()]."
        )
    if not index.is_monotonic_increasing:
        raise AnydiffError(f"the time stamps of series {name!r} are not in order; use sort_index().")
    offset = index - index.to_period(freq).to_timestamp()
    if (offset != offset[0]).any():
        odd = index[int((offset != offset[0]).argmax())]
        raise AnydiffError(
            f"series {name!r} is irregular: {odd} does not lie on the grid of frequency {freq!r}; use "
            f"resample({freq!r}).mean()."
        )


def _time_zone(name: str, zone: Any) -> str:
    return (
        f"series {name!r} has the time zone {zone}, whose clock changes break a regular frequency; use "
        "tz_convert('UTC').tz_localize(None)."
    )


def _numbers(values: Any, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise AnydiffError(f"series {name!r} holds what is no number; convert it with pd.to_numeric.") from None


def _normal(freq: str) -> str:
    """One spelling per frequency (``H`` and ``h`` are the same)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return str(pd.tseries.frequencies.to_offset(freq).freqstr)
