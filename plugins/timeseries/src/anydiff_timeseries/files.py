"""CSV of windows and of series."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import write_atomic
from anydiff_timeseries.series import Series, from_pandas

COLUMNS = ["window", "step", "target"]


def write_windows(windows: Sequence[Any], steps: pd.RangeIndex, path: Path) -> None:
    """Windows ``[L]`` as CSV in long form; floats with all their digits."""
    rows = [
        pd.DataFrame({"window": number, "step": steps, "target": np.asarray(window, dtype=np.float64)})
        for number, window in enumerate(windows)
    ]
    table = pd.concat(rows) if rows else pd.DataFrame(columns=COLUMNS)
    buffer = StringIO()
    table.to_csv(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def read_windows(path: Path, steps: pd.RangeIndex) -> list[pd.Series]:
    """What :func:`write_windows` wrote.

    Raises:
        FileFormatError: no CSV, other columns, or a window whose steps are not ``steps``.
    """
    table = _read(path)
    if list(table.columns) != COLUMNS:
        raise FileFormatError(
            f"{str(path)!r} has the columns {', '.join(map(str, table.columns))}, but windows have "
            f"{', '.join(COLUMNS)}."
        )
    windows = []
    for number, rows in table.groupby("window", sort=True):
        if not np.array_equal(rows["step"], steps):
            raise FileFormatError(
                f"window {number} of {str(path)!r} does not have the steps {steps[0]} to {steps[-1]} in order; it is "
                "of another context or prediction length."
            )
        windows.append(pd.Series(rows["target"].to_numpy(np.float64), index=steps, name="target"))
    return windows


def read_series(path: Path, freq: str) -> Series:
    """A series from a CSV file: its first column holds time stamps, its last one numbers.

    Raises:
        AnydiffError: the file cannot be read, has no time stamps, or its series is refused (see :mod:`series`).
    """
    table = _read(path)
    if table.shape[1] < 2:
        raise FileFormatError(f"{str(path)!r} has {table.shape[1]} column, but needs time stamps and values.")
    first, last = table.columns[0], table.columns[-1]
    try:
        stamps = pd.DatetimeIndex(pd.to_datetime(table[first]))
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise FileFormatError(f"column {first!r} of {str(path)!r} holds no time stamps ({reason}).") from None
    return from_pandas(pd.Series(table[last].to_numpy(), index=stamps), freq, str(last))


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, float_precision="round_trip")
    except OSError as error:
        raise AnydiffError(f"cannot read {str(path)!r}: {error.strerror}; check the path.") from error
    except (ValueError, UnicodeDecodeError) as error:
        line = str(error).splitlines()[0]
        raise FileFormatError(f"{str(path)!r} is no CSV file ({line}).") from error
