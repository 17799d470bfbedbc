"""Documentation pages of claims, made from stored results alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anydiff.errors import AnydiffError
from anydiff.files import write_atomic
from anydiff_benchmarks.claims.results import numbers_of, read_results

_HEAD = """# Claims

One executable check per paper: `anydiff claims run <name>` measures its numbers again. A verdict is *reproduced*, *not
at this scale* (what can be run here cannot show it) or *not reproduced*; thresholds were fixed before the numbers were
seen. These pages are made from the stored results in `benchmarks/results/claims`, as by `anydiff claims report`.
"""


def claim_pages(results: Path) -> dict[str, str]:
    """File name -> Markdown: a page per results file, and ``index.md``.

    Raises:
        AnydiffError: there are no results, or a file is damaged.
    """
    # A run in progress keeps its seeds in a file of its own; what is stored already stands until it ends.
    paths = sorted(path for path in results.glob("*.jsonl") if not path.name.endswith(".begun.jsonl"))
    if not paths:
        raise AnydiffError(f"{str(results)!r} holds no results of claims; run `anydiff claims run` first.")
    return {**{f"{path.stem}.md": _page(*read_results(path)) for path in paths}, "index.md": _index(paths)}


def write_pages(results: Path, out: Path) -> Path:
    """Write the pages of :func:`claim_pages` into ``out``; return the index."""
    for name, text in claim_pages(results).items():
        write_atomic(out / name, text)
    return out / "index.md"


def _index(paths: list[Path]) -> str:
    rows = ["| claim | verdict | why | paper |", "| --- | --- | --- | --- |"]
    for path in paths:
        claim, _, verdict = read_results(path)
        cells = [
            f"[{path.stem}]({path.stem}.md)",
            verdict["verdict"],
            _cell(verdict["sentence"]),
            _cell(claim["paper"]),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return _HEAD + "\n" + "\n".join(rows) + "\n"


def _page(claim: dict[str, Any], seeds: list[dict[str, Any]], verdict: dict[str, Any]) -> str:
    rows = numbers_of(seeds)
    names = list(dict.fromkeys(name for row in rows for name in row))
    titles = [f"seed {line['seed']}" for line in seeds]
    table = [
        f"| number | {' | '.join(titles)} |",
        f"| --- |{' --- |' * len(seeds)}",
        *(f"| {_cell(name)} | {' | '.join(_number(row.get(name)) for row in rows)} |" for name in names),
    ]
    seconds = sum(line["seconds"] for line in seeds)
    parts = [
        f"# {claim['slug']}",
        _text(claim["paper"]),
        f"**{verdict['verdict'].capitalize()}.** {_text(verdict['sentence'])}",
        f"**The paper says.** {_text(claim['says'])}",
        f"**The check.** {_text(claim['check'])}",
        f"**The threshold.** {_text(claim['threshold'])}",
        "\n".join(table),
        f"Measured {verdict['date']} in {seconds:.0f} s; run `anydiff claims run {claim['slug']}` to measure again.",
    ]
    return "\n\n".join(parts) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _text(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("$", "\\$").replace("*", "\\*").replace("_", "\\_")


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")
