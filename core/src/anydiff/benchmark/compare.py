"""Two sets of rows, pair by pair: wins, ties and losses with intervals, and whether anything became worse."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anydiff.benchmark.board import parse_card, runs_of
from anydiff.benchmark.statistics import Paired, paired
from anydiff.benchmark.store import FILE, Row, Store
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.pipeline.metrics import MetricCard, require_same_card


@dataclass(frozen=True)
class Comparison:
    """One metric of one line, in two sets of rows.

    Attributes:
        task: ``domain/name@version``.
        line: the method with its budget, or the two methods.
        card: of the metric.
        pair: first against second.
    """

    task: str
    line: str
    card: MetricCard
    pair: Paired


def read_rows(source: str | Path) -> list[Row]:
    """The rows of a report folder's last run, or of a JSON lines file.

    Raises:
        AnydiffError: there is neither.
        FileFormatError: the file holds something else.
    """
    path = Path(source)
    if path.is_dir() and (path / FILE).is_file():
        with Store(path) as store:
            run = store.note("run") or {"keys": {}}
            return store.rows(key for keys in run["keys"].values() for key in keys)
    path = path / "rows.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise AnydiffError(f"{str(source)!r} is no report folder and no rows.jsonl; give what `anydiff bench` wrote.")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        needed = ("task", "method", "nfe", "training", "seed", "samples", "metrics", "cards")
        if all(name in row for row in rows for name in needed):
            return rows
    except (ValueError, TypeError) as error:
        raise FileFormatError(f"{str(path)!r} holds no rows of a benchmark ({error}); give a rows.jsonl.") from error
    raise FileFormatError(f"{str(path)!r} holds no rows of this version of the benchmark; run it again.")


def compare_runs(first: Sequence[Row], second: Sequence[Row]) -> list[Comparison]:
    """The same methods in two runs: ``first`` against ``second``, matched by task, method, budget and samples.

    Raises:
        AnydiffError: nothing is in both, or a metric has another card in one.
    """

    def place(row: Row) -> Hashable:
        return row["task"], row["method"], row["nfe"], row["samples"]

    return _compare(first, second, place, lambda row: _line(row["method"], row["nfe"]))


def compare_methods(rows: Sequence[Row], first: str, second: str) -> list[Comparison]:
    """Two methods of one run, matched by task, budget and samples.

    Raises:
        AnydiffError: one of them has no rows.
    """
    known = list(dict.fromkeys(row["method"] for row in rows))
    for name in (first, second):
        if name not in known:
            raise AnydiffError(f"no row is of {name!r}; the methods are {', '.join(known)}.")

    def place(row: Row) -> Hashable:
        return row["task"], row["nfe"], row["samples"]

    one, other = ([row for row in rows if row["method"] == name] for name in (first, second))
    return _compare(one, other, place, lambda row: _line(f"{first} against {second}", row["nfe"]))


def worse(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those in which the first is worse than the second beyond the interval."""
    return [each for each in comparisons if each.pair.verdict == "loss"]


def _line(method: str, nfe: int) -> str:
    return f"{method} at {nfe} NFE" if nfe else method


def _compare(
    first: Sequence[Row], second: Sequence[Row], place: Callable[[Row], Hashable], name: Callable[[Row], str]
) -> list[Comparison]:
    here, there = _grouped(first, place), _grouped(second, place)
    found = []
    for key in [key for key in here if key in there]:
        mine, theirs = here[key], there[key]
        for metric in mine[0]["cards"]:
            both = [*mine, *theirs]
            cards = [parse_card(row["cards"][metric]) for row in both if metric in row["cards"]]
            card = require_same_card(cards)
            pair = paired(runs_of(mine, metric), runs_of(theirs, metric), card.direction)
            if pair.units:
                found.append(Comparison(mine[0]["task"], name(mine[0]), card, pair))
    if not found:
        raise AnydiffError(
            "the two have no row in common (same task version, method, budget, samples and seeds), so nothing can be "
            "compared; run both with the same suite."
        )
    return found


def _grouped(rows: Sequence[Row], place: Callable[[Row], Hashable]) -> Mapping[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        if row["status"] == "done":
            groups.setdefault(place(row), []).append(row)
    return groups
