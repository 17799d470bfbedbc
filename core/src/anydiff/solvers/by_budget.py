"""The solver to take where nothing is known but the budget, for smooth denoisers with small errors: ``by-budget``.

It was chosen on exact denoisers (closed forms of Gaussian mixtures) alone. It interpolates predictions over many steps
with high order, so it is best where a network is smooth in time and its errors are small beside those of the steps. A
small network on bounded data (images of clipped range, say) is better served by ``dpm-solver++-2m`` or ``unipc-2``.

It is :class:`~anydiff.solvers.velocity_adams.VelocityAdams` of degree 5 on the grid ``learned``
(:func:`anydiff.paths.grids.learned`); in plans of at most 12 steps its order falls to 1 towards the last one. The grid
was fitted on twelve random mixtures, degree and rule chosen on twenty-four; ``docs/peers.md`` says how far from the
best solver of each budget that is on mixtures it has not seen. One network call per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from anydiff.solvers.base import Solver
from anydiff.solvers.program import LinearForm, Node, Program
from anydiff.solvers.velocity_adams import VelocityAdams

#: Plans of at most so many steps end with steps of lower order.
SHORT = 12


@dataclass(frozen=True)
class ByBudget(Solver):
    """Velocity-Adams of degree 5 on the grid ``learned``; in plans of at most 12 steps its order falls to 1."""

    order: ClassVar[int] = 6
    preferred_grid: ClassVar[str | None] = "learned"

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """The rows of ``VelocityAdams`` of degree 5, with its last orders lowered in short plans."""
        return VelocityAdams(degree=5, lower_order_final=len(nodes) - 1 <= SHORT).build(program, nodes)
