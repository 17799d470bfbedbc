"""How numbers and names are written in every report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anydiff.benchmark.statistics import Summary

BASELINE_HELP: Mapping[str, str] = {
    "real": "held-out against held-out",
    "resample": "training data (floor)",
    "gaussian": "Gaussian of all moments",
    "gaussian-diagonal": "marginal Gaussian (ceiling)",
}


def number(value: float | None) -> str:
    """Four significant digits, without an exponent where a person can do without."""
    if value is None:
        return "–"
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.3e}"
    digits = 3 - (math.floor(math.log10(abs(value))) if value else 0)
    text = f"{value:.{max(0, min(digits, 8))}f}"
    return "0" if value == 0 else text


def span(summary: Summary) -> str:
    """Least and greatest value, and the interval if there is one; empty for one value."""
    if summary.count < 2 or summary.least == summary.greatest:
        return ""
    text = f"{number(summary.least)} … {number(summary.greatest)}"
    if summary.interval is not None:
        text += f" [{number(summary.interval[0])}, {number(summary.interval[1])}]"
    return text


def arrow(direction: str) -> str:
    """Which way is better."""
    return "↓" if direction == "lower" else "↑"


def short(hash_: str) -> str:
    """The first digits of a hash."""
    return hash_[:12]


def task_sentence(facts: Mapping[str, Any], seeds: int) -> str:
    """What a table rests on, in a sentence."""
    reference = facts["reference"]
    text = (
        f"{facts['samples']} samples per cell × {seeds} sampling seed{'s' if seeds != 1 else ''}, one training; judged "
        f"against {reference['samples']} held-out examples of {reference['data set']}; network of "
        f"{facts['parameters']:,} parameters; {facts['machine']['name']} ({facts['machine']['device']}, "
        f"{facts['machine']['threads']} threads)."
    )
    if facts["over budget"]:
        text += " This task needs more than its share of the time budget even at the least its metrics accept."
    return text
