"""The report as one self-contained page: no script, style, font or picture from outside, and nothing sent anywhere.

The page forbids everything but its own style and script by their hashes, so that text which should escape the escaping
still cannot run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anydiff.files import write_atomic
from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Leaderboard, Line, TaskLeaderboard
from anydiff_benchmarks.engine.report import svg
from anydiff_benchmarks.engine.report.html_elements import definitions, table, text
from anydiff_benchmarks.engine.report.overview import overview
from anydiff_benchmarks.engine.report.text import (
    COSTS,
    cost_text,
    counted,
    line_name,
    number,
    short,
    span,
    task_sentence,
)
from anydiff_benchmarks.engine.statistics import significance_sentence


def write_html(board: Leaderboard, folder: Path, path: Path) -> None:
    """Write the page; pictures are read below ``folder`` and put into it."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src '{_allow(style)}'; script-src '{_allow(script)}'"
    body = [_head(board), overview(board), *(_task(task, board, folder) for task in board.tasks), _provenance(board)]
    write_atomic(
        path,
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>anydiff benchmark: {text(board.run["suite"]["name"])}</title>
<style>{style}</style>
</head>
<body>
{"".join(body)}
<script>{script}</script>
</body>
</html>
""",
    )


def _allow(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _head(board: Leaderboard) -> str:
    run = board.run
    suite = run["suite"]
    parts = [
        f"<h1>anydiff benchmark: {text(suite['name'])}</h1>",
        f'<p class="quiet">{text(suite["help"])} {text(run["date"])}</p>',
    ]
    for task, reason in run["problems"].items():
        parts.append(f'<p class="problem"><b>{text(task)}</b> could not be run: {text(reason)}</p>')
    return "".join(parts)


# One task -----------------------------------------------------------------------------------------------------------


def _task(task: TaskLeaderboard, board: Leaderboard, folder: Path) -> str:
    index = board.tasks.index(task)
    titles = board.run["titles"]
    help_ = f"<p>{text(task.facts['help'])}</p>" if task.facts["help"] else ""
    parts = [
        f'<h2 id="task-{index}">{text(task.name)}</h2>{help_}',
        f'<p class="quiet">{text(task_sentence(task.facts, len(task.seeds)))} '
        f"{text(significance_sentence(task.trainings, len(task.seeds)))}</p>",
        *(f'<p class="problem">{sentence}</p>' for sentence in _failures(task)),
        _plots(task, titles),
        _quality(task),
        _gallery(task, folder),
        _cards(task),
    ]
    return "".join(parts)


def _failures(task: TaskLeaderboard) -> Iterable[str]:
    cells: dict[str, list[str]] = {}
    for line in (*task.baselines, *task.lines):
        for reason in line.failures:
            cells.setdefault(reason, []).append(line.method + (f" at {line.nfe} NFE" if line.nfe else ""))
    for reason, names in cells.items():
        yield f"<b>{text(', '.join(names))}</b> failed: {text(reason)}"
    if task.missing:
        yield f"{task.missing} cells have no row yet; run the same command again to go on."


def _plots(task: TaskLeaderboard, titles: Sequence[str]) -> str:
    figures = [
        f"<figure><figcaption>{svg.heading(card)}</figcaption>{drawn}</figure>"
        for card in task.quality
        if (drawn := svg.plot(task, card, titles))
    ]
    figures += [
        f"<figure><figcaption>{svg.heading(card)}, against time; the line joins what none beats in both, numbers are "
        f"NFE</figcaption>{drawn}</figure>"
        for card in task.quality[:1]
        if (drawn := svg.pareto(task, card, titles))
    ]
    shown = {line.method for line in task.lines}
    legend = "".join(
        f'<li><svg viewBox="0 0 14 14" class="series c{i % svg.COLOURS}" aria-hidden="true">{svg.marker(i, 7, 7)}</svg>'
        f" {text(title)}</li>"
        for i, title in enumerate(titles)
        if title in shown
    )
    return f'<ul class="legend">{legend}</ul><div class="plots">{"".join(figures)}</div>' if figures else ""


def _quality(task: TaskLeaderboard) -> str:
    kinds = {row.memory_kind for row in task.rows if row.memory_kind}
    note = (
        "NFE: network calls per sample, counted by a wrapper around the network. Network rows: more than NFE where "
        "guidance doubles the batch. Time: sampling alone, warm and synchronised. "
        f"Memory: {' or '.join(sorted(kinds)) or 'not measured'}. Bold: best, or tied with the best (=), at its budget."
    )
    parts = [_metrics_table(task, task.quality), f'<p class="quiet">{text(note)}</p>']
    if task.oracles:
        about = (
            "The best of K samples per case, chosen with the truth: no quality of a forecast that anybody could make."
        )
        parts.append(f'<h3>Oracles</h3><p class="quiet">{text(about)}</p>{_metrics_table(task, task.oracles)}')
    return "".join(parts)


def _metrics_table(task: TaskLeaderboard, cards: Sequence[MetricCard]) -> str:
    head = ["method", "NFE", *(svg.title(card) for card in cards), *(title for _, title in COSTS)]
    rows = [_row(line, task, cards, "free") for line in task.baselines]
    for nfe in task.budgets:
        for position, line in enumerate(task.at(nfe)):
            rows.append(_row(line, task, cards, "" if position else "first"))
    return table(head, rows)


def _row(line: Line, task: TaskLeaderboard, cards: Sequence[MetricCard], kind: str) -> str:
    cells = [f"<td>{text(line_name(line, task))}</td>", f'<td data-value="{line.nfe}">{counted(line)}</td>']
    cells += [_value(line, card.name) for card in cards]
    for column, _ in COSTS:
        summary = line.cost(column)
        shown = (
            f'<td data-value="{summary.median}">{cost_text(column, summary.median)}</td>' if summary else "<td>–</td>"
        )
        cells.append(shown)
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _value(line: Line, metric: str) -> str:
    summary = line.values.get(metric)
    if summary is None:
        return '<td class="failed">failed</td>' if line.failures else "<td>–</td>"
    mark = line.marks.get(metric)
    shown = number(summary.median)
    if mark:
        shown = f'<span class="best">{"= " if mark == "tied" else ""}{shown}</span>'
    spread = span(summary)
    return f'<td data-value="{summary.median}">{shown}{f"<small>{spread}</small>" if spread else ""}</td>'


def _gallery(task: TaskLeaderboard, folder: Path) -> str:
    """Pictures of the first samples: the same seed and conditions for all, beside held-out data of these conditions."""
    figures = [_figure(folder, task.facts.get("picture", ""), "held-out data")]
    figures += [_figure(folder, line.picture, line_name(line, task)) for line in task.baselines]
    pictures = "".join(figures)
    groups = []
    for nfe in reversed(task.budgets):
        drawn = "".join(_figure(folder, line.picture, f"{line.method}, {nfe} NFE") for line in task.at(nfe))
        if drawn:
            groups.append(f'<h3>Samples at {nfe} NFE</h3><div class="gallery">{drawn}</div>')
    if not groups and not pictures:
        return ""
    return "".join(groups) + (f'<h3>For comparison</h3><div class="gallery">{pictures}</div>' if pictures else "")


def _figure(folder: Path, name: str, title: str) -> str:
    """A picture inside the page; nothing if it was not drawn."""
    path = folder / name
    if not name or not path.is_file():
        return ""
    content = base64.b64encode(path.read_bytes()).decode()
    image = f'<img loading="lazy" alt="{text(title)}" src="data:image/png;base64,{content}">'
    return f"<figure>{image}<figcaption>{text(title)}</figcaption></figure>"


def _cards(task: TaskLeaderboard) -> str:
    head = ["metric", "better", "unit", "range", "ideal", "least samples", "features", "version", "dtype", "library"]
    rows = []
    for card in task.cards:
        range_ = f"{number(card.range[0])} … {number(card.range[1])}"
        cells = (
            card.name, card.direction, card.unit, range_, number(card.ideal), card.minimum_samples,
            card.features or "–", card.version, card.dtype, card.library or "–",
        )  # fmt: skip
        rows.append(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in cells)}</tr>")
    facts = task.facts
    origin = {
        "domain": facts["domain"],
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
    return f"<details><summary>Metric cards and provenance</summary>{table(head, rows)}{definitions(origin)}</details>"


def _code(facts: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each distribution; of the core and the plugin alone, where the rows are of an earlier version."""
    if "code" in facts:
        return dict(facts["code"])
    return {name: facts[f"{name} code"] for name in ("core", "plugin") if f"{name} code" in facts}


def _training(about: dict[str, Any]) -> str:
    where = f"{about['model']} in {about['source']}" if about["source"] else "bundled"
    return f"{where} (seed {about['training seed']}, weights {short(about['weights'])})"


def _provenance(board: Leaderboard) -> str:
    run = board.run
    facts: dict[str, Any] = {
        "command": run["command"],
        "suite": f"{run['suite']['name']}, version {run['suite']['version']}",
        "date": run["date"],
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "commit": run["commit"] or "not from a checkout",
        "rows": f"{len(board.rows)}, in full in rows.jsonl, as a table in rows.csv",
    }
    return f"<h2>Provenance</h2>{definitions(facts)}"
