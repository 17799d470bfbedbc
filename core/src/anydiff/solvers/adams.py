"""Exponential Adams-Bashforth methods: DEIS, LMS and DPM-Solver multistep are members of one family.

The prediction M (data or noise) is interpolated through the last p nodes in a variable u and integrated exactly, so a
step of order p costs one network call (see :mod:`anydiff.solvers.exponential`):

=========  =========  ==================================================================================
M          u          known as
=========  =========  ==================================================================================
noise      time       DEIS-tAB (Zhang and Chen, "Fast sampling of diffusion models with exponential
                      integrator", ICLR 2023, arXiv 2204.13902)
noise      κ = σ/α    DEIS-ρAB, LMS (k-diffusion): the classical Adams-Bashforth method on dy/dκ = ε
noise      λ          DPM-Solver multistep
data       λ          DPM-Solver++ multistep in its exact ("taylor") form, UniP
=========  =========  ==================================================================================

NFE: one call per step; a budget of n calls makes n steps. The first steps have the order that the history allows, and
with ``lower_order_final`` the last ones fall back to order 1 again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from anydiff.solvers.base import Solver
from anydiff.solvers.exponential import (
    PREDICTIONS,
    VARIABLES,
    Known,
    checked_choice,
    checked_order,
    exponential_step,
    predict,
)
from anydiff.solvers.program import LinearForm, Node, Program


def step_order(order: int, index: int, steps: int, lower_order_final: bool) -> int:
    """Order of step ``index`` of ``steps``: what the history allows, and what the end asks for."""
    allowed = min(order, index + 1)
    return min(allowed, steps - index) if lower_order_final else allowed


@dataclass(frozen=True)
class ExponentialAdams(Solver):
    """Exponential Adams-Bashforth method of order 1 to 5; see the module.

    Args:
        order: number of nodes that are interpolated, p.
        prediction: ``"noise"`` or ``"data"``.
        variable: ``"log-snr"``, ``"time"``, ``"noise-level"`` or ``"snr"``.
        lower_order_final: let the order fall to 1 towards the last step, which steadies plans of few steps.
    """

    order: int = 3
    prediction: str = "noise"
    variable: str = "log-snr"
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        checked_order("order", self.order, 5)
        checked_choice("prediction", self.prediction, PREDICTIONS)
        checked_choice("variable", self.variable, VARIABLES)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Exponential Adams-Bashforth rows over the last ``order`` predictions; one call per step."""
        x = program.start()
        known: list[Known] = []
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            known = [predict(program, x, s, self.prediction), *known][: self.order]
            order = step_order(self.order, index, len(nodes) - 1, self.lower_order_final)
            x = exponential_step(x, s, t, known[:order], self.prediction, self.variable)
        return x


DEIS1 = partial(ExponentialAdams, order=2, variable="time")
DEIS2 = partial(ExponentialAdams, order=3, variable="time")
DEIS3 = partial(ExponentialAdams, order=4, variable="time")
LMS = partial(ExponentialAdams, order=4, variable="noise-level")
Adams2 = partial(ExponentialAdams, order=2)
Adams3 = partial(ExponentialAdams, order=3)
Adams4 = partial(ExponentialAdams, order=4)
