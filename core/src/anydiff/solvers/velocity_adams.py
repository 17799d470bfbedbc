"""Adams methods on the velocity in the coordinates of a straight path, with a corrector that costs no call.

With y = x/(α + σ) and u = σ/(α + σ) every Gaussian path is the straight one, and the probability-flow ODE is dy/du = v
with v = ε - D. The velocity is smooth from pure noise (u = 1) to clean data (u = 0), so its polynomial through the last
nodes (Adams-Bashforth) serves at both ends; noise and data predictions each fail at one. The corrector repeats the last
step with the new call as one more node (Adams-Moulton), as UniPC does. One call per step.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anydiff.errors import natural_number
from anydiff.solvers.adams import step_order
from anydiff.solvers.base import Solver
from anydiff.solvers.program import LinearForm, Node, Program

Known = tuple[Node, LinearForm]


@dataclass(frozen=True)
class VelocityAdams(Solver):
    """Adams-Bashforth through the last ``degree`` predictions, see the module; the corrector raises the order by one.

    The first steps have the order that the history allows; ``lower_order_final`` lets it fall to 1 towards the last.
    """

    degree: int = 3
    corrector: bool = True
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        natural_number("degree", self.degree)

    @property
    def order(self) -> int:
        """``degree``, and one more with the corrector."""
        return self.degree + self.corrector

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Adams-Bashforth rows on the velocity; a corrector repeats each step with the call that follows it."""
        x = program.start()
        steps = len(nodes) - 1
        known: list[Known] = []
        last: tuple[LinearForm, Node, list[Known]] | None = None
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            data = program.evaluate(x, s)
            new = (s, (x - s.alpha * data) / s.sigma - data)
            if self.corrector and last is not None:
                x = _straight_step(*last[:2], s, [*last[2], new])
                program.keep(x)
            known = [new, *known[: self.degree - 1]]
            degree = step_order(self.degree, index, steps, self.lower_order_final)
            last = (x, s, known[:degree])
            x = _straight_step(x, s, t, known[:degree])
        return x


def _straight_step(x: LinearForm, s: Node, t: Node, known: Sequence[Known]) -> LinearForm:
    """x at t from x at s, with the velocity interpolated in u through the nodes of ``known`` and integrated exactly."""

    def u(node: Node) -> float:
        return node.sigma / (node.alpha + node.sigma)

    length = u(t) - u(s)
    theta = np.array([(u(node) - u(s)) / length for node, _ in known])
    weights = np.linalg.solve(np.vander(theta, increasing=True).T, length / np.arange(1, len(known) + 1))
    form = x / (s.alpha + s.sigma)
    for weight, (_, velocity) in zip(weights, known, strict=True):
        form = form + float(weight) * velocity
    return (t.alpha + t.sigma) * form
