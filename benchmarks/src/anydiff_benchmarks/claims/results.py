"""Stored results of claims: a line of JSON for the claim, one per seed, and one with the verdict.

A seed is kept in ``<slug>.begun.jsonl`` as soon as it is measured; a run that was interrupted goes on behind it, if the
claim's file, the commit and the versions are still the same. Beside uncommitted changes nothing is taken over.
"""

from __future__ import annotations

import datetime
import inspect
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import write_atomic
from anydiff.tasks import canonical, digest
from anydiff_benchmarks.claims.base import ClaimFile, Numbers, Verdict, check_numbers
from anydiff_benchmarks.engine.identity import commit, versions


def results_path(folder: Path, slug: str) -> Path:
    """The file of a claim's results."""
    return folder / f"{slug}.jsonl"


def run_claim(file: ClaimFile, folder: Path, say: Callable[[str], None]) -> Verdict:
    """Measure every seed, judge, store all of it below ``folder``, and return the verdict.

    Raises:
        AnydiffError: something it needs is not installed, or it returned no numbers.
    """
    claim = file.claim
    missing = claim.missing()
    if missing:
        raise AnydiffError(f"claim {claim.slug!r} needs {', '.join(missing)}; `pip install {' '.join(missing)}`.")
    head: dict[str, Any] = {
        "kind": "claim",
        "slug": claim.slug,
        "paper": claim.paper,
        "says": claim.says,
        "check": claim.check,
    }
    head |= {"threshold": claim.threshold, "needs": list(claim.needs), "minutes": claim.minutes}
    begun = _Begun(folder / f"{claim.slug}.begun.jsonl", file)
    for seed in claim.seeds:
        if seed in begun.lines:
            say(f"{claim.slug}, seed {seed}: measured before the run was interrupted")
            continue
        began = time.perf_counter()
        numbers = check_numbers(claim.slug, file.measure(seed))
        seconds = time.perf_counter() - began
        begun.add({"kind": "seed", "seed": seed, "numbers": numbers, "seconds": round(seconds, 3)})
        say(f"{claim.slug}, seed {seed}: {shown(numbers)} ({seconds:.1f} s)")
    lines = [begun.lines[seed] for seed in claim.seeds]
    verdict = file.judge(numbers_of(lines))
    tail: dict[str, Any] = {
        "kind": "verdict",
        "verdict": verdict.outcome,
        "sentence": verdict.sentence,
        "commit": commit(),
    }
    tail |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "versions": versions()}
    write_atomic(results_path(folder, claim.slug), _text([head, *lines, tail]))
    begun.path.unlink()
    return verdict


class _Begun:
    """The seeds that are measured already, in a file that says of which claim, code and versions they are."""

    def __init__(self, path: Path, file: ClaimFile) -> None:
        self.path = path
        source = Path(inspect.getfile(file.module)).read_text(encoding="utf-8")
        self.head = {"kind": "begun", "of": digest([source, list(file.claim.seeds), commit(), versions()])}
        self.lines: dict[int, dict[str, Any]] = {}
        if path.is_file() and not commit().endswith("+changes"):
            head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if head == self.head:
                self.lines = {line["seed"]: line for line in lines}

    def add(self, line: dict[str, Any]) -> None:
        self.lines[line["seed"]] = line
        write_atomic(self.path, _text([self.head, *self.lines.values()]))


def _text(lines: Iterable[Any]) -> str:
    return "".join(canonical(line) + "\n" for line in lines)


def read_results(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """(claim, one line per seed, verdict) of a results file.

    Raises:
        FileFormatError: it is not one.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        head, *seeds, verdict = lines
        kinds = [line["kind"] for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{str(path)!r} holds no results of a claim; run the claim again.") from error
    if kinds != ["claim", *["seed"] * len(seeds), "verdict"]:
        raise FileFormatError(f"{str(path)!r} is not complete; run the claim again.")
    return head, seeds, verdict


def numbers_of(seeds: list[dict[str, Any]]) -> list[Numbers]:
    """The rows that ``judge`` sees; infinities and NaN are text in the file."""
    return [{name: float(value) for name, value in line["numbers"].items()} for line in seeds]


def shown(numbers: Numbers) -> str:
    """The numbers of one seed in a line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
