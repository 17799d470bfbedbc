"""Series with gaps, or of a coarser frequency, as measurements of a window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from anydiff.data.reading import read_text
from anydiff.domains import Measurement
from anydiff.errors import AnydiffError
from anydiff_timeseries import files

if TYPE_CHECKING:
    from anydiff_timeseries.domain import TimeSeries


def read_measurement(domain: TimeSeries, path: Path, output: tuple[int, ...]) -> Measurement:
    """See :meth:`anydiff_timeseries.domain.TimeSeries.read_measurement`."""
    length = output[-1]
    if output != (1, length) or domain.length % length:
        raise AnydiffError(
            f"this operator gives {output}, which is no window of {domain.length} steps or whole parts of one; give "
            "the numbers in Python (pipeline.restore)."
        )
    return Measurement(torch.from_numpy(_windows(domain, path, length))[:, None])


def _windows(domain: TimeSeries, path: Path, length: int) -> np.ndarray:
    """Values ``[N, length]``, NaN at gaps."""
    if path.suffix.lower() == ".csv" and read_text(path, 1 << 28, "a CSV file").lstrip("\ufeff").startswith("window,"):
        if length != domain.length:
            raise AnydiffError(
                f"{str(path)!r} holds windows of every step, but this operator measures {length} numbers; give a "
                "series of that many rows (timestamp, target)."
            )
        return np.stack([window.to_numpy() for window in files.read_windows(path, domain.steps, gaps=True)])
    series = files.read_series(path, domain.freq if length == domain.length else None)
    for one in series:
        if len(one.values) != length:
            raise AnydiffError(
                f"series {one.name!r} of {str(path)!r} has {len(one.values)} steps, but {length} are measured; give "
                "these alone, with empty cells where there is a gap."
            )
    return np.stack([np.asarray(one.values, dtype=np.float64) for one in series])
