"""What the report says of the models themselves: their loss at fixed noise levels, and what holds them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Leaderboard
from anydiff_benchmarks.engine.report.tables import MISSING, Cell, Table
from anydiff_benchmarks.engine.report.text import heading, number


def levels_table(board: Leaderboard) -> Table | None:
    """A line per model: the network's loss at each noise level, as a share of a Gaussian's; None without any."""
    models = [
        (index, task.name, model)
        for index, task in enumerate(board.tasks)
        for model in task.facts.get("trainings", ())
        if "denoising" in model
    ]
    if not models:
        return None
    known = sorted({level["log_snr"] for _, _, model in models for level in model["denoising"].get("levels", ())})
    rows = []
    for index, name, model in models:
        levels = {level["log_snr"]: level for level in model["denoising"].get("levels", ())}
        problem = model["denoising"].get("problem", "")
        title = Cell(name, note=_model(model) + (f"; no loss: {problem}" if problem else ""), link=f"#task-{index}")
        rows.append([title, *(_level(levels.get(each)) for each in known)])
    return Table(["task", *(f"log-SNR {level:g}" for level in known)], rows, [""] * len(rows))


def advice_table(board: Leaderboard) -> Table | None:
    """A line per model that was asked about: what solver, network and finite sample lose; None without any."""
    head = ["task", "metric", "asked about", "solver loses", "network loses", "uncertain", "what would help"]
    rows = []
    for index, task in enumerate(board.tasks):
        known = board.run.get("advice", {}).get(task.name, {})
        for model in task.facts.get("trainings", ()):
            found = known.get(model["weights"])
            if found is not None:
                title = Cell(task.name, note=_model(model), link=f"#task-{index}")
                rows.append([title, *_advice(found)])
    return Table(head, rows, [""] * len(rows), stacked=True) if rows else None


def _advice(found: Mapping[str, Any]) -> list[Cell]:
    if "refused" in found:
        return [*[MISSING] * 5, Cell(found["refused"], style="words")]
    card = MetricCard(**{**found["metric"], "range": tuple(found["metric"]["range"])})
    parts = [found["lost by the solver"], found["lost by the network"]]
    return [
        Cell(heading(card), style="words"),
        Cell(found["solver"], note=number(found["value"])),
        *(Cell(number(value), value, "" if half is None else f"± {number(half)}") for value, half in parts),
        Cell(number(found["uncertain"]), found["uncertain"], f"{found['samples']} samples"),
        Cell(found["sentence"], style="words"),
    ]


def _level(level: Mapping[str, Any] | None) -> Cell:
    if level is None:
        return MISSING
    share, loss, error = level["share"], level["loss"], level["error"]
    if share is None:
        return Cell(number(loss), loss, "no Gaussian to compare with")
    note = number(loss) if error is None else f"{number(loss)} ± {number(error)}"
    return Cell(f"{share:.3f}", share, note)


def _model(model: Mapping[str, Any]) -> str:
    return f"{model['model'] or 'bundled'}, training seed {model['training seed']}"
