"""UniPC: a multistep exponential predictor, and a corrector that costs no network call.

Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", NeurIPS 2023 (arXiv
2302.04867). A step from s to t with p predictions in the history

1. predicts x~ with the exponential Adams-Bashforth method of order p in λ (UniP-p);
2. calls the network once, at x~: M~ (this is the call that the next step needs anyway);
3. corrects the state with M~ as one more node of the interpolation (UniC-p), which raises the order by one; M~ itself
   stays as it is in the history.

The paper's B(h) = h (``bh1``) or e^h - 1 (``bh2``) cancels wherever its linear system is solved, and enters only where
the weight is set to 1/2 without solving: in the predictor with two predictions and in the corrector with one. UniP-1 is
DDIM, UniP-2 with bh2 is DPM-Solver++(2M), UniP-3 its exact 3M.

NFE: one call per step. After the last step nothing is left to call, so the last state is the predicted one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from anydiff.solvers.adams import step_order
from anydiff.solvers.base import Solver
from anydiff.solvers.dpm_solver_pp import midpoint_estimate
from anydiff.solvers.exponential import (
    PREDICTIONS,
    VARIABLES,
    Known,
    checked_choice,
    checked_order,
    exponential_step,
    predict,
    step_size,
    weights,
)
from anydiff.solvers.program import LinearForm, Node, Program

VARIANTS = ("bh1", "bh2")


@dataclass(frozen=True)
class UniPC(Solver):
    """UniPC-p; see the module.

    Args:
        degree: p, the number of predictions in the predictor, 1 to 4.
        prediction: ``"data"`` or ``"noise"``.
        variant: ``"bh1"`` or ``"bh2"``.
        corrector: correct each state; without it this is UniP-p.
        variable: the interpolation variable; ``"log-snr"`` is the published one. With another one no weight is set to
            1/2 in the predictor.
        lower_order_final: let p fall to 1 towards the last step, which steadies plans of few steps.
    """

    degree: int = 3
    prediction: str = "data"
    variant: str = "bh2"
    corrector: bool = True
    variable: str = "log-snr"
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        checked_order("degree", self.degree, 4)
        checked_choice("prediction", self.prediction, PREDICTIONS)
        checked_choice("variant", self.variant, VARIANTS)
        checked_choice("variable", self.variable, VARIABLES)

    @property
    def order(self) -> int:
        """p + 1 with the corrector, p without."""
        return self.degree + self.corrector

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """A predictor row per step, and a corrector row with the call at its end."""
        x = program.start()
        known = [predict(program, x, nodes[0], self.prediction)]
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            order = step_order(self.degree, index, len(nodes) - 1, self.lower_order_final)
            known[0] = replace(known[0], value=self.revised(program, [(k.node, k.value) for k in known], index))
            predicted = self._predict(x, s, t, known[:order])
            if index == len(nodes) - 2 and not self.closes:
                return predicted
            row = LinearForm(predicted.terms)
            new = predict(program, predicted, t, self.prediction)
            if self.corrector:
                # As a correction of the predicted state, which is a register: x itself would be carried along as an
                # ever longer form. Earlier states cancel exactly.
                change = self._correct(x, s, t, known[:order], new) - row
                x = predicted + LinearForm({register: c for register, c in change.terms.items() if np.any(c != 0)})
            else:
                x = predicted
            known = [new, *known][: max(self.degree, self.memory)]
        return x

    def _predict(self, x: LinearForm, s: Node, t: Node, known: Sequence[Known]) -> LinearForm:
        if len(known) != 2 or self.variable != "log-snr" or not math.isfinite(step_size(s, t)):
            return exponential_step(x, s, t, known, self.prediction, self.variable)
        if self.variant == "bh2" or math.isinf(known[1].node.log_snr):
            return exponential_step(x, s, t, [Known(s, midpoint_estimate(known, t))], self.prediction)
        halfway = midpoint_estimate(known, t) - known[0].value
        return exponential_step(x, s, t, known[:1], self.prediction) + self._scale(s, t) * halfway

    def _correct(self, x: LinearForm, s: Node, t: Node, known: Sequence[Known], new: Known) -> LinearForm:
        if known[0].data is not None:
            return exponential_step(x, s, t, known, self.prediction)
        if len(known) > 1:
            return exponential_step(x, s, t, [*known, new], self.prediction, self.variable)
        base = exponential_step(x, s, t, known, self.prediction)
        return base + self._scale(s, t) / 2 * (new.value - known[0].value)

    def _scale(self, s: Node, t: Node) -> float:
        """α_t B(h) or -σ_t B(h), up to the sign of h: the total weight of the predictions for bh2."""
        h = step_size(s, t)
        if self.variant == "bh1" and math.isfinite(h):
            return t.alpha * h if self.prediction == "data" else -t.sigma * h
        return float(weights(s, t, [s], self.prediction)[0])


UniPC1 = partial(UniPC, degree=1)
UniPC2 = partial(UniPC, degree=2)
UniPC3 = partial(UniPC, degree=3)
# Not published: interpolated in time. With grid="quadratic" and, up to some 20 calls, lower_order_final, the first is
# the most accurate of the library from 8 calls on, and the second below.
UniPC3Time = partial(UniPC, degree=3, prediction="noise", variable="time")
UniPC2Time = partial(UniPC, degree=2, prediction="data", variable="time")
UniP2 = partial(UniPC, degree=2, corrector=False)
UniP3 = partial(UniPC, degree=3, corrector=False)
