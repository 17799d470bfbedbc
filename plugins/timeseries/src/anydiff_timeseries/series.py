"""Series as they come (pandas, GluonTS) in one checked form: name, start, and float64 values with NaN where missing.

A gap in the time stamps and a NaN are the same thing here: a value that was not observed.
"""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anydiff.data.reading import Place, reading
from anydiff.errors import AnydiffError
from anydiff_timeseries.frequency import Frequency, Stamping, frequency, infer, place, place_periods, quietly
from anydiff_timeseries.stamps import parse_stamps

ITEM, TIMESTAMP, TARGET = "item_id", "timestamp", "target"
"""The columns of a frame in long form, as GluonTS's ``PandasDataset.from_long_dataframe`` and AutoGluon call them."""

MOST_GAPS = 1000
"""A series may span so many steps per time stamp; more is a wrong stamp."""


@dataclass(frozen=True)
class Series:
    """One univariate series.

    Attributes:
        name: what messages call it (the item id, the column).
        start: the period of the first value.
        values: float64 ``[n]``, NaN where nothing was observed.
        stamping: where in its period each value was stamped.
    """

    name: str
    start: pd.Period
    values: NDArray[np.float64]
    stamping: Stamping = field(default=Stamping())

    def __len__(self) -> int:
        return len(self.values)

    def to_pandas(self) -> pd.Series:
        """The same as a ``pandas.Series`` with a period index."""
        index = pd.period_range(self.start, periods=len(self.values), freq=self.start.freq)
        return pd.Series(self.values, index=index, name=self.name)


def as_series(data: Any, freq: str | None) -> list[Series]:
    """Everything in ``data`` as checked series of frequency ``freq``.

    Args:
        data: a ``pandas.Series``; a ``DataFrame`` with a series per column, or in long form, with a column ``item_id``
            that names each row's series, its stamps as index or in the column ``timestamp``, and one other column; a
            mapping of names to series; or a GluonTS data set (entries with ``start`` and ``target``).
        freq: the frequency, as pandas writes it (``"h"``); None infers it from the stamps.

    Raises:
        AnydiffError: a doubled, unsorted or irregular time stamp, a zone other than UTC, another frequency, a value
            that is infinite or no number, or nothing observed at all; the sentence names the series.
    """
    if isinstance(data, pd.Series):
        found = [from_pandas(data, freq, str(data.name if data.name is not None else "target"))]
    elif isinstance(data, pd.DataFrame) and ITEM in data.columns:
        found = [from_pandas(series, freq, name) for name, series in _long(data)]
    elif isinstance(data, pd.DataFrame):
        found = [from_pandas(data.iloc[:, number], freq, str(name)) for number, name in enumerate(data.columns)]
    elif isinstance(data, Mapping):
        found = [from_pandas(series, freq, str(name)) for name, series in data.items()]
    elif isinstance(data, Iterable) and not isinstance(data, str):
        found = [from_entry(entry, freq, position) for position, entry in enumerate(entries(data))]
    else:
        raise AnydiffError(f"data is a {type(data).__name__}, but must be pandas data or a GluonTS data set.")
    if not found:
        raise AnydiffError("data holds no series; give at least one.")
    return found


def distinct(series: Sequence[Series]) -> Sequence[Series]:
    """``series``, refused where two have one name."""
    name, count = Counter(one.name for one in series).most_common(1)[0]
    if count > 1:
        raise AnydiffError(
            f"{count} series are named {name!r}, so a result by name would keep one of them; rename them, or use "
            "predict(), whose forecasts come in the order of the series."
        )
    return series


def from_pandas(series: Any, freq: str | None, name: str) -> Series:
    """One series with a time index; stamps between the first and the last that do not stand there are missing.

    Args:
        series: a ``pandas.Series``.
        freq: the frequency; None infers it.
        name: for errors.
    """
    if not isinstance(series, pd.Series):
        raise AnydiffError(f"series {name!r} is a {type(series).__name__}, but must be a pandas.Series.")
    index = series.index
    if not len(series):
        raise AnydiffError(f"series {name!r} is empty; leave it out.")
    if isinstance(index, pd.PeriodIndex):
        grid = frequency(index.freqstr if freq is None else freq)
        places, start, stamping = place_periods(index, grid, name)
    elif isinstance(index, pd.DatetimeIndex):
        grid = infer(index, name) if freq is None else frequency(freq)
        places, start, stamping = place(index, grid, name)
    else:
        raise AnydiffError(_no_stamps(index, name))
    length = int(places[-1]) + 1
    if length > 10_000 + MOST_GAPS * len(places):
        raise AnydiffError(
            f"series {name!r} has {len(places)} time stamps, but spans {length} steps of {grid.alias!r}, from "
            f"{index[0]} to {index[-1]}; look for a wrong stamp."
        )
    values = np.full(length, np.nan)
    values[places] = numbers(series, name)
    return checked(Series(name, start, values, stamping))


