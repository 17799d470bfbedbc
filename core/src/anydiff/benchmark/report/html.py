"""The report as one self-contained page: no script, style, font or picture from outside, and nothing sent anywhere.

The page forbids everything but its own style and script by their hashes, so that text which should escape the escaping
still cannot run.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from anydiff.benchmark.board import Board, Line, TaskBoard
from anydiff.benchmark.report import svg
from anydiff.benchmark.report.text import BASELINE_HELP, number, short, span, task_sentence
from anydiff.benchmark.statistics import significance_sentence
from anydiff.files import write_atomic

_COSTS = (
    ("rows_per_call", "rows per call"),
    ("milliseconds", "ms per sample"),
    ("peak_memory_mib", "peak MiB"),
)


def write_html(board: Board, folder: Path, path: Path) -> None:
    """Write the page; pictures are read below ``folder`` and put into it."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src '{_allow(style)}'; script-src '{_allow(script)}'"
    body = [_head(board), _overview(board), *(_task(task, board, folder) for task in board.tasks), _provenance(board)]
    write_atomic(
        path,
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>anydiff benchmark: {_text(board.run["suite"]["name"])}</title>
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


def _text(value: object) -> str:
    return html.escape(str(value))


def _head(board: Board) -> str:
    run = board.run
    suite = run["suite"]
    parts = [
        f"<h1>anydiff benchmark: {_text(suite['name'])}</h1>",
        f'<p class="quiet">{_text(suite["help"])} {_text(run["date"])}</p>',
    ]
    for task, reason in run["problems"].items():
        parts.append(f'<p class="problem"><b>{_text(task)}</b> could not be run: {_text(reason)}</p>')
    return "".join(parts)


# Overview -----------------------------------------------------------------------------------------------------------


def _overview(board: Board) -> str:
    """A line per task: the first metric of the best methods at each budget, between floor and ceiling."""
    if not board.tasks:
        return "<p>No task was run.</p>"
    budgets = sorted({nfe for task in board.tasks for nfe in task.budgets})
    best = [f"best at {nfe} NFE" for nfe in budgets]
    head = ["task", "metric", "training data", *best, "marginal Gaussian"]
    rows = []
    for index, task in enumerate(board.tasks):
        if not task.cards:
            continue
        card = task.cards[0]
        cells = [f'<td><a href="#task-{index}">{_text(task.name)}</a></td>', f"<td>{svg.heading(card)}</td>"]
        cells += [_plain(task.line("resample"), card.name)]
        cells += [_winners(task.at(nfe), card.name) for nfe in budgets]
        cells += [_plain(task.line("gaussian-diagonal"), card.name)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    seeds = min((len(task.seeds) for task in board.tasks), default=0)
    note = (
        "Training data, judged like samples, is the floor: no model need be nearer. A Gaussian with the mean and "
        "variance of every entry is the ceiling: a model beyond it is broken. Values of different metrics are never "
        "averaged."
    )
    return _table(head, rows) + f'<p class="quiet">{note} {_text(significance_sentence(seeds))}</p>'


def _plain(line: Line | None, metric: str) -> str:
    summary = line.values.get(metric) if line is not None else None
    return f'<td data-value="{summary.median}">{number(summary.median)}</td>' if summary else "<td>–</td>"


def _winners(lines: Sequence[Line], metric: str) -> str:
    marked = [line for line in lines if line.marks.get(metric)]
    if not marked:
        medians = [line.values[metric].median for line in lines if metric in line.values]
        shown = f"{number(min(medians))} … {number(max(medians))}" if medians else "–"
        return f"<td>{shown}{'<small>all; one seed tells no best</small>' if medians else ''}</td>"
    best = min(marked, key=lambda line: line.marks[metric] != "best")
    if len(marked) == 1:
        names = _text(best.method)
    else:
        names = "tied: " + ", ".join(_text(line.method) for line in marked)
    medians = [line.values[metric].median for line in marked]
    low, high = number(min(medians)), number(max(medians))
    return f"<td>{low if low == high else f'{low} … {high}'}<small>{names}</small></td>"


# One task -----------------------------------------------------------------------------------------------------------


def _task(task: TaskBoard, board: Board, folder: Path) -> str:
    index = board.tasks.index(task)
    titles = board.run["titles"]
    help_ = f"<p>{_text(task.facts['help'])}</p>" if task.facts["help"] else ""
    parts = [
        f'<h2 id="task-{index}">{_text(task.name)}</h2>{help_}',
        f'<p class="quiet">{_text(task_sentence(task.facts, len(task.seeds)))}</p>',
        *(f'<p class="problem">{text}</p>' for text in _failures(task)),
        _plots(task, titles),
        _quality(task),
        _gallery(task, folder),
        _cards(task),
    ]
    return "".join(parts)


def _failures(task: TaskBoard) -> Iterable[str]:
    cells: dict[str, list[str]] = {}
    for line in (*task.baselines, *task.lines):
        for reason in line.failures:
            cells.setdefault(reason, []).append(line.method + (f" at {line.nfe} NFE" if line.nfe else ""))
    for reason, names in cells.items():
        yield f"<b>{_text(', '.join(names))}</b> failed: {_text(reason)}"
    if task.missing:
        yield f"{task.missing} cells have no row yet; run the same command again to go on."


def _plots(task: TaskBoard, titles: Sequence[str]) -> str:
    figures = [
        f"<figure><figcaption>{svg.heading(card)}</figcaption>{drawn}</figure>"
        for card in task.cards
        if (drawn := svg.plot(task, card, titles))
    ]
    shown = {line.method for line in task.lines}
    legend = "".join(
        f'<li><svg viewBox="0 0 14 14" class="series c{i % svg.COLOURS}" aria-hidden="true">{svg.marker(i, 7, 7)}</svg>'
        f" {_text(title)}</li>"
        for i, title in enumerate(titles)
        if title in shown
    )
    return f'<ul class="legend">{legend}</ul><div class="plots">{"".join(figures)}</div>' if figures else ""


def _quality(task: TaskBoard) -> str:
    head = ["method", "NFE", *(svg.title(card) for card in task.cards)]
    head += [title for _, title in _COSTS]
    rows = [_row(line, task, "free", "0") for line in task.baselines]
    for nfe in task.budgets:
        for position, line in enumerate(task.at(nfe)):
            counted = line.cost("counted_nfe")
            rows.append(_row(line, task, "" if position else "first", f"{counted.median:g}" if counted else f"({nfe})"))
    kinds = {row["memory_kind"] for row in task.rows if row["memory_kind"]}
    note = (
        "NFE: network calls counted by a wrapper around the network, per sample. Rows per call: 2 where guidance "
        "doubles the batch. Time: sampling alone, warm and synchronised. "
        f"Memory: {' or '.join(sorted(kinds)) or 'not measured'}. Bold: best, or tied with the best (=), at its budget."
    )
    return _table(head, rows) + f'<p class="quiet">{_text(note)}</p>'


def _row(line: Line, task: TaskBoard, kind: str, calls: str) -> str:
    name = BASELINE_HELP.get(line.method, line.method) if kind == "free" else line.method
    cells = [f"<td>{_text(name)}</td>", f'<td data-value="{line.nfe}">{calls}</td>']
    cells += [_value(line, card.name) for card in task.cards]
    for column, _ in _COSTS:
        summary = line.cost(column)
        shown = f'<td data-value="{summary.median}">{number(summary.median)}</td>' if summary else "<td>–</td>"
        cells.append(shown)
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _value(line: Line, metric: str) -> str:
    summary = line.values.get(metric)
    if summary is None:
        return '<td class="failed">failed</td>' if line.failures else "<td>–</td>"
    mark = line.marks.get(metric)
    text = number(summary.median)
    if mark:
        text = f'<span class="best">{"= " if mark == "tied" else ""}{text}</span>'
    spread = span(summary)
    return f'<td data-value="{summary.median}">{text}{f"<small>{spread}</small>" if spread else ""}</td>'


def _gallery(task: TaskBoard, folder: Path) -> str:
    """Pictures of the first samples: the same seed and conditions for all, beside held-out data of these conditions."""
    figures = [_figure(folder, task.facts.get("picture", ""), "held-out data")]
    free = [line for line in task.baselines if line.method.startswith("gaussian")]
    figures += [_figure(folder, line.picture, BASELINE_HELP.get(line.method, line.method)) for line in free]
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
    image = f'<img loading="lazy" alt="{_text(title)}" src="data:image/png;base64,{content}">'
    return f"<figure>{image}<figcaption>{_text(title)}</figcaption></figure>"


def _cards(task: TaskBoard) -> str:
    head = ["metric", "better", "unit", "range", "ideal", "least samples", "features", "version"]
    rows = []
    for card in task.cards:
        range_ = f"{number(card.range[0])} … {number(card.range[1])}"
        cells = (card.name, card.direction, card.unit, range_, number(card.ideal), card.minimum_samples)
        rows.append(f"<tr>{''.join(f'<td>{_text(c)}</td>' for c in (*cells, card.features or '–', card.version))}</tr>")
    facts = task.facts
    origin = {
        "domain": facts["domain"],
        "plugin": facts["plugin"],
        "recipe": short(facts["recipe"]),
        "weights": short(facts["weights"]),
        **{f"weights: {name}": value for name, value in facts["weights metadata"].items()},
        "code of the core": short(facts["core code"]),
        "code of the plugin": short(facts["plugin code"]),
        "frozen task": short(facts["frozen task"]),
        "held-out data": short(facts["reference"]["hash"]),
        "training data": f"{short(facts['training data']['hash'])}, {facts['training data']['samples']} examples",
        "seeds": ", ".join(map(str, facts["seeds"])),
        "guidance": facts["guidance"] or "none",
        "device": ", ".join(f"{name} {value}" for name, value in facts["machine"].items()),
    }
    return f"<details><summary>Metric cards and provenance</summary>{_table(head, rows)}{_list(origin)}</details>"


def _provenance(board: Board) -> str:
    run = board.run
    facts: dict[str, Any] = {
        "command": run["command"],
        "suite": f"{run['suite']['name']}, version {run['suite']['version']}",
        "date": run["date"],
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "commit": run["commit"] or "not from a checkout",
        "rows": f"{len(board.rows)}, in full in rows.jsonl, as a table in rows.csv",
    }
    return f"<h2>Provenance</h2>{_list(facts)}"


# Pieces -------------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    titles = "".join(f'<th scope="col">{_text(title)}</th>' for title in head)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _list(facts: dict[str, Any]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items()) + "</dl>"
