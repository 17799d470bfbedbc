"""Files of series (CSV, JSON lines as GluonTS has them) and of windows (CSV)."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anydiff.data.reading import finite, parse_json, parse_yaml, read_text, reading, text_lines
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import write_atomic
from anydiff_timeseries.series import ITEM, TARGET, TIMESTAMP, Series, from_entry, from_pandas, numbers
from anydiff_timeseries.stamps import parse_stamps
from anydiff_timeseries.tables import Layout, columns, listed, numbers_of, read_table, stamps_of, without_sentinels

COLUMNS = ["window", "step", TARGET]
STAMPED = ["window", ITEM, "sample", "step", TIMESTAMP, TARGET]
"""The columns of windows whose time is known: ``sample`` counts the windows of one series at one time."""

READ = (".csv", ".tsv", ".jsonl", ".json")
JSON_ADVICE = 'write a line such as {"start": "2024-01-01 00:00", "target": [1.0, 2.5], "item_id": "a"}'
MOST_JSON = 1 << 28


# Windows --------------------------------------------------------------------------------------------------------------


def write_windows(windows: Sequence[Any], steps: pd.RangeIndex, path: Path) -> None:
    """Windows ``[L]`` as CSV in long form, a row per step; floats with all their digits.

    Windows with an index of time stamps are written with them and with their names: pandas reads the file by
    ``read_csv(path, parse_dates=["timestamp"])``, GluonTS a frame of it by ``PandasDataset.from_long_dataframe``.
    """
    stamped = [isinstance(getattr(window, "index", None), pd.DatetimeIndex) for window in windows]
    if any(stamped) and not all(stamped):
        raise AnydiffError(
            f"{stamped.count(False)} of {len(windows)} windows have no time stamps, and the others have; write them "
            "apart."
        )
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(STAMPED if any(stamped) else COLUMNS)
    seen: Counter[tuple[str, pd.Timestamp]] = Counter()
    for number, window in enumerate(windows):
        values = np.asarray(window, dtype=np.float64).tolist()
        if not stamped[number]:
            writer.writerows(zip([number] * len(values), steps, map(repr, values), strict=True))
            continue
        case = (str(window.name), window.index[0])
        rows = zip(steps, window.index, values, strict=True)
        writer.writerows([number, case[0], seen[case], step, str(stamp), repr(value)] for step, stamp, value in rows)
        seen[case] += 1
    write_atomic(path, buffer.getvalue())


def read_windows(path: Path, steps: pd.RangeIndex, gaps: bool = False) -> list[pd.Series]:
    """What :func:`write_windows` wrote; with ``gaps``, empty cells are NaN.

    Raises:
        FileFormatError: no CSV, other columns, a window whose steps are not ``steps``, or a value that is not finite.
    """
    layout = Layout(missing=())
    table = read_table(path, layout)
    if list(table) not in (COLUMNS, STAMPED):
        raise FileFormatError(
            f"{str(path)!r} has the columns {listed(list(table))}, but windows have {', '.join(STAMPED)}, or "
            f"{', '.join(COLUMNS)} where their time is not known."
        )
    targets = numbers_of(table[TARGET], TARGET, path, layout)
    targets = targets if gaps else finite(targets, f"column {TARGET!r}", path)
    window, step = (_whole(table[name], name, path) for name in ("window", "step"))
    stamps = parse_stamps(table[TIMESTAMP], f"column {TIMESTAMP!r} of {str(path)!r}") if TIMESTAMP in table else None
    windows = []
    for number in np.unique(window):
        rows = np.flatnonzero(window == number)
        if not np.array_equal(step[rows], steps):
            raise FileFormatError(
                f"window {number} of {str(path)!r} does not have the steps {steps[0]} to {steps[-1]} in order; it is "
                "of another context or prediction length."
            )
        if stamps is None:
            windows.append(pd.Series(targets[rows], index=steps, name=TARGET))
            continue
        names = {table[ITEM][row] for row in rows}
        if len(names) > 1 or not stamps[rows].is_monotonic_increasing or stamps[rows].has_duplicates:
            raise FileFormatError(
                f"window {number} of {str(path)!r} has several names or time stamps out of order; write it again."
            )
        windows.append(pd.Series(targets[rows], index=stamps[rows].rename(TIMESTAMP), name=names.pop()))
    return windows


def _whole(texts: Sequence[str], name: str, path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    with reading(path, "a CSV file of windows", f"give whole numbers in column {name!r}"):
        return np.array([int(text) for text in texts], dtype=np.int64)


# Series ---------------------------------------------------------------------------------------------------------------


def read_series(path: Path, freq: str | None, layout: Layout | None = None) -> list[Series]:
    """The series of a file: CSV (``.csv``, ``.tsv``) or JSON lines as GluonTS writes them (``.jsonl``, ``.json``).

    Args:
        path: the file.
        freq: the frequency, as pandas writes it; None infers it from the stamps of a CSV file.
        layout: how to read it where the file does not say.

    Raises:
        AnydiffError: a file of another kind, one that cannot be read, or a series that is refused (see
            :mod:`anydiff_timeseries.series`).
    """
    layout = Layout() if layout is None else layout
    suffix = path.suffix.lower()
    if suffix not in READ:
        raise FileFormatError(
            f"{str(path)!r} ends in {path.suffix!r}, but series are read from {', '.join(READ)}; write it with "
            "pandas.DataFrame.to_csv(path, index=False)."
        )
    if suffix in (".csv", ".tsv"):
        tabs = suffix == ".tsv" and layout.separator == ","
        return _from_table(path, freq, replace(layout, separator="\t") if tabs else layout)
    found = [
        _from_json(entry, freq, position, path, line, layout)
        for position, (line, entry) in enumerate(_json_entries(path))
    ]
    if not found:
        raise FileFormatError(f"{str(path)!r} holds no series; {JSON_ADVICE}.")
    return found


def parse_source(text: str) -> tuple[Path, Layout]:
    """A path, or ``{path: load.csv, value: load}`` with the options of :class:`~anydiff_timeseries.tables.Layout`.

    Raises:
        AnydiffError: no path, or unknown options.
    """
    if not text.lstrip().startswith("{"):
        return Path(text), Layout()
    options = parse_yaml(text, repr(text), "write {path: load.csv, value: load}")
    if not isinstance(options, Mapping) or not isinstance(options.get("path"), str):
        raise AnydiffError(f"{text!r} names no file; write {{path: load.csv, value: load}}.")
    return Path(options["path"]), Layout.parse({name: value for name, value in options.items() if name != "path"})


def _from_table(path: Path, freq: str | None, layout: Layout) -> list[Series]:
    table = read_table(path, layout)
    stamp, value, item = columns(table, path, layout)
    if not table[stamp]:
        raise FileFormatError(f"{str(path)!r} has no rows; give at least one.")
    stamps = stamps_of(table[stamp], stamp, path, layout)
    values = numbers_of(table[value], value, path, layout)
    if item is None:
        return [from_pandas(pd.Series(values, index=stamps), freq, value)]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(table[item]):
        rows.setdefault(name, []).append(row)
    if "" in rows:
        raise FileFormatError(f"column {item!r} of {str(path)!r} is empty in row {rows[''][0] + 1}; name the series.")
    return [from_pandas(pd.Series(values[at], index=stamps[at]), freq, name) for name, at in rows.items()]


def _json_entries(path: Path) -> Iterator[tuple[int | None, Any]]:
    """(line, entry) of JSON lines, or (None, entry) of one list."""
    first = next(text_lines(path, "JSON lines", JSON_ADVICE), None)
    if path.suffix.lower() == ".json" and first is not None and first[1].lstrip().startswith("["):
        text = read_text(path, MOST_JSON, "a JSON file", JSON_ADVICE)
        entries = parse_json(text, path, "a list of series", JSON_ADVICE)
        yield from ((None, entry) for entry in entries)
        return
    for line, text in text_lines(path, "JSON lines", JSON_ADVICE):
        yield line, parse_json(text, path, "a series", JSON_ADVICE, line)


def _from_json(entry: Any, freq: str | None, position: int, path: Path, line: int | None, layout: Layout) -> Series:
    where = f"{'' if line is None else f'line {line} of '}{str(path)!r}"
    if not isinstance(entry, Mapping) or "start" not in entry or TARGET not in entry:
        raise FileFormatError(f"{where} is no series with start and target; {JSON_ADVICE}.")
    start, target, name = entry["start"], entry[TARGET], entry.get(ITEM, position)
    if not isinstance(target, list) or True in map(_boolean, target) or not isinstance(name, (str, int)):
        raise FileFormatError(
            f"{where} has a target that is no list of numbers, or an item_id that is no name; {JSON_ADVICE}."
        )
    if not isinstance(start, str):
        start = json.dumps(start)  # a number: refused unless date_format tells its unit
    begin = parse_stamps([start], f"the start in {where}", layout.date_format, layout.day_first, layout.zone)[0]
    values = without_sentinels(numbers(target, str(name)), f"series {str(name)!r} of {where}", layout.missing)
    return from_entry({**entry, "start": begin, TARGET: values, ITEM: name}, freq, position)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)
