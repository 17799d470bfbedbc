"""Audit: compute rows again from their provenance, and see whether the stored numbers come out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anydiff.errors import AnydiffError
from anydiff.states import permutation
from anydiff_benchmarks.engine.identity import changes
from anydiff_benchmarks.engine.leaderboard import runs_of
from anydiff_benchmarks.engine.planning import Cell, Speed, method_parts
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.store import Store
from anydiff_benchmarks.engine.suite import Method, Suite
from anydiff_benchmarks.engine.truth import reason
from anydiff_benchmarks.engine.worker import NOT_ISOLATED, Setting, compute, describe

ROUNDING = 1e-3
"""Largest relative difference that counts as the same number: another machine rounds otherwise."""


@dataclass(frozen=True)
class Finding:
    """A row that was computed again.

    Attributes:
        label: the cell in words.
        verdict: ``same``; ``inside`` the range of its line's runs; ``differs``; or ``cannot be computed``.
        sentence: the numbers, or why not.
    """

    label: str
    verdict: Literal["same", "inside", "differs", "cannot be computed"]
    sentence: str

    @property
    def good(self) -> bool:
        """Whether the stored row stands."""
        return self.verdict in ("same", "inside")


def audit(store: Store, count: int, seed: int = 0) -> Iterator[Finding]:
    """Compute ``count`` random finished rows of the store's last run again.

    Raises:
        AnydiffError: nothing was run yet.
    """
    run = store.note("run")
    rows = store.rows(key for keys in run["keys"].values() for key in keys) if run else []
    done = [row for row in rows if row.done]
    if not run or not done:
        raise AnydiffError(f"{str(store.path.parent)!r} holds no finished rows; run `anydiff bench run` first.")
    suite = Suite.parse(run["suite"], "the stored suite")
    for index in permutation(seed, 0, "benchmark/audit", len(done))[:count]:
        yield audit_row(done[index], suite, rows)


def audit_row(row: Row, suite: Suite, rows: Sequence[Row]) -> Finding:
    """Compute one row again and compare it with what is stored."""
    method = None if row.solver is None else Method.parse({**row.solver, "label": ""}, "the stored method")
    baseline = row.method if method is None else ""
    cell = Cell(
        row.task, method, baseline, row.nfe, row.seed, row.inputs["samples"], row.inputs, row.model, row.source,
        row.training,
    )  # fmt: skip
    setting = Setting(
        row.task,
        row.source,
        row.machine["device"],
        suite.batch_size,
        0,
        NOT_ISOLATED not in row.inputs,
        method.names if method else (),
    )
    try:
        changed = _changed(row, setting, method)
        if changed:
            return Finding(cell.label, "cannot be computed", f"{', '.join(changed)} changed since")
        again, _ = compute(setting, cell, False)
    except AnydiffError as error:
        return Finding(cell.label, "cannot be computed", reason(error))
    if not again.done:
        return Finding(cell.label, "cannot be computed", again.reason)
    return _judged(cell.label, row, again, rows)


def _changed(row: Row, setting: Setting, method: Method | None) -> list[str]:
    """What a row depends on and is no longer what it was; libraries of other versions are tried all the same."""
    about = describe(setting, Speed(0.0, 0.0))
    now: dict[str, Any] = {**about.identity, **(about.data if method is None else about.model)}
    if method is not None:
        now.update(method_parts(method, about.identity, about.sources))
    before = {name: row.inputs.get(name) for name in now}
    return [name for name, _, _ in changes(before, now) if not name.startswith("libraries")]


def _judged(label: str, row: Row, again: Row, rows: Sequence[Row]) -> Finding:
    worst: Literal["same", "inside", "differs"] = "same"
    words = []
    line = [other for other in rows if (other.task, other.method, other.nfe) == (row.task, row.method, row.nfe)]
    for name, old in row.metrics.items():
        new = again.metrics.get(name, math.nan)
        if old == new or abs(old - new) <= ROUNDING * max(abs(old), abs(new)):
            continue
        values = list(runs_of(line, name).values())
        inside = min(values) <= new <= max(values)
        worst = "inside" if inside and worst == "same" else worst if inside else "differs"
        words.append(f"{name} was {old:.6g} and is {new:.6g}")
    return Finding(label, worst, "; ".join(words) or "every metric as stored")
