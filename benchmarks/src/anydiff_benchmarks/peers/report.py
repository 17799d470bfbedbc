"""The tables of a run: best of each library, the default of each budget, agreement, failures."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from anydiff_benchmarks.peers.targets import SEED

Row = dict[str, Any]
OURS = "anydiff"


def machine() -> str:
    """Python, torch and threads, for the head of a table."""
    return f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def best_of(rows: Iterable[Row]) -> dict[tuple[str, int, str], Row]:
    """The row of least error of each (target, budget, library), among those that kept the budget."""
    best: dict[tuple[str, int, str], Row] = {}
    for row in rows:
        if "rmse" in row and row["calls"] <= row["nfe"]:
            key = row["target"], row["nfe"], row["library"]
            if key not in best or row["rmse"] < best[key]["rmse"]:
                best[key] = row
    return best


def grouped_scores(rows: Sequence[Row], nfe: int | None = None) -> list[tuple[float, float, str, str]]:
    """(geometric mean over targets of error / our best, the worst of them, solver, grid), least first.

    Without ``nfe`` the mean runs over all budgets too.
    """
    best = best_of(row for row in rows if row["library"] == OURS)
    cells = {key[:2] for key in best if nfe is None or key[1] == nfe}
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["library"] == OURS and (row["target"], row["nfe"]) in cells and "rmse" in row:
            ratio = row["rmse"] / best[row["target"], row["nfe"], OURS]["rmse"]
            ratios.setdefault((row["solver"], row["grid"]), []).append(ratio)
    full = {key: values for key, values in ratios.items() if len(values) == len(cells)}
    mean = {key: math.exp(sum(map(math.log, values)) / len(values)) for key, values in full.items()}
    return sorted((mean[key], max(full[key]), *key) for key in full)


def markdown(rows: Sequence[Row], agreements: Sequence[Row], versions: dict[str, str], date: str) -> str:
    """The whole report."""
    peers = list(versions)
    head = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none installed"
    parts = [
        "# Error at equal network calls",
        f"{date}. Peers: {head}. {machine()}. Start noise of seed {SEED}, float64 (diffusers computes in float32).",
        "Root mean square distance of the end state from the exact end of the probability-flow ODE (verified against "
        "SciPy's DOP853 to 2e-9), from the same noise; G2 and W2 in 2 dimensions, 256 starts; G16 and G64, 128; G784, "
        "32. Every deterministic solver of each library on each grid that it offers, at no more than the given calls; "
        "azula also on quadratic time, through a Schedule of our own. Only the best of each library is shown.",
        "## Best of each library", _best_table(rows, peers),
        "## A default for each budget", _default_table(rows),
        "## Same solver, same grid", _agreement_table(agreements),
        "## Runs that failed", _failures(rows),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _best_table(rows: Sequence[Row], peers: Sequence[str]) -> str:
    best = best_of(rows)
    lines = []
    for name, nfe in dict.fromkeys((row["target"], row["nfe"]) for row in rows):
        mine = best[name, nfe, OURS]
        others = [best[name, nfe, peer] for peer in peers if (name, nfe, peer) in best]
        least = min((row["rmse"] for row in others), default=math.nan)
        cells = [f"{row['rmse']:.3g} ({row['solver']}, {row['grid']})" for row in others]
        own = f"{mine['rmse']:.3g} ({mine['solver']}, {mine['grid']})"
        ratio = f"{mine['rmse'] / least:.2f}" if others else "no peer"
        lines.append([name, nfe, own, ratio, *cells])
    return table(["target", "NFE", OURS, "ours / best peer", *peers], lines)


def _default_table(rows: Sequence[Row]) -> str:
    lines = []
    for nfe in dict.fromkeys(row["nfe"] for row in rows):
        for mean, worst, solver, grid in grouped_scores(rows, nfe)[:3]:
            lines.append([nfe, solver, grid, f"{mean:.2f}", f"{worst:.2f}"])
    for mean, worst, solver, grid in grouped_scores(rows)[:3]:
        lines.append(["all", solver, grid, f"{mean:.2f}", f"{worst:.2f}"])
    return table(["NFE", "solver", "grid", "error / our best (geometric mean over targets)", "worst target"], lines)


def _agreement_table(agreements: Sequence[Row]) -> str:
    lines = [[row["library"], row["solver"], row["ours"], f"{row['difference']:.1e}"] for row in agreements]
    return table(["library", "its solver", "ours (why they may differ)", "relative difference"], lines)


def _failures(rows: Sequence[Row]) -> str:
    counts = Counter((row["library"], row["solver"], row["failed"]) for row in rows if "failed" in row)
    lines = [[library, solver, reason, count] for (library, solver, reason), count in sorted(counts.items())]
    return table(["library", "solver", "what happened", "runs"], lines) if lines else "None."
