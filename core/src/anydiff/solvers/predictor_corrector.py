"""Predictor-corrector sampling of the reverse SDE, and the plain SDE discretisations that serve as predictors.

Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021 (arXiv 2011.13456),
for any path (VP, sub-VP and VE are theirs). With q = α_s/α_t and G² = σ_s² - q² σ_t², the variance that the forward
process adds from t to s, and the score ∇ = (α_s D - x)/σ_s², the predictors from s to t are

- ``reverse-diffusion``: x_t = (2 - q) x + G² ∇ + G z;
- ``probability-flow``: x_t = (2 - q) x + G²/2 ∇;
- ``euler-maruyama``: x_t = x + (f x - g² ∇)(t - s) + g sqrt(s - t) z.

VP ancestral sampling is :class:`~anydiff.solvers.ddim.DDPM`. Before the predictor of a step come ``corrections``
Langevin steps x + l ∇ + sqrt(2 l) z at s, each with a fresh score. Their length is

- ``annealed``: l = 2 q² (snr σ_s)², which is linear and treats each sample on its own;
- ``norm``: l = 2 q² (snr/r)², r² what one entry of the sample's own score squares to. The paper has mean
  norms over the batch; :func:`~anydiff.solvers.operations.langevin` says how and why this differs.

NFE: corrections + 1 calls per step and ceil(n/(corrections + 1)) steps; the first step makes the fewer corrections that
the remainder pays. A step from pure noise (flow at t = 1) is one of DDPM.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

from anydiff.errors import AnydiffError
from anydiff.solvers.base import Solver
from anydiff.solvers.ddim import ddim_row
from anydiff.solvers.dpm_solver import stage_counts
from anydiff.solvers.exponential import checked_choice
from anydiff.solvers.program import LinearForm, Node, Program

Step = Literal["annealed", "norm"]
Predictor = Literal["reverse-diffusion", "probability-flow", "euler-maruyama"]


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """Langevin corrections and a predictor at each node; see the module.

    Args:
        predictor: ``"reverse-diffusion"``, ``"probability-flow"`` or ``"euler-maruyama"``.
        corrections: Langevin steps per node, 0 for the predictor alone.
        snr: length of a Langevin step, relative to the noise (0.16 in the paper for images and VE).
        step: ``"annealed"`` or ``"norm"``.
    """

    order: ClassVar[int] = 1
    predictor: Predictor = "reverse-diffusion"
    corrections: int = 1
    snr: float = 0.16
    step: Step = "annealed"

    def __post_init__(self) -> None:
        checked_choice("step", self.step, get_args(Step))
        checked_choice("predictor", self.predictor, get_args(Predictor))
        if self.corrections < 0 or self.snr <= 0:
            raise AnydiffError(
                f"corrections is {self.corrections} and snr is {self.snr}, but they must be >= 0 and > 0."
            )

    @property
    def calls_per_step(self) -> int:
        """The corrections and the predictor."""
        return self.corrections + 1

    def steps(self, nfe: int) -> int:
        """ceil(nfe / (corrections + 1))."""
        return -(-nfe // self.calls_per_step)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Langevin corrections at each node and the predictor from it to the next."""
        x = program.start()
        counts = stage_counts(self.calls_per_step, len(nodes) - 1, program.budget)
        for (s, t), count in zip(itertools.pairwise(nodes), counts, strict=True):
            for _ in range(count - 1):
                x = self._correct(program, x, s, t)
            x = predicted(program, x, s, t, self.predictor)
        return x

    def _correct(self, program: Program, x: LinearForm, s: Node, t: Node) -> LinearForm:
        score = score_of(x, program.evaluate(x, s), s)
        if self.step == "norm":
            return langevin_step(program, x, score, s, t, self.snr)
        length = 2 * _squared_ratio(s, t) * (self.snr * s.sigma) ** 2
        return x + length * score + math.sqrt(2 * length) * program.noise()


def score_of(x: LinearForm, data: LinearForm, s: Node) -> LinearForm:
    """∇ = (α_s D - x)/σ_s²."""
    return (s.alpha * data - x) / s.sigma**2


def _squared_ratio(s: Node, t: Node) -> float:
    """q² = (α_s/α_t)², which is 1 - β of the discrete step; 1 at pure noise."""
    return (s.alpha / t.alpha) ** 2 if s.alpha > 0 else 1.0


def langevin_step(
    program: Program, x: LinearForm, score: LinearForm, s: Node, t: Node, snr: float, **options: float
) -> LinearForm:
    """The operation ``langevin`` at s, whose length follows from the norm of each sample's own score; see the module.

    Args:
        program: where it is written down.
        x: the state at s.
        score: its score.
        s: the node of the state.
        t: the next one.
        snr: relative length; 0 leaves the state as it is.
        options: more of :func:`~anydiff.solvers.operations.langevin`: ``noise_scale``, say.
    """
    if snr == 0:
        return x
    given = {"snr": snr, "scale": _squared_ratio(s, t), "sigma": s.sigma, **options}
    return program.apply("langevin", x, score, program.noise(), node=s, **given)


def predicted(
    program: Program, x: LinearForm, s: Node, t: Node, predictor: Predictor, noisy: bool = True
) -> LinearForm:
    """One call and the predictor's step from s to t, or its mean alone where it is not ``noisy``; see the module."""
    data = program.evaluate(x, s)
    if s.alpha == 0:
        return ddim_row(program, x, data, s, t, std=t.sigma, shrink=0.0)
    score = score_of(x, data, s)
    if predictor == "euler-maruyama":
        dt = s.t - t.t
        drift, variance = s.gaussian.drift(s.t), max(s.gaussian.squared_diffusion(s.t), 0.0)
        mean, std = x + dt * (variance * score - drift * x), math.sqrt(variance * dt)
    else:
        q = s.alpha / t.alpha
        variance = s.sigma**2 - (q * t.sigma) ** 2
        if predictor == "probability-flow":
            return (2 - q) * x + variance / 2 * score
        mean, std = (2 - q) * x + variance * score, math.sqrt(variance)
    return mean + std * program.noise() if noisy else mean


ReverseDiffusion = partial(PredictorCorrector, corrections=0)
EulerMaruyama = partial(PredictorCorrector, corrections=0, predictor="euler-maruyama")
