"""DPM-Solver++: exponential multistep methods on the data prediction.

Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022 (arXiv 2211.01095).
With h = λ_t - λ_s, the previous step h_0 and r = h_0/h, 2M replaces D_s in the first-order step by

    D~ = D_s + (D_s - D_{s-1}) / (2 r).

The history holds whatever the guided denoiser returns, so thresholding acts on what is integrated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from anydiff.solvers.base import Solver
from anydiff.solvers.exponential import data_step, step_size
from anydiff.solvers.program import LinearForm, Node, Program


@dataclass(frozen=True)
class DPMSolverPP2M(Solver):
    """Second-order multistep, midpoint form; one call per step, the first step of order 1.

    ``lower_order_final`` makes the last step of order 1 too, which steadies plans of few steps.
    """

    order: ClassVar[int] = 2
    lower_order_final: bool = False

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """See the module."""
        x = program.start()
        previous: tuple[LinearForm, float] | None = None
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            data = program.evaluate(x, s)
            h = step_size(s, t)
            first_order = index == len(nodes) - 2 and self.lower_order_final
            estimate = data
            if previous is not None and not first_order and math.isfinite(h):
                older, older_h = previous
                estimate = data + h / (2 * older_h) * (data - older)
            x = data_step(x, estimate, s, t)
            previous = (data, h)
        return x
