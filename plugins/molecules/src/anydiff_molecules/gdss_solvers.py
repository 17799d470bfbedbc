"""The samplers of GDSS: predictor-corrector and S4, as plans.

Jo et al., ICML 2022 (arXiv:2202.02514), sections 3.3 and C. On a product path every coefficient is the leaf's, and the
length of a Langevin step follows from each leaf and each sample alone (the authors' code averages norms over the batch,
see :func:`anydiff.solvers.operations.langevin`). Both scores of a step are those of the same joint state (the published
order of updates: the edges' correction and prediction use the nodes of before), so one network call serves both leaves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from anydiff.errors import AnydiffError
from anydiff.solvers import (
    LinearForm,
    Node,
    Program,
    Solver,
    checked_choice,
    ddim_row,
    langevin_step,
    predicted,
    score_of,
)
from anydiff.solvers import Predictor as SDEPredictor

Predictor = Literal["euler", "reverse"]
_PREDICTORS: dict[str, SDEPredictor] = {"euler": "euler-maruyama", "reverse": "reverse-diffusion"}
"""GDSS's names of the core's predictors."""


def _check(snr: float, scale_eps: float) -> None:
    if snr < 0 or scale_eps < 0:
        raise AnydiffError(f"snr is {snr} and scale_eps is {scale_eps}, but neither may be negative.")


@dataclass(frozen=True)
class GDSSPredictorCorrector(Solver):
    """A Langevin correction and a predictor at each node; the last step returns the predictor's mean.

    Two network calls per step (one without corrections). ``euler``: x_t = x + (g² ∇ - f x)(s - t) + g sqrt(s - t) z;
    ``reverse``: x_t = (2 - q) x + G² ∇ + G z with q = α_s/α_t, G² = σ_s² - q² σ_t². A step from pure noise is one of
    DDPM.

    Args:
        predictor: ``"euler"`` or ``"reverse"``.
        corrections: Langevin steps per node, 0 or 1 in the paper.
        snr: their length; 0 leaves the state as it is.
        scale_eps: factor on their noise; 1 samples the law, the paper has 0.7 for most sets.
    """

    order: ClassVar[int] = 1
    predictor: Predictor = "euler"
    corrections: int = 1
    snr: float = 0.1
    scale_eps: float = 1.0

    def __post_init__(self) -> None:
        checked_choice("predictor", self.predictor, get_args(Predictor))
        _check(self.snr, self.scale_eps)
        if self.corrections < 0:
            raise AnydiffError(f"corrections is {self.corrections}, but must be 0 or more.")

    @property
    def calls_per_step(self) -> int:
        """The corrections and the predictor."""
        return self.corrections + 1

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Langevin corrections and the predictor, one step after the other."""
        x = program.start()
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            for _ in range(self.corrections):
                score = score_of(x, program.evaluate(x, s), s)
                x = langevin_step(program, x, score, s, t, self.snr, noise_scale=self.scale_eps)
            x = predicted(program, x, s, t, _PREDICTORS[self.predictor], noisy=index < len(nodes) - 2)
        return x


@dataclass(frozen=True)
class S4(Solver):
    """Score-based sampler by symmetric splitting: correction and prediction share one score, one call per step.

    From s to t by the middle m: a Langevin correction with the score ∇ at s; half a step of the linear part F, x <-
    (α_m/α_s) x + sqrt(α_m² (κ_s² - κ_m²)) z with κ = σ/α; the score's part x <- x + g_s² (s - t) ∇; the other half of
    F. The last step returns the mean.

    F's variance is the exact one of the growing process, on a VP leaf e^B - 1 with B = ∫β over the half step; the
    authors' code has 1 - e^-B, which agrees to first order only and fails on coarse grids. The steps end at the path's
    t_end and never cross 0, where the published grid does.

    Args:
        snr: length of the correction; 0 leaves the state as it is.
        scale_eps: factor on its noise.
    """

    order: ClassVar[int] = 1
    snr: float = 0.1
    scale_eps: float = 1.0

    def __post_init__(self) -> None:
        _check(self.snr, self.scale_eps)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Steps that share one call between the correction and the predictor."""
        x = program.start()
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            data = program.evaluate(x, s)
            if s.alpha == 0:
                x = ddim_row(program, x, data, s, t, std=t.sigma, shrink=0.0)
                continue
            score = score_of(x, data, s)
            x = langevin_step(program, x, score, s, t, self.snr, noise_scale=self.scale_eps)
            middle = program.node((s.t + t.t) / 2)
            x = _half(program, x, s, middle)
            x = x + max(s.gaussian.squared_diffusion(s.t), 0.0) * (s.t - t.t) * score
            x = _half(program, x, middle, t, noisy=index < len(nodes) - 2)
        return x


def _half(program: Program, x: LinearForm, s: Node, t: Node, noisy: bool = True) -> LinearForm:
    """The linear part from s to t: grow by α_t/α_s and add the noise of the growing process."""
    mean = t.alpha / s.alpha * x
    return mean + half_step_std(s, t) * program.noise() if noisy else mean


def half_step_std(s: Node, t: Node) -> float:
    """sqrt(α_t² (κ_s² - κ_t²)): on a VP leaf sqrt(e^B - 1)."""
    return t.alpha * math.sqrt(max(s.noise_level**2 - t.noise_level**2, 0.0))
