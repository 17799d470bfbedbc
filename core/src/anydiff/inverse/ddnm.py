"""Null-space models: every data prediction is put where the measurement says, and nowhere else.

Wang, Yu, Zhang, "Zero-shot image restoration using denoising diffusion null-space model" (ICLR 2023):
D' = D + A⁺(y - A D), the direction e stays that of D, noise c = η σ_s. With noise n ~ N(0, s_y² I) in the measurement
(DDNM+), a direction of singular value s is corrected by the share λ = min(1, (c/α_s) s/s_y), and the variance of the
noise that the step draws there is less by (α_s λ s_y/s)², never below 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.inverse.method import PlanMethod, require_linear
from anydiff.inverse.problem import Problem
from anydiff.solvers.executor import Operation
from anydiff.solvers.walk import Operations, Walk

CORRECT, NOISE = "ddnm-correct", "ddnm-noise"


@dataclass(frozen=True)
class DDNM(PlanMethod):
    """DDNM, and DDNM+ where the measurement has noise; see the module.

    Args:
        eta: share of the noise that a step draws anew, in [0, 1].
    """

    eta: float = 0.85

    def __post_init__(self) -> None:
        Walk(self.eta)

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse what is not linear or not Gaussian; with noise, an operator without SVD.

        Raises:
            AnydiffError: the sentence names a method that can.
        """
        operator = require_linear(problem)
        whole = problem.gaussian.std[0].numel() == 1
        if (
            bool((problem.gaussian.std > 0).any())
            and operator.diagonal() is None
            and (operator.svd() is None or not whole)
        ):
            what = "noise of one size per entry" if operator.svd() is not None else "noise"
            raise AnydiffError(
                f"the method 'ddnm' takes {what} only with an operator whose singular values are known, which "
                f"{type(operator).__name__} does not have here; use the method 'pigdm'."
            )

    def walk(self, problem: Problem) -> Walk:
        """Straight down, by DDNM's rule, with the direction kept."""
        names = Operations()
        if bool(problem.operator.observed(problem.measurement).any()):
            names = Operations(correct=CORRECT, noise="" if not bool(problem.gaussian.std.any()) else NOISE)
        return Walk(self.eta, "ddnm", "kept", operations=names)

    def operations(self, problem: Problem) -> Mapping[str, Operation]:
        """The correction of D, and of the noise where the measurement has some."""
        operator, std = problem.linear_operator, problem.gaussian.std
        exact, y = not bool(std.any()), problem.measurement

        def correct(data: Tensor, *, t: float, limit: float) -> Tensor:
            nonlocal y
            if exact:
                y = y.to(data)  # once, where the type differs: as large as a state
                return operator.project(data, y)
            factor = operator.diagonal()
            if factor is not None:
                factor = factor.to(data)
                share = _share(limit, std.to(data) / factor.abs().clamp_min(1e-30))
                moved = share * problem.residual(data) / factor.where(factor != 0, torch.ones_like(factor))
                return data + torch.where(factor != 0, moved, 0.0)
            svd = operator.svd()
            assert svd is not None
            values = svd.values.to(data.device)
            share = _share(limit, std.to(data.device).flatten(1) / values.clamp_min(1e-30))
            return data + svd.filtered(problem.residual(data), share / values.clamp_min(1e-30))

        def noise(z: Tensor, *, t: float, limit: float) -> Tensor:
            factor = operator.diagonal()
            if factor is not None:
                factor = factor.to(z)
                left = _left(limit, std.to(z) / factor.abs().clamp_min(1e-30))
                return torch.where(factor != 0, left * z, z)
            svd = operator.svd()
            assert svd is not None
            values = svd.values.to(z)
            left = _left(limit, std.to(z).flatten(1) / values.clamp_min(1e-30))
            return svd.back(torch.where(values > 0, left, torch.ones_like(left)) * svd.to(z))

        return {CORRECT: correct, NOISE: noise}


def _share(limit: float, level: Tensor) -> Tensor:
    """λ = min(1, limit/level), 1 where there is no noise."""
    return torch.where(level > 0, limit / level.clamp_min(1e-30), 1.0).clamp_max(1.0)


def _left(limit: float, level: Tensor) -> Tensor:
    """The share of the step's noise that is left where the measurement's own comes in: sqrt(1 - (λ level/limit)²)."""
    return (1 - (_share(limit, level) * level / limit).square()).clamp_min(0.0).sqrt()
