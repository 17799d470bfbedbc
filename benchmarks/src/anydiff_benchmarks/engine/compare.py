"""Two sets of rows, pair by pair: wins, ties and losses with intervals, and what was not judged.

Every metric of every line of either set has a verdict. One that stands on one side alone is not judged; a failed row
counts with the metrics that it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anydiff.data.reading import parse_json, reading, text_lines
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import common_cards, parts_of, runs_of
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.statistics import Paired, paired
from anydiff_benchmarks.engine.store import FILE, Store


@dataclass(frozen=True)
class Comparison:
    """One metric of one line, in two sets of rows.

    Attributes:
        task: ``domain/name@version``.
        line: the method with its budget, or the two methods.
        card: of the metric.
        pair: first against second.
        alone: ``A`` or ``B`` where the whole line stands in the first or second set alone.
    """

    task: str
    line: str
    card: MetricCard
    pair: Paired
    alone: Literal["", "A", "B"] = ""


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
    what, advice = "rows of a benchmark", "give a rows.jsonl"
    with reading(path, what, advice):
        lines = [
            (number, parse_json(line, path, what, advice, number)) for number, line in text_lines(path, what, advice)
        ]
    try:
        rows = [Row.parse(line, f"line {number} of {str(path)!r}") for number, line in lines]
    except AnydiffError as error:
        raise FileFormatError(f"{str(path)!r} holds no rows of this version of the benchmark: {error}") from error
    _check_repeats(rows, path)
    return rows


def _check_repeats(rows: Sequence[Row], path: Path) -> None:
    """Refuse two rows of one cell with different values: only one of them would be compared.

    Raises:
        AnydiffError: there are such rows.
    """
    seen: dict[Hashable, Row] = {}
    for row in rows:
        cell = (row.task, row.method, row.nfe, row.samples, row.run)
        if seen.setdefault(cell, row).metrics != row.metrics:
            raise AnydiffError(
                f"two rows of {str(path)!r} are of {row.task} {_line(row.method, row.nfe)} with seed {row.seed}, and "
                "their values differ; keep one of them."
            )


def compare_runs(first: Sequence[Row], second: Sequence[Row]) -> list[Comparison]:
    """The same methods in two runs: ``first`` against ``second``, matched by task, method, budget and samples.

    Raises:
        AnydiffError: nothing is in both, or a metric has another card in one.
    """

    def place(row: Row) -> Hashable:
        return row.task, row.method, row.nfe, row.samples

    return _compare(first, second, place, lambda row: _line(row.method, row.nfe), same_method=True)


def compare_methods(rows: Sequence[Row], first: str, second: str) -> list[Comparison]:
    """Two methods of one run, matched by task, budget and samples.

    Raises:
        AnydiffError: one of them has no rows.
    """
    known = list(dict.fromkeys(row.method for row in rows))
    for name in (first, second):
        if name not in known:
            raise AnydiffError(f"no row is of {name!r}; the methods are {', '.join(known)}.")

    def place(row: Row) -> Hashable:
        return row.task, row.nfe, row.samples

    one, other = ([row for row in rows if row.method == name] for name in (first, second))
    return _compare(one, other, place, lambda row: _line(f"{first} against {second}", row.nfe))


def worse(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those in which the first is worse than the second beyond the interval."""
    return [each for each in comparisons if each.pair.verdict == "loss"]


def _line(method: str, nfe: int) -> str:
    return f"{method} at {nfe} NFE" if nfe else method


def _compare(
    first: Sequence[Row],
    second: Sequence[Row],
    place: Callable[[Row], Hashable],
    name: Callable[[Row], str],
    same_method: bool = False,
) -> list[Comparison]:
    here, there = _grouped(first, place), _grouped(second, place)
    found = []
    for key in dict.fromkeys([*here, *there]):
        mine, theirs = here.get(key, []), there.get(key, [])
        one = (mine or theirs)[0]
        alone: Literal["", "A", "B"] = "B" if not mine else "A" if not theirs else ""
        for card in common_cards([*mine, *theirs]):
            one_side, other_side = runs_of(mine, card.name), runs_of(theirs, card.name)
            if one_side and other_side:
                pair = _pair(mine, theirs, card, same_method)
            else:
                where = "A" if other_side else "B" if one_side else "A and B"
                pair = Paired(math.nan, None, 0, "not judged", f"missing in {where}")
            found.append(Comparison(one.task, name(one), card, pair, alone))
    if not any(each.pair.units for each in found):
        raise AnydiffError(
            "the two have no row in common (same task version, method, budget, samples and seeds), so nothing can be "
            "compared; run both with the same suite."
        )
    return found


def _pair(first: Sequence[Row], second: Sequence[Row], card: MetricCard, same_method: bool) -> Paired:
    """By the runs, where these tell a change of one method; by the units they have in common otherwise."""
    whole = paired(runs_of(first, card.name), runs_of(second, card.name), card.direction, same_method=same_method)
    one, other = parts_of(first, card.name), parts_of(second, card.name)
    if not all(row.units.get(card.name) for row in (*first, *second)) or not one.keys() & other.keys():
        return whole
    if same_method and whole.verdict in ("win", "loss"):
        return whole
    return paired(one, other, card.direction)


def _grouped(rows: Sequence[Row], place: Callable[[Row], Hashable]) -> Mapping[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(place(row), []).append(row)
    return groups
