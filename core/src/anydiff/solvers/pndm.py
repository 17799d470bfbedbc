"""PNDM: pseudo numerical methods, classical weights in the gradient part and DDIM in the transfer part.

Liu et al., "Pseudo numerical methods for diffusion models on manifolds", ICLR 2022 (arXiv 2202.09778). With the
transfer φ(x, e, s, t) = (α_t/α_s) x + (σ_t - σ_s α_t/α_s) e, which is DDIM for a noise prediction e, a step is
x_t = φ(x, e, s, t) with

- pseudo linear multistep: e = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3)/24 of the last predictions (fewer: Adams-Bashforth of
  lower degree), one call;
- pseudo Runge-Kutta: e = (e_1 + 2 e_2 + 2 e_3 + e_4)/6 at s, twice at the middle time and at t, four calls;
- pseudo improved Euler: e = (e_1 + e_2)/2 at s and t, two calls.

F-PNDM starts with three pseudo Runge-Kutta steps, S-PNDM (degree 2) and PLMS (degree 4) with one improved Euler step.
The weights suppose nodes that are uniform in time: choose the grid "time". The order of convergence is 2.

NFE: a budget of n calls is spent exactly. F-PNDM makes n - 9 steps from 13 calls on and starts as PLMS below, where
three Runge-Kutta steps would leave none to multistep (and steps as long as those diverge). S-PNDM and PLMS make n - 1
steps, and two plain ones for n = 2. One call is DDIM. Only the first prediction of a starting step enters the history.
Pure noise (flow at t = 1) is left by one DDIM step before the start proper.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from anydiff.solvers.base import Solver
from anydiff.solvers.exponential import checked_choice, checked_order, data_step, noise_step, predict
from anydiff.solvers.program import LinearForm, Node, Program

#: Adams-Bashforth weights, newest first, by degree.
ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
STARTS = ("runge-kutta", "euler")


@dataclass(frozen=True)
class PNDM(Solver):
    """Pseudo linear multistep of degree 1 to 4 after a start by pseudo Runge-Kutta or improved Euler steps."""

    order: ClassVar[int] = 2
    degree: int = 4
    start: str = "runge-kutta"

    def __post_init__(self) -> None:
        checked_order("degree", self.degree, 4)
        checked_choice("start", self.start, STARTS)

    def steps(self, nfe: int) -> int:
        """What remains after the extra calls of the starting steps; see the module."""
        count, extra = self._start(nfe)
        return nfe - count * extra

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Pseudo Runge-Kutta or improved Euler steps at the start, pseudo linear multistep rows behind them."""
        x = program.start()
        starting, extra = self._start(program.budget)
        history: list[LinearForm] = []
        for s, t in itertools.pairwise(nodes):
            first = predict(program, x, s, "noise")
            history = [first.value, *history][: self.degree]
            if first.data is not None:
                x = data_step(x, first.data, s, t)
            elif starting > 0 and t.sigma > 0:
                starting -= 1
                x = _starting_step(program, x, first.value, s, t, improved_euler=extra == 1)
            else:
                terms = [weight * value for weight, value in zip(ADAMS[len(history) - 1], history, strict=True)]
                x = noise_step(x, sum(terms[1:], terms[0]), s, t)
        return x

    def _start(self, budget: int | None) -> tuple[int, int]:
        """How many starting steps there are, and what each costs beyond one call."""
        count = self.degree - 1
        if self.start == "runge-kutta" and (budget is None or budget > 4 * count):
            return count, 3
        return min(1, count) if budget is None or budget > 2 else 0, 1


def _starting_step(
    program: Program, x: LinearForm, e1: LinearForm, s: Node, t: Node, improved_euler: bool
) -> LinearForm:
    if improved_euler:
        e2 = program.evaluate(noise_step(x, e1, s, t), t, "noise")
        return noise_step(x, (e1 + e2) / 2, s, t)
    middle = program.node((s.t + t.t) / 2)
    e2 = program.evaluate(noise_step(x, e1, s, middle), middle, "noise")
    e3 = program.evaluate(noise_step(x, e2, s, middle), middle, "noise")
    e4 = program.evaluate(noise_step(x, e3, s, t), t, "noise")
    return noise_step(x, (e1 + 2 * e2 + 2 * e3 + e4) / 6, s, t)


FPNDM = partial(PNDM, degree=4, start="runge-kutta")
SPNDM = partial(PNDM, degree=2, start="euler")
PLMS = partial(PNDM, degree=4, start="euler")
