"""Adams methods on the velocity in the coordinates of a straight path, with a corrector that costs no call.

With y = x/(α + σ) and u = σ/(α + σ) every Gaussian path is the straight one, and the probability-flow ODE is dy/du = v
with v = ε - D. The velocity is smooth from pure noise (u = 1) to clean data (u = 0), so its polynomial through the last
nodes (Adams-Bashforth) serves at both ends; noise and data predictions each fail at one. The corrector repeats the last
step with the new call as one more node (Adams-Moulton), as UniPC does. One call per step.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anydiff.errors import natural_number
from anydiff.solvers.adams import step_order
from anydiff.solvers.base import Solver
from anydiff.solvers.program import LinearForm, Node, Program

Known = tuple[Node, LinearForm]

#: Under guidance plans of fewer steps have degree 1, and others degree 2; those of fewer than SHORT no corrector.
STEADY = 18
SHORT = 5


@dataclass(frozen=True)
class VelocityAdams(Solver):
    """Adams-Bashforth through the last ``degree`` predictions, see the module; the corrector raises the order by one.

    The first steps have the order that the history allows; ``lower_order_final`` lets it fall to 1 towards the last.

    Args:
        degree: number of predictions in the predictor.
        corrector: repeat each step with the call that follows it.
        lower_order_final: let the degree fall to 1 towards the last step, which steadies plans of few steps.
        guided: the degree is at most 2, and 1 in plans of fewer than 18 steps; of fewer than 5 nothing is corrected. A
            strong guidance bends the velocity so much within a step that polynomials of higher degree explode (errors
            of 10³ in 256 dimensions at scale 7.5, where data are below 3). Samplers set it where they see a guidance.
    """

    degree: int = 3
    corrector: bool = True
    lower_order_final: bool = False
    guided: bool = False

    def __post_init__(self) -> None:
        natural_number("degree", self.degree)

    @property
    def order(self) -> int:
        """``degree`` (at most 2 if ``guided``), and one more with the corrector."""
        return (min(self.degree, 2) if self.guided else self.degree) + self.corrector

    def under_guidance(self) -> VelocityAdams:
        """The same, ``guided``."""
        return replace(self, guided=True)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Adams-Bashforth rows on the velocity; a corrector repeats each step with the call that follows it."""
        x = program.start()
        steps = len(nodes) - 1
        most = min(self.degree, 1 if steps < STEADY else 2) if self.guided else self.degree
        corrects = self.corrector and not (self.guided and steps < SHORT)
        known: list[Known] = []
        last: tuple[LinearForm, Node, list[Known], LinearForm] | None = None
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            data = program.evaluate(x, s)
            # A register of its own: rows read one tensor for each prediction, and not a state and a prediction.
            velocity = (x - (s.alpha + s.sigma) * data) / s.sigma
            program.keep(velocity)
            if corrects and last is not None:
                # As a correction of the predicted state, which is a register; see UniPC.
                change = _straight_step(*last[:2], s, [*last[2], (s, velocity)]) - last[3]
                x = x + LinearForm({register: c for register, c in change.terms.items() if np.any(c != 0)})
            known = [(s, velocity), *known][: max(most, self.memory)]
            known[0] = (s, self.revised(program, known, index))
            degree = step_order(most, index, steps, self.lower_order_final)
            predicted = _straight_step(x, s, t, known[:degree])
            # Its own row: the prediction becomes a register when the network sees it, and its form is lost.
            last = (x, s, known[:degree], LinearForm(predicted.terms))
            x = predicted
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
