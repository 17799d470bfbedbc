"""SEEDS-1, 2 and 3: exponential Runge-Kutta methods for the reverse SDE, on the noise prediction.

Gonzalez et al., "SEEDS: exponential SDE solvers for fast high-quality sampling from diffusion models", NeurIPS 2023
(arXiv 2305.14267). The exact solution of the reverse SDE from s to t, h = λ_t - λ_s, is

    x_t = (α_t/α_s) x_s - 2 α_t ∫ e^{-λ} ε dλ + noise of variance σ_t² (e^{2h} - 1),

so each stage is DPM-Solver's with twice the weight of ε. The noise is a Wiener integral: between the stages' nodes it
has independent increments, and the increment over [c_i h, c_j h], as seen at the node c h, has the standard deviation
σ_c sqrt(e^{2(c-c_i)h} - e^{2(c-c_j)h}). One draw per increment, shared by every row that has passed it.

The weak order, measured on the variance of Gaussian data, is 1 for SEEDS-1 and 2 for SEEDS-2 and 3. At few steps the
weights e^h are large and errors of the noise prediction explode: below about 20 steps SDE-DPM-Solver++ is the better
choice.

NFE: p calls per step and ceil(n/p) steps, the first step of the lower order that the remainder pays. A step from pure
noise (flow at t = 1) is one of DDPM, which costs one call; so is a step to clean data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from anydiff.solvers.base import Solver
from anydiff.solvers.ddim import ddim_row
from anydiff.solvers.dpm_solver import stage_counts
from anydiff.solvers.exponential import (
    Known,
    checked_order,
    in_place,
    inside,
    predict,
    step_size,
    transfer_ratio,
    weights,
)
from anydiff.solvers.program import LinearForm, Node, Program


@dataclass(frozen=True)
class SEEDS(Solver):
    """SEEDS of 1, 2 or 3 stages; see the module."""

    stages: int = 3

    def __post_init__(self) -> None:
        checked_order("stages", self.stages, 3)

    @property
    def order(self) -> int:
        """The number of stages, at most 2."""
        return min(self.stages, 2)

    @property
    def calls_per_step(self) -> int:
        """The number of stages."""
        return self.stages

    def steps(self, nfe: int) -> int:
        """ceil(nfe / stages)."""
        return -(-nfe // self.stages)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Exponential stages of the reverse SDE with their shared draws; steps from α = 0 or to σ = 0 are DDIM rows."""
        x = program.start()
        counts = stage_counts(self.stages, len(nodes) - 1, program.budget)
        for (s, t), count in zip(itertools.pairwise(nodes), counts, strict=True):
            if s.alpha == 0 or t.sigma == 0:
                h = step_size(s, t)
                std = t.sigma * math.sqrt(-math.expm1(-2 * h))
                shrink = t.sigma * math.exp(-h)
                x = ddim_row(program, x, program.evaluate(x, s), s, t, std, shrink)
            else:
                x = _step(program, x, s, t, count)
        return x


def _step(program: Program, x: LinearForm, s: Node, t: Node, stages: int) -> LinearForm:
    known = [predict(program, x, s, "noise")]
    draws: list[LinearForm] = []
    lengths: list[float] = []
    for stage in range(1, stages + 1):
        draws.append(program.noise())
        node = t if stage == stages else inside(s, t, stage / stages)
        stencil = known
        if stage == stages and in_place(s, t, known):
            stencil = [known[0], known[2]] if stages == 3 else [Known(s, known[-1].value)]
        previous = known[-1].node
        lengths.append(step_size(s, t) / stages if s.clock is None else step_size(previous, node))
        y = transfer_ratio(s, node, "noise") * x
        for weight, entry in zip(weights(s, node, [k.node for k in stencil], "noise"), stencil, strict=True):
            y = y + 2 * weight * entry.value
        for passed, draw in enumerate(draws):
            # e^{2(λ-λ_i)} - e^{2(λ-λ_j)} for the stage from i to j, without cancellation.
            rest = 2 * sum(lengths[passed + 1 :])
            y = y + node.sigma * math.sqrt(math.exp(rest) * math.expm1(2 * lengths[passed])) * draw
        if stage < stages:
            known.append(predict(program, y, node, "noise"))
    return y


SEEDS1 = partial(SEEDS, stages=1)
SEEDS2 = partial(SEEDS, stages=2)
SEEDS3 = partial(SEEDS, stages=3)
