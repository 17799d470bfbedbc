"""A plot of quality against network calls as inline SVG: lines over budgets, bars over seeds, baselines across."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import TaskLeaderboard
from anydiff_benchmarks.engine.report.text import BASELINE_HELP, arrow, number
from anydiff_benchmarks.engine.statistics import Summary

WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 38
MARKERS = 6
COLOURS = 8
"""Colours of the style sheet, ``c0`` to ``c7``; beyond them lines are dashed."""
_LOGARITHMIC_FROM = 20.0
_CEILING = "held-out data"


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels, linear or logarithmic."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> Axis:
        """An axis that shows all ``values`` with a margin."""
        low, high = min(values), max(values)
        if low > 0 and high / low > _LOGARITHMIC_FROM:
            margin = (high / low) ** 0.05
            return cls(low / margin, high * margin, True)
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        return cls(low - margin, high + margin, False)

    def share(self, value: float) -> float:
        """Position in [0, 1]."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Three to seven round values."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            choices: tuple[tuple[float, ...], ...] = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0))
            for factors in choices:
                found = [f * 10.0**d for d in decades for f in factors if self.low <= f * 10.0**d <= self.high]
                if len(found) >= 3:
                    break
            return found[:: max(1, math.ceil(len(found) / 7))]
        step = 10.0 ** math.floor(math.log10(self.high - self.low))
        step *= next(f for f in (0.1, 0.2, 0.25, 0.5, 1.0) if (self.high - self.low) / (f * step) <= 6.5 or f == 1.0)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


def plot(task: TaskLeaderboard, card: MetricCard, titles: Sequence[str]) -> str:
    """The SVG of one metric; empty if no method has a finite value. ``titles`` fixes the colour of each method."""
    series = {title: _points(task, title, card.name) for title in titles}
    values = [v for points in series.values() for _, s in points for v in (s.least, s.median, s.greatest)]
    if not values:
        return ""
    lines, outside = _baselines(task, card, values)
    vertical = Axis.of([*values, *(value for _, value in lines)])
    horizontal = Axis(math.log(min(task.budgets)) - 0.12, math.log(max(task.budgets)) + 0.12, False)
    parts = _frame(vertical, horizontal, task.budgets, "network calls per sample")
    for name, value in lines:
        y = _y(vertical, value)
        parts.append(f'<line class="free" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        place, anchor = (LEFT + 3, "start") if name == _CEILING else (WIDTH - RIGHT - 2, "end")
        parts.append(f'<text class="note" x="{place}" y="{y - 4:.1f}" text-anchor="{anchor}">{_text(name)}</text>')
    for index, title in enumerate(titles):
        parts += _line(index, series[title], vertical, horizontal, len(titles))
    name = f"{card.name} against network calls"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(name)}">{"".join(parts)}</svg>' + (
        f'<p class="quiet">Off the plot: {_text(", ".join(outside))}.</p>' if outside else ""
    )


def pareto(task: TaskLeaderboard, card: MetricCard, titles: Sequence[str]) -> str:
    """The SVG of quality against time per sample, with the front: what none beats in both. Empty without two."""
    points = []
    for line in task.lines:
        timed = line.cost("milliseconds")
        judged = line.values.get(card.name)
        if timed is not None and judged is not None and timed.median > 0 and math.isfinite(judged.median):
            points.append((titles.index(line.method), line, timed.median, judged.median))
    if len(points) < 2:
        return ""
    vertical = Axis.of([value for *_, value in points])
    times = [math.log(cost) for _, _, cost, _ in points]
    horizontal = Axis(min(times) - 0.1, max(times) + 0.1, False)
    parts = _frame(vertical, horizontal, _times(horizontal), "milliseconds per sample")
    front = pareto_front([(cost, value) for *_, cost, value in points], card.direction)
    corners = " ".join(f"{_x(horizontal, cost)},{_y(vertical, value)}" for cost, value in front)
    parts.append(f'<polyline class="front" points="{corners}"/>')
    for index, line, cost, value in points:
        x, y = _x(horizontal, cost), _y(vertical, value)
        dashed = " dashed" if index >= COLOURS else ""
        parts.append(f'<g class="series c{index % COLOURS}{dashed}">{marker(index, x, y)}</g>')
        parts.append(f'<text class="note" x="{x + 6:.1f}" y="{y - 5:.1f}">{line.nfe}</text>')
    name = f"{card.name} against time per sample"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(name)}">{"".join(parts)}</svg>'


