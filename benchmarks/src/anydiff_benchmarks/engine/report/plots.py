"""The plots of the report: quality against network calls and against time, as SVG of their own.

The page shows them as pictures, so whatever a picture holds can neither run nor reach the page.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import TaskLeaderboard
from anydiff_benchmarks.engine.report.text import BASELINE_HELP, number
from anydiff_benchmarks.engine.statistics import Summary

COLOURS = ("#0b62b8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0e7490", "#be185d", "#475569")
MARKERS = "os^DvP"
_LOGARITHMIC_FROM = 20.0
_QUIET = "#5b6470"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it is small, and can be read aloud and searched
    "svg.hashsalt": "anydiff",  # the same plot has the same bytes
    "text.parse_math": False,  # a label may hold a dollar
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        svg: the picture.
        outside: baselines that are so far off that they would flatten the rest, with their values.
    """

    svg: bytes
    outside: Sequence[str] = ()


def quality_plot(task: TaskLeaderboard, card: MetricCard, titles: Sequence[str]) -> Plot | None:
    """One metric over the budgets, a line per method; None if no method has a finite value.

    Points are means; bars are their 95 % intervals, or reach from the least to the greatest seed where there is none.
    ``titles`` fixes the look of each method.
    """
    series = {title: points for title in titles if (points := _points(task, title, card.name))}
    values = [v for points in series.values() for _, s in points for v in _reach(s)]
    if not values:
        return None
    bounds, outside = _bounds(task, card, values)
    with rc_context(_SETTINGS):
        figure, axes = _figure(len(series))
        for position, (title, points) in enumerate(series.items()):
            # Methods stand side by side at a budget, so that their bars do not hide each other.
            shift = 1.012 ** (position - (len(series) - 1) / 2)
            means = [summary.mean for _, summary in points]
            below = [summary.mean - _reach(summary)[0] for _, summary in points]
            above = [_reach(summary)[2] - summary.mean for _, summary in points]
            calls = [nfe * shift for nfe, _ in points]
            axes.errorbar(calls, means, yerr=(below, above), label=title, **_look(titles.index(title)))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(task.budgets))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("network calls per sample", color=_QUIET)
        for name, value in bounds:
            axes.axhline(value, color=_QUIET, linestyle="--", linewidth=1)
            axes.annotate(name, (0.01, value), xycoords=("axes fraction", "data"), xytext=(0, 3),
                          textcoords="offset points", color=_QUIET, fontsize=8)  # fmt: skip
        _scale(axes, "y", [*values, *(value for _, value in bounds)], _LOGARITHMIC_FROM)
        return Plot(_svg(figure, len(series)), outside)


def _reach(summary: Summary) -> tuple[float, float, float]:
    """(lower end, mean, upper end) of what is drawn."""
    low, high = summary.interval or (summary.least, summary.greatest)
    return min(low, summary.mean), summary.mean, max(high, summary.mean)


def pareto_plot(task: TaskLeaderboard, card: MetricCard, titles: Sequence[str]) -> Plot | None:
    """Quality against time per sample, with the front of what none beats in both; None of fewer than two points."""
    points = []
    for line in task.lines:
        timed, judged = line.cost("milliseconds"), line.values.get(card.name)
        if timed is not None and judged is not None and timed.median > 0 and math.isfinite(judged.mean):
            points.append((line, timed.median, judged.mean))
    if len(points) < 2:
        return None
    methods = [title for title in titles if any(line.method == title for line, _, _ in points)]
    front = pareto_front([(cost, value) for _, cost, value in points], card.direction)
    with rc_context(_SETTINGS):
        figure, axes = _figure(len(methods))
        axes.plot(*zip(*front, strict=True), color=_QUIET, linewidth=1.2, zorder=1)
        for title in methods:
            own = [(cost, value) for line, cost, value in points if line.method == title]
            axes.plot(*zip(*own, strict=True), label=title, **{**_look(titles.index(title)), "linestyle": ""})
        for line, cost, value in points:
            axes.annotate(f"{line.nfe}", (cost, value), xytext=(5, 4), textcoords="offset points", color=_QUIET,
                          fontsize=8)  # fmt: skip
        axes.set_xlabel("milliseconds per sample", color=_QUIET)
        _scale(axes, "x", [cost for _, cost, _ in points], 5.0)
        _scale(axes, "y", [value for _, _, value in points], _LOGARITHMIC_FROM)
        return Plot(_svg(figure, len(methods)))


def pareto_front(points: Sequence[tuple[float, float]], direction: str) -> list[tuple[float, float]]:
    """The (cost, value) that none of the others reaches at the same or a lower cost, by rising cost."""
    sign = 1.0 if direction == "lower" else -1.0
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if not front or sign * value < sign * front[-1][1]:
            front.append((cost, value))
    return front


def _points(task: TaskLeaderboard, title: str, metric: str) -> list[tuple[int, Summary]]:
    found = [(line.nfe, line.values[metric]) for line in task.lines if line.method == title and metric in line.values]
    return [
        (nfe, summary) for nfe, summary in found if math.isfinite(summary.least) and math.isfinite(summary.greatest)
    ]


def _bounds(
    task: TaskLeaderboard, card: MetricCard, values: Sequence[float]
) -> tuple[list[tuple[str, float]], list[str]]:
    """Baseline and ceiling where they can be drawn, and in words where they are too far off."""
    low, high = task.bounds(card.name)
    free = [("held-out data", high), ("" if low is None else BASELINE_HELP.get(low.method, low.method), low)]
    named = [(title, line.values[card.name].mean) for title, line in free if line is not None]
    extent = max(values) - min(values) or abs(max(values)) or 1.0
    drawn, outside = [], []
    for name, value in named:
        near = min(values) - 1.2 * extent <= value <= max(values) + 1.2 * extent
        logarithmic = min(values) > 0 and value > 0 and max(values) / min(values) > _LOGARITHMIC_FROM
        if math.isfinite(value) and (near or (logarithmic and value < 30 * max(values))):
            drawn.append((name, value))
        else:
            outside.append(f"{name} ({number(value)})")
    return drawn, outside


def _look(index: int) -> dict[str, Any]:
    """How method ``index`` is drawn; beyond the last colour lines are dashed."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": "--" if index >= len(COLOURS) else "-",
        "markersize": 5,
        "linewidth": 1.6,
    }


def _figure(methods: int) -> tuple[Figure, Axes]:
    """A figure with room for the legend below."""
    legend = 0.2 * math.ceil(methods / 2)
    height = 3.0 + legend
    figure = Figure(figsize=(4.8, height))
    return figure, figure.add_axes((0.14, (0.5 + legend) / height, 0.83, 2.35 / height))


def _scale(axes: Axes, which: str, values: Sequence[float], logarithmic_from: float) -> None:
    """Round ticks; logarithmic where the values are positive and far apart."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if min(values) > 0 and max(values) / min(values) > logarithmic_from:
        getattr(axes, f"set_{which}scale")("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axes.grid(axis="y", color="#d9dee5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def _svg(figure: Figure, methods: int) -> bytes:
    figure.legend(loc="lower center", ncols=2 if methods > 1 else 1, frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()
