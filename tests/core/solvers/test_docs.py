"""The tables of docs/solvers.md: every registered solver, with the order and the steps that it has."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from exact import solver_entries

from anydiff.registry import registry

PAGE = Path(__file__).parents[3] / "docs" / "solvers.md"
RULES = {
    "$n$": lambda n: n,
    "$n - 1$": lambda n: n - 1,
    "$n - 9$": lambda n: n - 9,
    r"$\lfloor n/2 \rfloor$": lambda n: n // 2,
    r"$\lfloor n/2 \rfloor + 1$": lambda n: n // 2 + 1,
    r"$\lfloor n/3 \rfloor + 1$": lambda n: n // 3 + 1,
    **{rf"$\lceil n/{k} \rceil$": lambda n, k=k: math.ceil(n / k) for k in (2, 3, 4)},
}
ROWS = {
    cells[0].strip("`"): cells
    for cells in ([c.strip() for c in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines())
    if len(cells) == 5 and re.fullmatch(r"`[a-z0-9+-]+`", cells[0])
}


@pytest.mark.parametrize("entry", solver_entries(), ids=lambda entry: entry.name)
def test_a_registered_solver_stands_in_the_tables_as_it_is(entry) -> None:
    assert entry.name in ROWS, f"{entry.name} has no row in docs/solvers.md"
    _, order, steps, what, paper = ROWS[entry.name]
    stochastic = " z" if entry.metadata["stochastic"] else ""
    assert order == f"{entry.metadata['order']}{stochastic}"
    solver = registry().build("solvers", entry.name)
    assert [RULES[steps](n) for n in range(13, 40)] == [solver.steps(n) for n in range(13, 40)]
    assert what
    year = re.search(r"\d{4}", entry.metadata["source"]).group()
    assert paper.startswith(entry.metadata["source"].removesuffix(year).removesuffix(" "))
    assert year in paper
    assert "arXiv" in paper


def test_the_tables_name_no_solver_that_does_not_exist() -> None:
    assert set(ROWS) == {entry.name for entry in solver_entries()}


@pytest.mark.parametrize("name", ["AdaptiveODE", "time-shift"])
def test_what_is_no_plan_is_told_too(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text()
