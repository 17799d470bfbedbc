"""The face of solvers of classes: a time grid becomes network calls and transitions, all of them numbers."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from anydiff.errors import NotApplicableError
from anydiff.paths.categorical import CategoricalPath
from anydiff.solvers.base import Solver
from anydiff.solvers.plan import Evaluate, Instruction, Noise, Plan, Transition
from anydiff.solvers.program import LinearForm, Node, Program


class CategoricalSolver(Solver):
    """Compiles a path of classes and a time grid into a plan. A subclass gives :meth:`transition`.

    One network call per step gives the cavity (:mod:`anydiff.denoisers.categorical`), one transition draws the classes
    at the next node, of draw 2 and on; draw 1 is :attr:`ordered`'s. The last node is 0, where the states are the data.

    Attributes:
        kind: the kind of prediction that is asked for.
        ordered: whether the rule reads numbers in (0, 1) that stay the same in all steps of a sample.
        exact_for_one: a single entry is drawn from its exact law, whatever the number of steps.
    """

    order: ClassVar[int] = 1
    kind: ClassVar[str] = "cavity"
    exact_for_one: ClassVar[bool] = True

    @property
    def ordered(self) -> bool:
        """Whether the rule reads numbers that stay the same in all steps; by default not."""
        return False

    def travels(self, path: CategoricalPath) -> bool:
        """Whether it has a meaning on ``path``; by default on all."""
        return True

    @abstractmethod
    def transition(self, path: CategoricalPath, t: float, s: float, left: int) -> tuple[str, dict[str, Any]]:
        """(rule, options) of the step from ``t`` down to ``s``; ``left`` steps are left, this one included."""

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Refused: real numbers are not replaced, but moved."""
        raise NotApplicableError(
            f"{self!r} draws classes, but {program.path!r} is a path of real numbers; choose another solver (see "
            "`anydiff solvers`), or a path of classes (masked, uniform, mask-and-replace, marginal)."
        )

    def compile_classes(self, path: CategoricalPath, grid: Sequence[float], end: str) -> Plan:
        """The plan on the nodes ``grid``; ``end`` as for :func:`~anydiff.solvers.compile_plan`.

        - ``clean``: the last step goes to t = 0, where the states are the data; no extra call.
        - ``denoise``: one more call at the last node and the most probable class of each entry.
        - ``stop``: the states at the last node, masks among them.
        """
        if not self.travels(path):
            raise NotApplicableError(
                f"{self!r} has no meaning on {path!r}, where classes are replaced; take ancestral or tau-leaping, or "
                "the path masked."
            )
        times = [*grid[:-1], 0.0] if end == "clean" else list(grid)
        instructions: list[Instruction] = [Noise("order", 1)] if self.ordered else []
        beside = ("order",) if self.ordered else ()
        state, steps = Plan.START, len(times) - 1
        for number, (t, s) in enumerate(itertools.pairwise(times)):
            rule, options = self.transition(path, t, s, steps - number)
            made, out = f"M{number}", f"x{number + 1}"
            instructions.append(Evaluate(made, state, t, self.kind))
            instructions.append(Transition(out, rule, state, made, number + 2, options, beside))
            state = out
        if end == "denoise":
            last = len(times) - 1
            instructions.append(Evaluate(f"M{last}", state, times[-1], "logits"))
            options = {"classes": path.bound}
            instructions.append(Transition(f"x{last + 1}", "most-likely", state, f"M{last}", last + 2, options))
            state = f"x{last + 1}"
        return Plan(repr(self), repr(path), tuple(times), tuple(instructions), state)
