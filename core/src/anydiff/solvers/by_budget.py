"""The solver where nothing is known but the budget: ``by-budget``, which is taken where none is named.

Its grid is ``learned`` (:func:`anydiff.paths.grids.learned`). One network call per step, by the number of calls:

======================  =================================================================================
1 to 12                 velocity-Adams of degree 5 (:mod:`anydiff.solvers.velocity_adams`), whose order
                        falls to 1 towards the last step
13 to 24                of degree 4: at 13 calls degree 5 errs by up to 3 times as much, more than with 12
25 and more             of degree 5
with a guidance, any    ``unipc-2-time`` (:mod:`anydiff.solvers.uni_pc`): it never left the range of the
                        data, while polynomials of higher degree err by 10³ and more at scale 7.5
======================  =================================================================================

The grid was fitted on twelve random mixtures of Gaussians, the rest chosen on forty others, with components of unequal
spread in 2 to 256 dimensions, on four paths, unguided and with guidance of 4 and 7.5 (``docs/peers.md``).
It interpolates predictions over many steps, so it is best where a network is smooth in time and its errors are small
beside those of the steps. A small network on bounded data (images of clipped range, say) may be better served by
``dpm-solver++-2m`` or ``unipc-2`` on the grid ``karras``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from anydiff.solvers.base import Solver
from anydiff.solvers.program import LinearForm, Node, Program
from anydiff.solvers.uni_pc import UniPC2Time
from anydiff.solvers.velocity_adams import VelocityAdams

#: Plans of at most so many steps end with steps of lower order.
SHORT = 12
#: Plans of at most so many steps, and more than SHORT, have degree 4.
MIDDLE = 24


@dataclass(frozen=True)
class ByBudget(Solver):
    """What the number of calls asks for, on the grid ``learned``; see the module.

    Args:
        guided: a guidance acts. Samplers set it where they see one; a guidance that is hidden in a function of one's
            own needs it said.
    """

    guided: bool = False
    preferred_grid: ClassVar[str | None] = "learned"

    @property
    def order(self) -> int:
        """That of long plans: 6, or 3 with a guidance."""
        return 3 if self.guided else 6

    def under_guidance(self) -> ByBudget:
        """The same, ``guided``."""
        return replace(self, guided=True)

    def chosen(self, steps: int) -> Solver:
        """The solver of a plan of so many steps."""
        if self.guided:
            return UniPC2Time()
        if steps <= SHORT:
            return VelocityAdams(degree=5, lower_order_final=True)
        return VelocityAdams(degree=4 if steps <= MIDDLE else 5)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """The rows of the solver that is chosen."""
        return self.chosen(len(nodes) - 1).build(program, nodes)
