"""Line plots of windows and fan charts of forecasts, written atomically as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anydiff.domains.kit.pictures import panels, write_figure
from anydiff.errors import AnydiffError

if TYPE_CHECKING:
    from anydiff_timeseries.domain import TimeSeries

MOST_PANELS, COLUMNS = 12, 3
PANEL = (4.2, 2.1)
"""Width and height of a plot, inches."""
INTERVALS = ((0.05, 0.95, "90 %", 0.25), (0.25, 0.75, "50 %", 0.45))


def draw_windows(objects: Sequence[Any], domain: TimeSeries, path: Path, titles: Sequence[str] | None = None) -> None:
    """One panel per title, or per window without titles, at most twelve; windows of one title are members of a fan.

    Raises:
        AnydiffError: nothing to draw, or matplotlib is not installed.
    """
    if not len(objects):
        raise AnydiffError("there is no window to draw; give at least one.")
    titles = _own_titles(objects, domain.context) or titles
    names = list(titles) if titles else [str(number) for number in range(len(objects))]
    groups: dict[str, list[NDArray[np.float64]]] = {}
    for name, window in zip(names, objects, strict=True):
        groups.setdefault(name, []).append(np.asarray(window, dtype=np.float64))
    shown = list(groups.items())[:MOST_PANELS]
    steps = np.asarray(domain.steps)
    figure, axes = panels(len(shown), *PANEL, columns=COLUMNS)
    for axis, (name, windows) in zip(axes, shown, strict=False):
        members = np.stack(windows)
        axis.axvspan(-0.5, domain.prediction - 0.5, color="0.94", zorder=0)
        if len(members) > 2:
            _fan(axis, steps, members)
        else:
            axis.plot(steps, members.T, linewidth=0.9)
        axis.set_title(name if titles else "", fontsize=8)
    _finish(figure, axes, domain.unit or "units of the level", path)


def _own_titles(objects: Sequence[Any], context: int) -> list[str]:
    """Name and first predicted time of windows with time stamps; empty where one has none."""
    if not all(isinstance(getattr(window, "index", None), pd.DatetimeIndex) for window in objects):
        return []
    return [f"{window.name}, {window.index[context]}" for window in objects]


def draw_forecasts(
    past: NDArray[np.float64],
    members: NDArray[np.float64],
    path: str | Path,
    truth: NDArray[np.float64] | None = None,
    titles: Sequence[str] | None = None,
    unit: str = "",
    tail: int | None = None,
) -> None:
    """Fan charts of forecasts: the past, median and intervals of the samples, and what came.

    Args:
        past: ``[cases, C]``, NaN where missing (the line breaks there).
        members: ``[cases, samples, H]``.
        path: of the PNG.
        truth: ``[cases, H]``.
        titles: one per case.
        unit: of the values.
        tail: how many steps of the past are shown; all by default.

    Raises:
        AnydiffError: matplotlib is not installed.
    """
    cases = min(len(past), MOST_PANELS)
    tail = past.shape[1] if tail is None else min(tail, past.shape[1])
    ahead = np.arange(members.shape[2])
    figure, axes = panels(cases, *PANEL, columns=COLUMNS)
    for case, axis in zip(range(cases), axes, strict=False):
        axis.plot(np.arange(-tail, 0), past[case, -tail:], color="0.25", linewidth=0.9)
        _fan(axis, ahead, members[case])
        if truth is not None:
            axis.plot(ahead, truth[case], color="black", linewidth=1.0, linestyle="--", label="observed")
        if titles is not None:
            axis.set_title(titles[case], fontsize=8)
    _finish(figure, axes, unit, Path(path))


def _fan(axis: Any, steps: NDArray[Any], members: NDArray[np.float64]) -> None:
    for low, high, label, alpha in INTERVALS:
        bounds = np.quantile(members, [low, high], axis=0)
        axis.fill_between(steps, *bounds, alpha=alpha, color="tab:blue", linewidth=0, label=label)
    axis.plot(steps, np.median(members, axis=0), color="tab:blue", linewidth=1.0, label="median")


def _finish(figure: Any, axes: list[Any], unit: str, path: Path) -> None:
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.margins(x=0.01)
    axes[0].set_ylabel(unit, fontsize=8)
    axes[(len(axes) - 1) // COLUMNS * COLUMNS].set_xlabel("steps from the forecast", fontsize=8)
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend(fontsize=6, loc="best")
    write_figure(figure, path)
