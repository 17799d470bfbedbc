"""DiffusionMBIR: volumes from a denoiser of slices, made one by a total variation across the slices.

Chung, Ryu, McCann, Klasky, Ye, "Solving 3D inverse problems using pre-trained 2D diffusion models" (CVPR 2023,
arXiv:2211.10655). Predictor-corrector sampling, and after each step one iteration of ADMM on

    |y - A x|²/2 + λ |D_z x|_1

whose state it moves, noise and all: a few steps of conjugate gradients on (Aᵀ A + ρ D_zᵀ D_z) x = Aᵀ y + ρ D_zᵀ (z - w)
from x, then z = shrink(D_z x + w, λ/ρ) and w = w + D_z x - z. The duals z and w are registers of the plan, so that no
object keeps them: each sample has its own, and they begin at 0. A is divided by its norm, so that λ and ρ do not depend
on how an operator is scaled. On a path with α ≠ 1 the iteration moves x/α.

The noise of the measurement is not looked at: λ and ρ stand for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, natural_number, real_number
from anydiff.inverse.method import OwnPlan, require_linear
from anydiff.inverse.operators.conjugate import conjugate_gradients
from anydiff.inverse.operators.differences import Differences
from anydiff.inverse.problem import Problem
from anydiff.inverse.proximal import shrink
from anydiff.paths.base import LinearPath
from anydiff.paths.product import ProductPath
from anydiff.solvers import compile_plan
from anydiff.solvers.dpm_solver import stage_counts
from anydiff.solvers.executor import Operation
from anydiff.solvers.plan import Plan
from anydiff.solvers.predictor_corrector import PredictorCorrector, predicted
from anydiff.solvers.program import LinearForm, Node, Program

BEGIN, STATE, SPLIT, DUAL = "mbir-begin", "mbir-state", "mbir-split", "mbir-dual"


@dataclass(frozen=True)
class DiffusionMBIR(OwnPlan):
    """DiffusionMBIR; see the module.

    Args:
        strength: λ, of the total variation, in the units of states. The paper's 0.04 and its ρ of 10 belong to a
            tomograph of greater norm.
        coupling: ρ, of the iteration. One step of conjugate gradients follows no greater one: with 0.1 and few calls
            samples were off by seven deviations.
        axis: of the slices, among the axes of a state.
        steps: of conjugate gradients in an iteration.
        snr: length of the corrector's step.
    """

    calls = "1 call; half of them correct"
    strength: float = 0.003
    coupling: float = 0.03
    axis: int = -1
    steps: int = 1
    snr: float = 0.16

    def __post_init__(self) -> None:
        for name in ("strength", "coupling", "snr"):
            real_number(name, getattr(self, name), 0)
        natural_number("steps", self.steps)

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse what is not linear or not Gaussian, and paths of several schedules.

        Raises:
            AnydiffError: the sentence names a method that can.
        """
        require_linear(problem)
        Differences(problem.operator.shape, self.axis)
        if isinstance(denoiser.path, ProductPath) or denoiser.gaussian_path.known:
            raise AnydiffError(
                f"the method 'diffusion-mbir' needs one schedule from noise to data, which {denoiser.path!r} is not; "
                "use 'pigdm'."
            )

    def plan(self, problem: Problem, path: LinearPath, nfe: int, grid: str | Sequence[float] | None) -> Plan:
        """Predictor-corrector steps, each followed by an iteration; the last state is the sample."""
        if natural_number("nfe", nfe) < 2:
            raise AnydiffError(
                f"nfe is {nfe}, but this method needs at least 2 network calls, for a correction and a step; raise nfe."
            )
        seen = bool(problem.operator.observed(problem.measurement).any())
        solver = _Reconstructing(snr=self.snr or 1e-12, step="norm", corrections=int(self.snr > 0), iterates=seen)
        return compile_plan(solver, path, nfe, "log-snr" if grid is None else grid, end="stop")

    def without_denoiser(self, problem: Problem, iterations: int) -> Tensor:
        """The least total variation that fits: so many iterations of ADMM from 0, ``[C, *shape]``."""
        run = self.operations(problem)
        x = torch.zeros(problem.cases, *problem.operator.shape, dtype=torch.float64)
        z = w = x
        for _ in range(natural_number("iterations", iterations)):
            x = run[STATE](x, z, w, t=0.0, alpha=1.0)
            z = run[SPLIT](x, w, t=0.0, alpha=1.0)
            w = run[DUAL](x, z, w, t=0.0, alpha=1.0)
        return x

    def operations(self, problem: Problem) -> Mapping[str, Operation]:
        """One iteration."""
        operator, across = problem.linear_operator, Differences(problem.operator.shape, self.axis)
        squared = operator.norms.square().reshape(-1, *[1] * len(operator.shape))
        rho = self.coupling
        limit = self.strength / rho if rho else 0.0

        def images(p: Tensor) -> tuple[Tensor, Tensor]:
            found = operator.adjoint(operator.forward(p)) / squared.to(p) + rho * across.adjoint(across.forward(p))
            return found, p

        def state(x: Tensor, z: Tensor, w: Tensor, *, t: float, alpha: float) -> Tensor:
            volume = x / alpha
            pull = operator.adjoint(problem.residual(volume)) / squared.to(x)
            right = pull + rho * across.adjoint(z - w - across.forward(volume))
            return alpha * (volume + conjugate_gradients(images, right, self.steps)[0])

        def split(x: Tensor, w: Tensor, *, t: float, alpha: float) -> Tensor:
            return shrink(across.forward(x / alpha) + w, limit)

        def dual(x: Tensor, z: Tensor, w: Tensor, *, t: float, alpha: float) -> Tensor:
            return w + across.forward(x / alpha) - z

        def begin(x: Tensor, *, t: float) -> Tensor:
            return torch.zeros_like(x)

        return {BEGIN: begin, STATE: state, SPLIT: split, DUAL: dual}


@dataclass(frozen=True)
class _Reconstructing(PredictorCorrector):
    """Predictor-corrector steps with an iteration after each of them."""

    iterates: bool = field(default=True)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """The rows; duals are registers like any other."""
        x = program.start()
        z = w = program.apply(BEGIN, x, node=nodes[0]) if self.iterates else x
        counts = stage_counts(self.calls_per_step, len(nodes) - 1, program.budget)
        for (s, t), count in zip(itertools.pairwise(nodes), counts, strict=True):
            for _ in range(count - 1):
                x = self._correct(program, x, s, t)
            x = predicted(program, x, s, t, self.predictor)
            if self.iterates and t.alpha > 0:
                x = program.apply(STATE, x, z, w, node=t, alpha=t.alpha)
                z = program.apply(SPLIT, x, w, node=t, alpha=t.alpha)
                w = program.apply(DUAL, x, z, w, node=t, alpha=t.alpha)
        return x
