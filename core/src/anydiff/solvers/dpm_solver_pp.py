"""DPM-Solver++ multistep, and SDE-DPM-Solver++: exponential methods on the data prediction.

Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022 (arXiv 2211.01095).
With h = λ_t - λ_s, the previous step h_0 and r = h_0/h, 2M replaces D_s in the first-order step by

    D~ = D_s + (D_s - D_{s-1}) / (2 r),

and 3M integrates the parabola in λ through the last three predictions. The reverse SDE with noise level η is the same
step with h stretched to g = (1 + η) h in the weights of D, and fresh noise:

    x_t = (σ_t/σ_s) e^{-ηh} x_s + α_t (1 - e^{-g}) D~ + σ_t sqrt(1 - e^{-2ηh}) z.

The history holds whatever the guided denoiser returns, so thresholding acts on what is integrated. One call per step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from anydiff.errors import AnydiffError
from anydiff.solvers.adams import step_order
from anydiff.solvers.base import Solver
from anydiff.solvers.dpm_solver import FORMS
from anydiff.solvers.exponential import (
    Known,
    checked_choice,
    checked_order,
    exponential_step,
    moments,
    predict,
    step_size,
    transfer_ratio,
)
from anydiff.solvers.program import LinearForm, Node, Program


def midpoint_estimate(known: Sequence[Known], t: Node) -> LinearForm:
    """D~ for the step from ``known[0].node`` to ``t``: the prediction extrapolated by half a step."""
    (newest, older), s = known[:2], known[0].node
    h, older_h = step_size(s, t), step_size(older.node, s)
    if not (math.isfinite(h) and math.isfinite(older_h)):
        return newest.value
    return newest.value + h / (2 * older_h) * (newest.value - older.value)


@dataclass(frozen=True)
class DPMSolverPP(Solver):
    """DPM-Solver++ multistep (η = 0) and SDE-DPM-Solver++ (η > 0); see the module.

    Args:
        degree: number of predictions that are combined, 1 to 3. It is the order of convergence for η = 0; with
            noise the weak order is 2 at most (measured on the variance of Gaussian data).
        eta: noise level, 0 for the ODE and 1 for the reverse SDE (not DDIM's η, with which it agrees at 0 and 1 only).
        form: ``"midpoint"`` or the exact ``"taylor"`` for steps with two predictions; those with three are exact.
        published: leave the factor 2 out of the second difference of 3M, as the code that is commonly copied does. The
            order falls from 3 to 2; kept for comparison.
        lower_order_final: let the order fall to 1 towards the last step, which steadies plans of few steps.
    """

    degree: int = 2
    eta: float = 0.0
    form: str = "midpoint"
    published: bool = False
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        checked_order("degree", self.degree, 3)
        checked_choice("form", self.form, FORMS)
        if self.eta < 0:
            raise AnydiffError(f"eta is {self.eta}, but must be at least 0 (0 is the ODE, 1 the reverse SDE).")
        if self.published and self.degree != 3:
            raise AnydiffError(f"published is set, but degree is {self.degree}; it concerns 3M alone.")

    @property
    def order(self) -> int:
        """The degree for the ODE (2 for the published 3M), at most 2 with noise."""
        return min(self.degree, 2) if self.eta > 0 else self.degree - self.published

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Multistep rows on the data prediction, with noise where ``eta`` is above 0."""
        x = program.start()
        known: list[Known] = []
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            known = [predict(program, x, s, "data"), *known][: max(self.degree, self.memory)]
            known[0] = replace(known[0], value=self.revised(program, [(k.node, k.value) for k in known], index))
            order = step_order(self.degree, index, len(nodes) - 1, self.lower_order_final)
            x = self._step(x, s, t, known[:order])
            if self.eta > 0 and t.sigma > 0:
                x = x + t.sigma * math.sqrt(-math.expm1(-2 * self.eta * step_size(s, t))) * program.noise()
        return x

    def _step(self, x: LinearForm, s: Node, t: Node, known: Sequence[Known]) -> LinearForm:
        stretch = 1 + self.eta
        if len(known) == 2 and self.form == "midpoint":
            weight = t.alpha * -math.expm1(-stretch * step_size(s, t))
            return transfer_ratio(s, t, "data", stretch) * x + weight * midpoint_estimate(known, t)
        step = exponential_step(x, s, t, known, "data", stretch=stretch)
        if len(known) == 3 and self.published and all(math.isfinite(k.node.log_snr) for k in (*known, Known(t, x))):
            # The exact third term is m_2 D''/2 with D''/2 = (A_0 - A_1)/(r_0 + r_1); the published one is half of it.
            step = step - moments(s, t, 3, "data", stretch)[2] / 2 * _second_difference(known, t)
        return step


def _second_difference(known: Sequence[Known], t: Node) -> LinearForm:
    """(A_0 - A_1)/(r_0 + r_1): the second divided difference of the last three predictions in units of the step."""
    h = step_size(known[0].node, t)
    r0, r1 = (step_size(older.node, newer.node) / h for newer, older in itertools.pairwise(known))
    a0, a1 = (
        (newer.value - older.value) / r for (newer, older), r in zip(itertools.pairwise(known), (r0, r1), strict=True)
    )
    return (a0 - a1) / (r0 + r1)


DPMSolverPP2M = partial(DPMSolverPP, degree=2)
DPMSolverPP3M = partial(DPMSolverPP, degree=3)
SDEDPMSolverPP1 = partial(DPMSolverPP, degree=1, eta=1.0)
SDEDPMSolverPP2M = partial(DPMSolverPP, degree=2, eta=1.0)
SDEDPMSolverPP3M = partial(DPMSolverPP, degree=3, eta=1.0)