def from_entry(entry: Mapping[str, Any], freq: str | None, position: int = 0) -> Series:
    """One entry of a GluonTS data set: ``start`` (a period, a time stamp, or text), ``target [n]`` and perhaps
    ``item_id``. Without ``freq`` the frequency is that of the period."""
    name = str(entry.get(ITEM, position))
    if "start" not in entry or TARGET not in entry:
        missing = "start" if "start" not in entry else TARGET
        raise AnydiffError(f"series {name!r} has no {missing!r}; give GluonTS entries with start and target.")
    start = entry["start"]
    if freq is None and not isinstance(start, pd.Period):
        raise AnydiffError(f"series {name!r} begins at {start}, which tells no frequency; give freq, 'h' say.")
    grid = frequency(start.freqstr if freq is None else freq)
    for given in (start.freqstr if isinstance(start, pd.Period) else None, entry.get("freq")):
        if given is not None and frequency(given).grid != grid.grid:
            raise AnydiffError(
                f"series {name!r} has frequency {given!r}, but {grid.alias!r} is needed; give that frequency to the "
                "domain and the data, or resample it."
            )
    begin, stamping = _start(start, grid, name)
    values = numbers(entry[TARGET], name)
    if values.ndim != 1 or not len(values):
        raise AnydiffError(
            f"series {name!r} has a target of shape {values.shape}, but must be univariate and not empty; split it "
            "into series."
        )
    return checked(Series(name, begin, values, stamping))


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


def check_window(window: Any, freq: Frequency, name: str) -> None:
    """Refuse a window whose time stamps, if it has some, are not one step of ``freq`` apart each."""
    index = getattr(window, "index", None)
    if isinstance(index, pd.PeriodIndex):
        places, _, _ = place_periods(index, freq, name)
    elif isinstance(index, pd.DatetimeIndex):
        places, _, _ = place(index, freq, name)
    else:
        return
    if len(places) and int(places[-1]) != len(places) - 1:
        raise AnydiffError(f"{name} has gaps between its time stamps; fill them, or forecast with TSDiffPredictor.")


def numbers(values: Any, name: str) -> NDArray[np.float64]:
    """``values`` as float64.

    Raises:
        AnydiffError: what is no number: text, a complex number, a date, an integer beyond float64.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind == "U":
            array = np.asarray(values, dtype=object)
        if array.dtype.kind == "O":
            # Text would be converted by its spelling, and a complex number cut to its real part.
            array = np.array([np.nan if _missing(value) else _number(value) for value in array.ravel()]).reshape(
                array.shape
            )
        elif array.dtype.kind not in "fiub":
            raise TypeError(f"{array.dtype}")
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise AnydiffError(f"series {name!r} holds what is no number; convert it with pd.to_numeric.") from None


def _missing(value: Any) -> bool:
    # GluonTS's own files hold the text "NaN".
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, str) and value == "NaN")


def _number(value: Any) -> float:
    if isinstance(value, (str, bytes, complex, datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)):
        raise TypeError(f"{type(value).__name__}")
    return float(value)


def _long(frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The series of a frame in long form by name, in order of their first rows."""
    frame = frame if TIMESTAMP not in frame.columns else frame.set_index(TIMESTAMP)
    values = [name for name in frame.columns if name != ITEM]
    if TARGET in values:
        values = [TARGET]
    if len(values) != 1 or list(frame.columns).count(ITEM) > 1:
        raise AnydiffError(
            f"the frame in long form has the columns {', '.join(map(str, frame.columns))}, so it is not clear which "
            f"one holds the values; call it {TARGET!r}."
        )
    if unnamed := int(frame[ITEM].isna().sum()):
        raise AnydiffError(f"the frame in long form has {unnamed} rows without {ITEM}; name them.")
    for name, rows in frame.groupby(ITEM, sort=False):
        yield str(name), rows[values[0]]


def entries(data: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """The entries of a GluonTS data set; whatever it raises on the way is one sentence.

    Raises:
        AnydiffError: an entry that cannot be read or is no mapping.
    """
    iterator = iter(data)
    for position in itertools.count():
        with reading(Place(f"entry {position} of the data"), "a GluonTS entry", "correct the data set"):
            entry = next(iterator, None)
        if entry is None:
            return
        if not isinstance(entry, Mapping):
            raise AnydiffError(
                f"entry {position} of the data is a {type(entry).__name__}, but must be a GluonTS entry (a mapping)."
            )
        yield entry


def _start(start: Any, grid: Frequency, name: str) -> tuple[pd.Period, Stamping]:
    """The period of an entry's start, and how it was stamped."""
    if isinstance(start, pd.Period):
        with quietly():
            start = start.start_time
    elif isinstance(start, str):
        try:
            start = parse_stamps([start], f"the start of series {name!r}")[0]
        except AnydiffError:
            raise AnydiffError(
                f"series {name!r} has the start {start!r}, which has no single reading; write it as ISO 8601 "
                "(2024-05-01 13:00), or give a pd.Timestamp."
            ) from None
    elif not isinstance(start, (pd.Timestamp, np.datetime64, datetime.date)) or pd.isna(start):
        raise AnydiffError(
            f"series {name!r} has the start {start!r}, which is no time stamp; a number has no unit: give "
            "pd.Timestamp(start, unit='s'), or whichever unit it is."
        )
    _, period, stamping = place(pd.DatetimeIndex([pd.Timestamp(start)]), grid, name)
    return period, stamping


def _no_stamps(index: pd.Index, name: str) -> str:
    numeric = pd.api.types.is_numeric_dtype(index)
    unit = "unit='s')), with whichever unit they have" if numeric else "format=...))"
    return (
        f"series {name!r} has a {type(index).__name__} of {'numbers' if numeric else index.inferred_type}, but needs "
        f"time stamps; use series.set_axis(pd.to_datetime(series.index, {unit}."
    )
