"""DPM-Solver and DPM-Solver++ in singlestep form: exponential Runge-Kutta methods of order 1 to 3.

Lu et al., "DPM-Solver", NeurIPS 2022 (arXiv 2206.00927), on the noise prediction, and "DPM-Solver++" (arXiv 2211.01095)
on the data prediction. A step of order p calls the network at λ_s and at p - 1 nodes inside the step, r = 1/2 for order
2, r = 1/3 and 2/3 for order 3; each stage and the step itself interpolate the predictions linearly in λ and integrate
exactly. Order 1 is DDIM. Order 2 ("midpoint") uses the middle prediction alone.

NFE: p calls per step and ceil(n/p) steps. If p does not divide the budget n, the first step, where the prediction
varies least, has the lower order that the remainder pays. ``fast`` makes floor(n/3) + 1 steps, as the paper's
DPM-Solver-fast does: 1, 2 (n = 3K), 1 (n = 3K + 1) or 2 (n = 3K + 2), then all of order 3. The paper has the low orders
last (``fast="published"``), where a short step of order 1 undoes what a further call brings: up to 4 times the error.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from anydiff.errors import AnydiffError
from anydiff.solvers.base import Solver
from anydiff.solvers.exponential import (
    PREDICTIONS,
    Known,
    checked_choice,
    checked_order,
    exponential_step,
    in_place,
    inside,
    predict,
)
from anydiff.solvers.program import LinearForm, Node, Program

FORMS = ("midpoint", "taylor")
PUBLISHED = "published"
"""The value of ``fast`` that keeps the paper's order of the steps."""


def stage_counts(order: int, steps: int, budget: int | None) -> list[int]:
    """Calls of each step: ``order``, but for the first one, which takes the budget's remainder."""
    first = order if budget is None else min(max(budget - order * (steps - 1), 1), order)
    return [first, *([order] * (steps - 1))]


def fast_counts(nfe: int, published: bool = False) -> list[int]:
    """DPM-Solver-fast: the orders of the steps that spend ``nfe`` calls, the low ones first or, as published, last."""
    full, rest = divmod(nfe, 3)
    counts = [rest, *([3] * full)] if rest else [1, 2, *([3] * (full - 1))]
    return counts[::-1] if published else counts


@dataclass(frozen=True)
class DPMSolver(Solver):
    """Singlestep DPM-Solver of order 1, 2 or 3; see the module.

    Args:
        order: number of network calls of a step.
        prediction: ``"noise"`` (DPM-Solver) or ``"data"`` (DPM-Solver++).
        form: ``"midpoint"`` as published, or ``"taylor"``: every stage's prediction enters the last row, which is then
            exact for predictions that are polynomials in λ of degree below ``order``.
        fast: spend the budget as DPM-Solver-fast does (order 3 only): True, or ``"published"`` for the steps of lower
            order last, as in the paper; kept for comparison.
    """

    order: int = 3
    prediction: str = "noise"
    form: str = "midpoint"
    fast: bool | str = False

    def __post_init__(self) -> None:
        checked_order("order", self.order, 3)
        checked_choice("prediction", self.prediction, PREDICTIONS)
        checked_choice("form", self.form, FORMS)
        if self.fast and self.order != 3:
            raise AnydiffError(f"fast is set, but order is {self.order}; DPM-Solver-fast needs order 3.")
        if self.fast not in (True, False, PUBLISHED):
            raise AnydiffError(f"fast is {self.fast!r}, but must be true, false or {PUBLISHED!r}.")

    @property
    def calls_per_step(self) -> int:
        """The order."""
        return self.order

    def steps(self, nfe: int) -> int:
        """ceil(nfe / order), or floor(nfe / 3) + 1 if ``fast``."""
        return len(fast_counts(nfe)) if self.fast else -(-nfe // self.order)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Singlestep exponential Runge-Kutta steps, their orders chosen such that the budget is spent."""
        x = program.start()
        steps = len(nodes) - 1
        fast = self.fast and program.budget is not None and self.steps(program.budget) == steps
        budget = program.budget
        counts = fast_counts(budget or 0, self.fast == PUBLISHED) if fast else stage_counts(self.order, steps, budget)
        for (s, t), count in zip(itertools.pairwise(nodes), counts, strict=True):
            x = self._step(program, x, s, t, count)
        return x

    def _step(self, program: Program, x: LinearForm, s: Node, t: Node, order: int) -> LinearForm:
        # At pure noise the noise prediction says nothing: that step integrates D.
        prediction = "data" if s.alpha == 0 else self.prediction
        known = [predict(program, x, s, prediction)]
        if order == 1 or t.sigma == 0:
            return exponential_step(x, s, t, known, prediction)
        for stage in range(1, order):
            node = inside(s, t, stage / order)
            known.append(predict(program, exponential_step(x, s, node, known, prediction), node, prediction))
        if self.form == "taylor" or not in_place(s, t, known):
            return exponential_step(x, s, t, known, prediction)
        if order == 2:
            return exponential_step(x, s, t, [Known(s, known[1].value)], prediction)
        return exponential_step(x, s, t, [known[0], known[2]], prediction)


DPMSolver1 = partial(DPMSolver, order=1)
DPMSolver2 = partial(DPMSolver, order=2)
DPMSolver3 = partial(DPMSolver, order=3)
DPMSolverFast = partial(DPMSolver, order=3, fast=True)
DPMSolverPP2S = partial(DPMSolver, order=2, prediction="data")
DPMSolverPP3S = partial(DPMSolver, order=3, prediction="data")
