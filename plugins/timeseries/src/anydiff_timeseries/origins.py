"""Where a window comes from: the label of a case, the name of its series and the time at which it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from anydiff.domains import LabelledArray
from anydiff.errors import AnydiffError
from anydiff_timeseries.frequency import Frequency, Stamping, quietly

if TYPE_CHECKING:
    from anydiff_timeseries.series import Series


@dataclass(frozen=True)
class Origin:
    """The label of a window.

    Attributes:
        name: of its series.
        begin: nanoseconds from 1970 to the beginning of its first period.
        stamping: where in its period each value was stamped.
    """

    name: str
    begin: int
    stamping: Stamping

    @classmethod
    def of(cls, series: Series, first: int) -> Origin:
        """The window of ``series`` that begins at its value number ``first``."""
        with quietly():
            begin = (series.start + first).start_time
        return cls(series.name, begin.as_unit("ns").value, series.stamping)

    def stamps(self, freq: Frequency, count: int) -> pd.DatetimeIndex:
        """The stamps of the first ``count`` steps."""
        return self.stamping.stamps(self.begin, freq, count).rename("timestamp")


def origin_arrays(origins: Sequence[Origin], freq: Frequency, first: int) -> dict[str, LabelledArray]:
    """``timestamp [case]`` of the first predicted step, decoded by xarray (CF), and ``series [case]``: places in the
    list of its attribute ``names``."""
    times = np.array([one.stamps(freq, first + 1).asi8[-1] for one in origins], dtype=np.int64)
    unit, size = ("seconds", 10**9) if not (times % 10**9).any() else ("nanoseconds", 1)
    return {
        "timestamp": LabelledArray(times // size, ("case",), {"units": f"{unit} since 1970-01-01"}),
        "series": LabelledArray.of_texts([one.name for one in origins]),
    }


def match(windows: Sequence[Any], origins: Sequence[Origin], freq: Frequency) -> list[int] | None:
    """The place among ``origins`` of each window, by its name and its first time stamp; None where windows have none.

    Raises:
        AnydiffError: a window of none of them.
    """
    stamped = [isinstance(getattr(window, "index", None), pd.DatetimeIndex) for window in windows]
    if not any(stamped):
        return None
    places = {(one.name, one.stamps(freq, 1)[0]): place for place, one in enumerate(origins)}
    if len(places) < len(origins):
        raise AnydiffError("two held-out windows have one name and one time, so no sample can be told to be of one.")
    found = []
    for number, window in enumerate(windows):
        case = (str(window.name), window.index[0]) if stamped[number] else None
        if case not in places:
            what = f"begins at {case[1]} in series {case[0]!r}" if case is not None else "has no time stamps"
            raise AnydiffError(
                f"window {number} {what}, so it is none of the {len(origins)} held-out windows; draw samples of those "
                "with --members and --cases."
            )
        found.append(places[case])
    return found
