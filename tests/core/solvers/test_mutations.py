"""Every mutant of the table is killed by the check named beside it, and the package as it is passes every check."""

from __future__ import annotations

import pytest
from mutations import MUTANTS

import anydiff.paths.path as paths_path


@pytest.fixture(autouse=True)
def _fresh_coefficients():
    """Paths remember their coefficients; a mutant must not meet, or leave, remembered ones."""
    paths_path._scalar.cache_clear()
    yield
    paths_path._scalar.cache_clear()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_killed(mutant, monkeypatch):
    mutant.check()
    paths_path._scalar.cache_clear()
    monkeypatch.setattr(mutant.owner, mutant.attribute, mutant.change(getattr(mutant.owner, mutant.attribute)))
    with pytest.raises(AssertionError):
        mutant.check()


def test_the_table_is_long_enough_and_has_no_doubles():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15
