"""The report as one self-contained page: no script, style, font or picture from outside, and nothing sent anywhere.

The template escapes whatever it is given. The page forbids everything but its own style and script by their hashes, so
that text which should escape the escaping still cannot run.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from anydiff.files import write_atomic
from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Leaderboard, Line, TaskLeaderboard
from anydiff_benchmarks.engine.report.models import advice_table, levels_table
from anydiff_benchmarks.engine.report.plots import Plot, pareto_plot, quality_plot
from anydiff_benchmarks.engine.report.tables import (
    across_table,
    answers_table,
    cards_table,
    metrics_table,
    overview_table,
)
from anydiff_benchmarks.engine.report.text import heading, line_name, short, task_sentence, warnings_of

_HERE = Path(__file__).parent
WIDTH = 480
"""Most pixels of a picture within the page; the files beside it keep theirs."""


@dataclass(frozen=True)
class Figure:
    """A picture with what stands below it."""

    source: str
    caption: str
    outside: Sequence[str] = ()


def write_page(board: Leaderboard, folder: Path, path: Path) -> None:
    """Write the page; pictures are read below ``folder`` and put into it."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    templates = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    tasks = [task for task in board.tasks if task.quality]
    content = templates.get_template("page.html.j2").render(
        run=board.run,
        policy=f"default-src 'none'; img-src data:; style-src '{_allow(style)}'; script-src '{_allow(script)}'",
        style=style,
        script=script,
        answers=answers_table(board) if tasks else None,
        warnings=warnings_of(board),
        overview=overview_table(board) if tasks else None,
        across=across_table(tasks) if tasks else None,
        levels=levels_table(board),
        advice=advice_table(board),
        sections=[_section(task, board.run["titles"], folder) for task in board.tasks],
        provenance=_provenance(board),
    )
    write_atomic(path, content)


def _allow(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _section(task: TaskLeaderboard, titles: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """What the template shows of a task."""
    return {
        "name": task.name,
        "help": task.facts["help"],
        "about": f"{task_sentence(task.facts, len(task.seeds))} {task.significance}",
        "failures": _reasons(task, lambda line: line.failures),
        "inapplicable": _reasons(task, lambda line: [line.inapplicable] if line.inapplicable else []),
        "missing": task.missing,
        "plots": _plots(task, titles),
        "quality": metrics_table(task, task.quality, heading),
        "oracles": metrics_table(task, task.oracles, heading) if task.oracles else None,
        "memory": " or ".join(sorted({row.memory_kind for row in task.rows if row.memory_kind})) or "not measured",
        "galleries": _galleries(task, folder),
        "cards": cards_table(task),
        "origin": _origin(task.facts),
    }


def _reasons(task: TaskLeaderboard, of: Callable[[Line], Sequence[str]]) -> dict[str, str]:
    """Reason -> the lines that have it."""
    found: dict[str, list[str]] = {}
    for line in (*task.baselines, *task.lines):
        for reason in of(line):
            found.setdefault(reason, []).append(line.method + (f" at {line.nfe} NFE" if line.nfe else ""))
    return {reason: ", ".join(names) for reason, names in found.items()}


def _plots(task: TaskLeaderboard, titles: Sequence[str]) -> list[Figure]:
    against_time = ", against time; the line joins what none beats in both, numbers are NFE"
    plots = [(card, quality_plot(task, card, titles), "") for card in task.quality]
    plots += [(card, pareto_plot(task, card, titles), against_time) for card in task.quality[:1]]
    return [_plot_figure(card, plot, more) for card, plot, more in plots if plot is not None]


def _plot_figure(card: MetricCard, plot: Plot, more: str) -> Figure:
    return Figure(_data("image/svg+xml", plot.svg), heading(card) + more, plot.outside)


def _galleries(task: TaskLeaderboard, folder: Path) -> dict[str, list[Figure]]:
    """Pictures of the first samples: the same seed and conditions for all, beside held-out data of these conditions."""
    found = {}
    for nfe in reversed(task.budgets):
        drawn = [(line.picture, f"{line.method}, {nfe} NFE") for line in task.at(nfe)]
        found[f"Samples at {nfe} NFE"] = _figures(folder, drawn)
    free = [(line.picture, line_name(line, task)) for line in task.baselines]
    found["For comparison"] = _figures(folder, [(task.facts.get("picture", ""), "held-out data"), *free])
    return {title: figures for title, figures in found.items() if figures}


def _figures(folder: Path, pictures: Sequence[tuple[str, str]]) -> list[Figure]:
    """Pictures inside the page; those that were not drawn are left out."""
    return [
        Figure(_data("image/webp", _small((folder / name).read_bytes())), caption)
        for name, caption in pictures
        if name and (folder / name).is_file()
    ]


def _small(picture: bytes) -> bytes:
    """A picture as WebP of at most :data:`WIDTH` pixels: as PNG they were most of a page of 25 MB."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
    small.thumbnail((WIDTH, WIDTH))
    written = io.BytesIO()
    small.save(written, "WEBP", quality=65)
    return written.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _origin(facts: Mapping[str, Any]) -> dict[str, object]:
    """Where the numbers of a task come from."""
    return {
        "domain": facts["domain"],
        "judged": facts.get("judged", "in a process of its own"),
        "plugin": facts["plugin"],
        "recipe": short(facts["recipe"]),
        "weights": short(facts["weights"]),
        **{f"weights: {name}": value for name, value in facts["weights metadata"].items()},
        **{f"needs as {role}": f"{name}, {short(found)}" for role, (name, found) in facts.get("needs", {}).items()},
        **{f"code: {name}": short(value) for name, value in _code(facts).items()},
        "libraries": ", ".join(f"{name} {version}" for name, version in facts.get("libraries", {}).items()),
        "frozen task": short(facts["frozen task"]),
        "held-out data": short(facts["reference"]["hash"]),
        "training data": f"{short(facts['training data']['hash'])}, {facts['training data']['samples']} examples",
        "sampling seeds": ", ".join(map(str, facts["seeds"])),
        "trainings": ", ".join(_training(each) for each in facts["trainings"]),
        "guidance": facts["guidance"] or "none",
        "device": ", ".join(f"{name} {value}" for name, value in facts["machine"].items()),
    }


def _code(facts: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each distribution; of the core and the plugin alone, where the rows are of an earlier version."""
    if "code" in facts:
        return dict(facts["code"])
    return {name: facts[f"{name} code"] for name in ("core", "plugin") if f"{name} code" in facts}


def _training(about: Mapping[str, Any]) -> str:
    where = f"{about['model']} in {about['source']}" if about["source"] else "bundled"
    return f"{where} (seed {about['training seed']}, weights {short(about['weights'])})"


def _provenance(board: Leaderboard) -> dict[str, object]:
    run = board.run
    return {
        "command": run["command"],
        "suite": f"{run['suite']['name']}, version {run['suite']['version']}",
        "date": run["date"],
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "commit": run["commit"] or "not from a checkout",
        "rows": f"{len(board.rows)}, in full in rows.jsonl, as a table in rows.csv",
    }
