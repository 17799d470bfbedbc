"""Which checks there are, and running them."""

from __future__ import annotations

import contextlib
import importlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from anydiff.errors import UnknownNameError
from anydiff.registry import Entry
from anydiff.testing.report import EXPECTED, FAILED, PASSED, SKIPPED, Outcome, Report
from anydiff.testing.subject import Skip, Subject, subject

ROOMS = (
    *("loading", "data", "domains", "options", "paths", "solvers", "classes", "operations", "samplers", "guidance"),
    *(
        "operators",
        "inverse_methods",
        "edits",
        "calibrations",
        "metrics",
        "networks",
        "remembering",
        "objectives",
        "training_methods",
        "recipes",
        "tasks",
        "adapters",
    ),
)
"""The modules of checks, in the order of the report."""

COMPLETE = "kit.complete"
NUMBERS, CLASSES = "numbers", "classes"


@dataclass(frozen=True)
class Check:
    """One thing a plugin must fulfil.

    Attributes:
        id: ``"solver.order"``.
        kind: the kind of entry it checks, or ``""`` for the plugin as a whole.
        run: raises ``CheckFailed`` or ``Skip``.
        help: one line.
        optional: whether it may be left out, with a reason; a required check that does not run is a failure.
        reads_data: whether it is skipped where the entry's data are absent.
        states: of which states it is: ``numbers``, ``classes``, or ``""`` for any.
    """

    id: str
    kind: str
    run: Callable[[Subject, Entry], None]
    help: str
    optional: bool
    reads_data: bool = True
    states: str = ""

    def concerns(self, entry: Entry) -> bool:
        """Whether it is of such states as the entry registers: ``states="classes"``, or real numbers."""
        return self.states in ("", entry.metadata.get("states", NUMBERS))


CHECKS: list[Check] = []
CheckFunction = Callable[[Subject, Entry], None]


def check(
    id: str, kind: str = "", optional: bool = False, reads_data: bool = True, states: str = ""
) -> Callable[[CheckFunction], CheckFunction]:
    """Make a function a check; its docstring's first line is its help."""

    def add(function: CheckFunction) -> CheckFunction:
        # Under `python -OO` there are no docstrings; then a check goes by its id.
        help = (function.__doc__ or id).strip().splitlines()[0]
        CHECKS.append(Check(id, kind, function, help, optional, reads_data, states))
        return function

    return add


def all_checks() -> list[Check]:
    """Every check of the kit."""
    for room in ROOMS:
        importlib.import_module(f"anydiff.testing.{room}")
    return sorted(CHECKS, key=lambda each: ROOMS.index(each.run.__module__.rpartition(".")[2]))


@dataclass(frozen=True)
class Case:
    """One check of one entry of one plugin, ready to run."""

    subject: Subject
    check: Check
    entry: Entry | None

    @property
    def id(self) -> str:
        """``solver.order[mine/fast]``."""
        return f"{self.check.id}[{self.entry.name}]" if self.entry else self.check.id

    def run(self) -> Outcome:
        """Run it; whatever happens becomes an outcome."""
        start = time.perf_counter()
        status, reason = self._attempt()
        expected = self._expected()
        if expected is not None and status == FAILED:
            status, reason = EXPECTED, f"{expected} ({reason})"
        elif expected is not None and status == PASSED:
            status, reason = FAILED, f"it passes, though it is declared to fail ({expected}); remove the declaration."
        name = self.entry.name if self.entry else ""
        return Outcome(self.check.id, name, status, reason, round(time.perf_counter() - start, 3))

    def _attempt(self) -> tuple[str, str]:
        absent = self.subject.unavailable(self.entry) if self.entry and self.check.reads_data else ""
        if absent:
            return SKIPPED, absent
        try:
            with _quiet():
                self.check.run(self.subject, self.entry)  # type: ignore[arg-type]
        except Skip as reason:
            return (
                (SKIPPED, str(reason)) if self.check.optional else (FAILED, f"a required check did not run: {reason}")
            )
        except AssertionError as error:
            return FAILED, str(error) or "an assertion failed"
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # a plugin may raise anything, and the other checks must still run
            return FAILED, " ".join(f"it raised {type(error).__name__}: {error}".split())
        return PASSED, ""

    def _expected(self) -> str | None:
        declared = self.subject.data("ANYDIFF_EXPECTED_FAILURES")
        reason = declared.get(self.id, declared.get(self.check.id))
        return None if reason is None else str(reason)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import torch

    # The global stream is put back: a check must not depend on those before it, nor change a caller's numbers.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield


def cases(under_test: Subject) -> list[Case]:
    """Every check that the plugin's kinds require, in the order of the report."""
    found = []
    for each in all_checks():
        if not each.kind:
            found.append(Case(under_test, each, None))
        elif not under_test.problem:
            found += [Case(under_test, each, entry) for entry in under_test.of_kind(each.kind) if each.concerns(entry)]
    complete = Check(COMPLETE, "", lambda plugin, entry: _complete(plugin, found), "no kind goes unchecked", False)
    return [*found, Case(under_test, complete, None)]


def _complete(under_test: Subject, run: list[Case]) -> None:
    """Each kind the plugin provides has an entry that can be checked here, and each declaration names a check."""
    from anydiff.testing.subject import require

    for kind in sorted({case.check.kind for case in run if case.entry}):
        reasons = [under_test.unavailable(entry) for entry in under_test.of_kind(kind)]
        require(not all(reasons), f"none of its {kind} can be checked without a download or the user's files.")
    known = {case.id for case in run} | {case.check.id for case in run}
    for name, reason in under_test.data("ANYDIFF_EXPECTED_FAILURES").items():
        require(name in known, f"ANYDIFF_EXPECTED_FAILURES names {name!r}, which is no check of this plugin.")
        require(isinstance(reason, str) and reason.strip(), f"the expected failure {name!r} gives no reason.")
    # Where entries of two kinds share a name, the kind stands before it: networks:quantised.
    named = {each for entry in under_test.entries for each in (entry.name, f"{entry.kind}:{entry.name}")}
    for name in under_test.data("ANYDIFF_CHECK_OPTIONS"):
        require(
            name in named,
            f"ANYDIFF_CHECK_OPTIONS names {name!r}, which this plugin does not register.",
        )


def check_plugin(
    name: str, progress: Callable[[Outcome], None] | None = None, kinds: Sequence[str] | None = None
) -> Report:
    """Run every check that the plugin's kinds require.

    Args:
        name: of an installed plugin; ``"anydiff"`` checks the core's own entries.
        progress: told each outcome as it comes.
        kinds: check these kinds alone (``"domains"``, ``"datasets"``, ...); loading is checked always.

    Raises:
        UnknownNameError: no such plugin, or a kind that has no checks.
    """
    known = {each.kind for each in all_checks() if each.kind}
    for kind in kinds or ():
        if kind not in known:
            raise UnknownNameError("kind of check", kind, known)
    outcomes = []
    for case in cases(subject(name)):
        # That nothing goes unchecked can only be said where all kinds are.
        wanted = case.check.kind in kinds or case.check.id.startswith("loading.") if kinds else True
        if not wanted:
            continue
        outcomes.append(case.run())
        if progress is not None:
            progress(outcomes[-1])
    return Report(name, outcomes)
