"""Linear forms are worked out when a register needs them: the order of a solver's arithmetic costs no terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import pytest

from anydiff.paths import VPLinear
from anydiff.solvers import LinearForm, Node, Program, Solver, compile_plan
from anydiff.solvers.plan import Combine


@dataclass(frozen=True)
class MultipliesFirst(Solver):
    """Euler's method, with the state multiplied before the call that gives it a register."""

    order: ClassVar[int] = 1
    calls_per_step: ClassVar[int] = 1

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        x = program.start()
        for s, t in pairwise(nodes):
            rate = s.path.d_sigma(s.t) / s.sigma
            x = x + (t.t - s.t) * (rate * x + (s.path.d_alpha(s.t) - s.alpha * rate) * program.evaluate(x, s))
        return x


def test_a_state_multiplied_before_its_call_is_still_one_register():
    plan = compile_plan(MultipliesFirst(), VPLinear(), 40)
    assert max(len(row.terms) for row in plan.instructions if isinstance(row, Combine)) == 2


def test_forms_know_forms_from_numbers_and_deep_sums_end():
    x, y = LinearForm.of("x"), LinearForm.of("y")
    for wrong in (lambda: x * y, lambda: x + 1.0):
        with pytest.raises(TypeError):
            wrong()
    total = x
    for _ in range(5000):
        total = total + 0.5 * y
    assert total.terms == {"x": 1.0, "y": 2500.0}
