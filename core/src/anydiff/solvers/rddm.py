"""The sampler of residual denoising diffusion (Liu et al., CVPR 2024, arXiv 2308.13712), with its own variance law.

With x_t = x_0 + A_t R + B_t ε, from t down to s, b² = B_t² - B_s² and v = η b² B_s²/B_t²,

    x_s = x_t - (A_t - A_s) R̂ - (B_t - sqrt(B_s² - v)) ε̂ + sqrt(v) ξ.

Variances add here, there is no shrinking factor: η = 1 is not DDPM. On a path with A = 1 - α, B = σ of a
variance-preserving one, v is α_s² times the variance of DDPM's step. Residual and noise come from one network call.
On a path of data and noise alone the input is 0, R = -x_0, and η = 0 is DDIM.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from anydiff.errors import AnydiffError
from anydiff.solvers.base import Solver
from anydiff.solvers.program import LinearForm, Node, Program


@dataclass(frozen=True)
class RDDMSolver(Solver):
    """Removes residual and noise step by step, on a path with at most one known source; see the module.

    Args:
        eta: share of the ancestral variance in [0, 1]; 0, the paper's choice, is deterministic.

    Raises:
        AnydiffError: ``eta`` lies outside [0, 1].
    """

    order: ClassVar[int] = 1
    preferred_grid: ClassVar[str | None] = "time"
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise AnydiffError(f"eta is {self.eta}, but must lie between 0 (deterministic) and 1 (ancestral).")

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """One row per step; a step that moves only one of the two parts asks for that prediction alone."""
        x = program.start()
        for t, s in itertools.pairwise(nodes):
            removed = s.alpha - t.alpha
            variance = self.eta * (t.sigma**2 - s.sigma**2) * (s.sigma / t.sigma) ** 2 if t.sigma > 0 else 0.0
            denoised = t.sigma - math.sqrt(max(s.sigma**2 - variance, 0.0))
            parts = {"residual": removed, "noise": denoised}
            kinds = [kind for kind, weight in parts.items() if weight != 0.0] or ["residual"]
            for kind, value in zip(kinds, program.evaluate_several(x, t, kinds), strict=True):
                x = x - parts[kind] * value
            if variance > 0:
                x = x + math.sqrt(variance) * program.noise()
        return x
