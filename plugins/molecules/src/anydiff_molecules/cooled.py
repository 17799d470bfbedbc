"""Ancestral sampling with less noise than the law asks for: sharper samples, less diversity.

For one-hot states a small network's posterior leaves impossible classes some mass, and ancestral noise visits them.
With a factor below 1 on every draw the chain stays near its mean, as GDSS's ``scale_eps`` (0.7 in most of its settings)
does in its corrector. 1 is DDPM up to rounding.

The solver stands beside the core's DDPM and is no option of it: exponentials are computed by the standard library here
and by NumPy there, the last bit differs in some coefficients, and published samples and rows keep theirs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from anydiff.errors import AnydiffError
from anydiff.solvers import LinearForm, Node, Program, Solver, ddim_row, step_size


@dataclass(frozen=True)
class CooledAncestral(Solver):
    """x_t = (σ_t/σ_s) e^-h x + (α_t - α_s (σ_t/σ_s) e^-h) D + noise_scale σ_t sqrt(1 - e^-2h) z, one call per step.

    Args:
        noise_scale: factor on the noise of every step; 1 is DDPM with the posterior variance.
    """

    order: ClassVar[int] = 1
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.noise_scale >= 0:
            raise AnydiffError(f"noise_scale is {self.noise_scale}, but must be 0 or more; 1 is the model's own law.")

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Rows of DDPM whose noise is multiplied by ``noise_scale``."""
        x = program.start()
        for s, t in itertools.pairwise(nodes):
            data = program.evaluate(x, s)
            h = step_size(s, t)
            std = self.noise_scale * t.sigma * math.sqrt(-math.expm1(-2 * h))
            x = ddim_row(program, x, data, s, t, std=std, shrink=t.sigma * math.exp(-h))
        return x