def pareto_front(points: Sequence[tuple[float, float]], direction: str) -> list[tuple[float, float]]:
    """The (cost, value) that none of the others reaches at the same or a lower cost, by rising cost."""
    sign = 1.0 if direction == "lower" else -1.0
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if not front or sign * value < sign * front[-1][1]:
            front.append((cost, value))
    return front


def _times(axis: Axis) -> list[float]:
    """Round times on a logarithmic axis."""
    low, high = math.exp(axis.low), math.exp(axis.high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        found = [value for d in decades for f in factors if low <= (value := f * 10.0**d) <= high]
        if len(found) >= 3:
            break
    return found[:: max(1, math.ceil(len(found) / 7))]


def marker(index: int, x: float, y: float) -> str:
    """The shape of method ``index`` around (x, y)."""
    shape = index % MARKERS
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if shape == 1:
        return f'<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2"/>'
    shapes: dict[int, list[tuple[float, float]]] = {
        2: [(0, -5), (4.6, 3.6), (-4.6, 3.6)],
        3: [(0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0)],
        4: [(0, 5), (4.6, -3.6), (-4.6, -3.6)],
        5: [(-2, -5), (2, -5), (2, -2), (5, -2), (5, 2), (2, 2), (2, 5), (-2, 5), (-2, 2), (-5, 2), (-5, -2), (-2, -2)],
    }
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shapes[shape])
    return f'<polygon points="{corners}"/>'


def _points(task: TaskLeaderboard, title: str, metric: str) -> list[tuple[int, Summary]]:
    found = [(line.nfe, line.values[metric]) for line in task.lines if line.method == title and metric in line.values]
    return [
        (nfe, summary) for nfe, summary in found if math.isfinite(summary.least) and math.isfinite(summary.greatest)
    ]


def _baselines(
    task: TaskLeaderboard, card: MetricCard, values: Sequence[float]
) -> tuple[list[tuple[str, float]], list[str]]:
    """Floor and ceiling where they can be drawn, and where they are so far off that they would flatten the rest."""
    low, high = task.bounds(card.name)
    free = [(_CEILING, high), ("" if low is None else BASELINE_HELP.get(low.method, low.method), low)]
    named = [(title, line.values[card.name].median) for title, line in free if line is not None]
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


def _frame(vertical: Axis, horizontal: Axis, marks: Sequence[float], below: str) -> list[str]:
    parts = []
    for tick in vertical.ticks():
        y = _y(vertical, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        label = number(tick) if abs(tick) < 1e-4 else f"{tick:.6g}"
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for mark in marks:
        x = _x(horizontal, mark)
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{mark:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="note" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{below}</text>')
    return parts


def _line(index: int, points: Sequence[tuple[int, Summary]], vertical: Axis, horizontal: Axis, count: int) -> list[str]:
    if not points:
        return []
    # Methods stand side by side at a budget, so that their bars do not hide each other.
    shift = (index - (count - 1) / 2) * min(5.0, 24.0 / count)
    places = [(_x(horizontal, nfe) + shift, summary) for nfe, summary in points]
    corners = " ".join(f"{x:.1f},{_y(vertical, summary.median)}" for x, summary in places)
    parts = [f'<polyline points="{corners}"/>']
    for x, summary in places:
        top, bottom = _y(vertical, summary.greatest), _y(vertical, summary.least)
        if bottom - top > 1:
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(marker(index, x, _y(vertical, summary.median)))
    dashed = " dashed" if index >= COLOURS else ""
    return [f'<g class="series c{index % COLOURS}{dashed}">{"".join(parts)}</g>']


def _x(axis: Axis, mark: float) -> float:
    return round(LEFT + axis.share(math.log(mark)) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM), 1)


def _text(text: str) -> str:
    return html.escape(text)


def heading(card: MetricCard) -> str:
    """The metric's name, unit and which way is better, escaped."""
    return _text(title(card))


def title(card: MetricCard) -> str:
    """The metric's name without its plugin's, its unit, and which way is better; not escaped."""
    unit = "" if card.unit in ("", "1") else f" [{card.unit}]"
    return f"{card.name.rsplit('/', 1)[-1].replace('-', ' ')}{unit} {arrow(card.direction)}"
