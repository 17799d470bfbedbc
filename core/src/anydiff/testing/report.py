"""What became of each check, and of the whole plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

PASSED, FAILED, EXPECTED, SKIPPED = "passed", "failed", "expected failure", "skipped"
STATES = (PASSED, FAILED, EXPECTED, SKIPPED)


@dataclass(frozen=True)
class Outcome:
    """One check of one entry.

    Attributes:
        check: the check's id, ``"solver.order"``.
        entry: the registered name that was checked; empty for checks of the whole plugin.
        status: ``passed``, ``failed``, ``expected failure`` or ``skipped``.
        reason: one sentence, unless it passed.
        seconds: how long it took.
    """

    check: str
    entry: str
    status: str
    reason: str = ""
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """``solver.order[mine/fast]``."""
        return f"{self.check}[{self.entry}]" if self.entry else self.check


@dataclass(frozen=True)
class Report:
    """All outcomes of one plugin."""

    plugin: str
    outcomes: Sequence[Outcome]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return bool(self.outcomes) and not self.failed

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes that failed."""
        return [outcome for outcome in self.outcomes if outcome.status == FAILED]

    @property
    def ran(self) -> int:
        """Number of checks that ran, whatever came of them."""
        return sum(outcome.status != SKIPPED for outcome in self.outcomes)

    def count(self, status: str) -> int:
        """Number of outcomes of one status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def summary(self) -> str:
        """One sentence: how many ran and what came of them."""
        parts = ", ".join(f"{self.count(status)} {status}" for status in STATES)
        return f"plugin {self.plugin!r}: {self.ran} of {len(self.outcomes)} checks ran: {parts}."

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "plugin": self.plugin,
            "ok": self.ok,
            "ran": self.ran,
            "counts": {status: self.count(status) for status in STATES},
            "checks": [{"id": outcome.id, **asdict(outcome)} for outcome in self.outcomes],
        }
