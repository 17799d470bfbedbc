"""The frame of a claim, and the claims there are.

A claim file holds ::

    CLAIM = Claim(slug="gdss", paper="Jo et al. 2022, arXiv:2202.02514", says="...", check="...", threshold="...",
                  seeds=(0, 1, 2), needs=("anydiff-molecules",), minutes=2)

    def measure(seed: int) -> dict[str, float]: ...          # every number of one seed, and nothing else but the seed
    def judge(rows: list[dict[str, float]]) -> Verdict: ...  # one row per seed, in the order of CLAIM.seeds

``measure`` is deterministic in the seed. ``judge`` sees only the numbers, so a verdict can be checked without running
anything, and it must be able to fail (:func:`weakness`).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, get_args

from anydiff.errors import AnydiffError, UnknownNameError

Outcome = Literal["reproduced", "not at this scale", "not reproduced"]
Numbers = dict[str, float]
_NOT_CLAIMS = ("base", "command", "methods", "pages", "results")


@dataclass(frozen=True)
class Claim:
    """One statement of a paper as a check that can fail.

    Attributes:
        slug: the name of its file.
        paper: authors, year, and where it is found.
        says: what the paper says, with its numbers.
        check: what is measured here, at our scale.
        threshold: what decides, in words with numbers; fixed before the numbers were seen.
        seeds: one row is measured for each.
        needs: distributions that must be installed.
        minutes: about how long all seeds take on one core.
        files: where the method stands, as ``package/folder/file.py`` below the distributions' ``src``.
        recipes: what trains or samples it: a registered recipe, and after it changes (``key.sub=value``) that make it
            of any other; none where the claim needs no trained model of ours.
    """

    slug: str
    paper: str
    says: str
    check: str
    threshold: str
    seeds: tuple[int, ...] = (0, 1, 2)
    needs: tuple[str, ...] = ()
    minutes: float = 1.0
    files: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The distributions it needs that are not installed."""
        return [name for name in self.needs if not _installed(name)]


@dataclass(frozen=True)
class Verdict:
    """What the numbers say.

    Attributes:
        outcome: ``reproduced``; ``not at this scale`` (our scale cannot show it); or ``not reproduced``.
        sentence: why, with the numbers.
    """

    outcome: Outcome
    sentence: str

    def __post_init__(self) -> None:
        if self.outcome not in get_args(Outcome):
            raise UnknownNameError("verdict", str(self.outcome), get_args(Outcome))
        if not self.sentence.strip():
            raise AnydiffError("a verdict has no sentence; say why, with the numbers.")


@dataclass(frozen=True)
class ClaimFile:
    """A claim with its two functions."""

    claim: Claim
    measure: Callable[[int], Numbers]
    judge: Callable[[list[Numbers]], Verdict]
    module: ModuleType


def slugs() -> list[str]:
    """The claims there are, by name; imports none of them."""
    package = importlib.import_module("anydiff_benchmarks.claims")
    names = (module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg)
    return sorted(name for name in names if name not in _NOT_CLAIMS and not name.startswith("_"))


def load_claim(slug: str) -> ClaimFile:
    """The claim in the file ``<slug>.py`` (``-`` for ``_`` is fine).

    Raises:
        UnknownNameError: no such claim; suggests the nearest.
        AnydiffError: the file is no well-formed claim.
    """
    name = slug.replace("-", "_")
    if name not in slugs():
        raise UnknownNameError("claim", slug, slugs())
    module = importlib.import_module(f"anydiff_benchmarks.claims.{name}")
    parts = [getattr(module, part, None) for part in ("CLAIM", "measure", "judge")]
    claim, measure, judge = parts
    if not isinstance(claim, Claim) or not callable(measure) or not callable(judge):
        raise AnydiffError(f"claim file {name}.py has no CLAIM, measure(seed) and judge(rows); see claims/base.py.")
    if claim.slug != name:
        raise AnydiffError(f"claim file {name}.py says slug={claim.slug!r}; give it the name of its file.")
    if not claim.seeds or len(set(claim.seeds)) != len(claim.seeds):
        raise AnydiffError(f"claim {name!r} has the seeds {claim.seeds}; give at least one, each once.")
    for field in ("paper", "says", "check", "threshold"):
        if not getattr(claim, field).strip():
            raise AnydiffError(f"claim {name!r} has an empty {field}; fill it in.")
    return ClaimFile(claim, measure, judge, module)


def check_numbers(slug: str, numbers: object) -> Numbers:
    """What ``measure`` returned, if it is a dictionary of finite or infinite numbers.

    Raises:
        AnydiffError: it is not.
    """
    if not isinstance(numbers, dict) or not numbers:
        raise AnydiffError(f"measure() of claim {slug!r} returned {numbers!r}; return a dictionary of numbers.")
    for name, value in numbers.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise AnydiffError(f"measure() of claim {slug!r} returned {name!r}: {value!r}; return plain numbers.")
    return {name: float(value) for name, value in numbers.items()}


def weakness(file: ClaimFile, rows: Sequence[Numbers]) -> str:
    """Why the claim could not fail, in a sentence; empty if it can.

    The mutants: each number of every row in turn is multiplied by -10, 0 and 1000, replaced by NaN, or shifted by 1000,
    and all numbers together too. A claim that calls one of the mutants anything but what it says of the true numbers
    can fail; one that never changes its mind, or that calls NaN reproduced, is no check.
    """
    rows = [dict(row) for row in rows]
    verdict = file.judge(rows).outcome
    nothing = [{name: math.nan for name in row} for row in rows]
    if _judged(file, nothing) == "reproduced":
        return f"claim {file.claim.slug!r} calls rows of NaN reproduced; compare so that NaN fails (a < b, not a > b)."
    if verdict != "reproduced" or any(_judged(file, mutant) != verdict for mutant in _mutants(rows)):
        return ""
    return f"claim {file.claim.slug!r} says {verdict!r} whatever is measured; let its numbers decide."


def _mutants(rows: Sequence[Numbers]) -> Iterator[list[Numbers]]:
    changes: list[Callable[[float], float]] = [
        lambda value: -10 * value,
        lambda value: 0.0,
        lambda value: 1000 * value,
        lambda value: value + 1000,
        lambda value: value - 1000,
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    for change in changes:
        for name in names:
            yield [{key: change(value) if key == name else value for key, value in row.items()} for row in rows]
        yield [{key: change(value) for key, value in row.items()} for row in rows]


def _judged(file: ClaimFile, rows: list[Numbers]) -> str:
    try:
        return file.judge([dict(row) for row in rows]).outcome
    except (ArithmeticError, ValueError):  # numbers that cannot be judged are not reproduced
        return "not reproduced"


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
