"""The kit as pytest tests, one per check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anydiff.testing.kit import Case, cases
from anydiff.testing.report import EXPECTED, FAILED, SKIPPED
from anydiff.testing.subject import subject


def run_case(case: Case) -> None:
    """Run one check inside a pytest test, with pytest's own outcomes."""
    import pytest

    outcome = case.run()
    if outcome.status == FAILED:
        pytest.fail(f"{outcome.id}: {outcome.reason}", pytrace=False)
    if outcome.status == SKIPPED:
        pytest.skip(outcome.reason)
    if outcome.status == EXPECTED:
        pytest.xfail(outcome.reason)


def conformance(name: str) -> Callable[[Any], None]:
    """A test function for a plugin, parametrised by its checks: ``test_conformance = conformance("mine")``.

    Raises:
        UnknownNameError: no such plugin.
    """
    import pytest

    found = cases(subject(name))

    @pytest.mark.parametrize("case", found, ids=[case.id for case in found])
    def test_conformance(case: Case) -> None:
        run_case(case)

    test_conformance.__doc__ = f"Plugin {name!r} fulfils what its kinds require."
    return test_conformance
