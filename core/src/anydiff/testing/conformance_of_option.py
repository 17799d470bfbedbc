"""The test that ``pytest --anydiff NAME`` collects."""

from __future__ import annotations

from typing import Any

from anydiff.testing.kit import Case, cases
from anydiff.testing.parametrised import run_case
from anydiff.testing.subject import subject


def pytest_generate_tests(metafunc: Any) -> None:
    """One test per check of each plugin that was named."""
    names = metafunc.config.getoption("--anydiff")
    found = [case for name in names for case in cases(subject(name))]
    metafunc.parametrize("case", found, ids=[f"{case.subject.name}:{case.id}" for case in found])


def test_conformance(case: Case) -> None:
    """The plugin fulfils what its kinds require."""
    run_case(case)
