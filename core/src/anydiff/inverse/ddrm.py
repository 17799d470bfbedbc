"""Denoising diffusion restoration models: each singular direction of the operator by its own rule.

Kawar, Elad, Ermon, Song, "Denoising diffusion restoration models" (NeurIPS 2022). With A = U S Vᵀ, in the coordinates
x̄ = Vᵀ x/α of noise level κ = σ/α, ȳ = S⁻¹ Uᵀ y, D̄ = Vᵀ D, ē the direction, s_y the noise, from t to κ':

- s = 0, nothing measured:  D̄ + sqrt(1-η²) κ' ē + η κ' z
- s κ' >= s_y:  (1-η_b) D̄ + η_b ȳ + sqrt(κ'² - η_b² s_y²/s²) z
- s κ' < s_y:   D̄ + sqrt(1-η²) κ' (Uᵀ y - s D̄)/s_y + η κ' z

Equality belongs to the second case, so that without noise the last step (κ' = 0) gives y; in the authors' code it
belongs to none. What is measured begins at ȳ with the noise that it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, real_number
from anydiff.inverse.method import PlanMethod, require_linear
from anydiff.inverse.problem import Problem
from anydiff.solvers.executor import Operation
from anydiff.solvers.walk import Operations, Walk

START, STEP = "ddrm-start", "ddrm-step"


@dataclass(frozen=True)
class DDRM(PlanMethod):
    """DDRM; see the module.

    Args:
        eta: η, noise of directions that are not measured, or whose noise is greater than the step's.
        eta_b: η_b, weight of the measurement in the others.
    """

    eta: float = 0.85
    eta_b: float = 1.0

    def __post_init__(self) -> None:
        for name in ("eta", "eta_b"):
            real_number(name, getattr(self, name), 0, 1)

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse an operator without SVD, or noise that differs between the entries of a measurement.

        Raises:
            AnydiffError: the sentence names a method that can.
        """
        operator = require_linear(problem)
        if operator.svd() is None:
            raise AnydiffError(
                f"the method 'ddrm' needs the singular values of the operator, which {type(operator).__name__} does "
                "not tell; use the method 'pigdm' (any linear operator) or, without noise, 'ddnm'."
            )
        if problem.gaussian.std[0].numel() > 1 and operator.diagonal() is None:
            raise AnydiffError(
                "the method 'ddrm' takes noise of one size for all entries, or of any sizes for a mask; use the method "
                "'pigdm'."
            )

    def walk(self, problem: Problem) -> Walk:
        """Straight down, each step an operation; DDIM(η) where nothing was measured."""
        seen = bool(problem.operator.observed(problem.measurement).any())
        return Walk(self.eta, "ddnm", "kept", operations=Operations(start=START, step=STEP) if seen else Operations())

    def operations(self, problem: Problem) -> Mapping[str, Operation]:
        """The start, and the step."""
        svd = problem.linear_operator.svd()
        assert svd is not None

        def known(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """S, Uᵀ y and s_y of the directions, in the type of ``x``."""
            assert svd is not None
            noise = problem.gaussian.std.to(x).flatten(1)
            return svd.values.to(x), svd.measured(problem.measurement.to(x)).to(x), noise

        def start(x: Tensor, *, t: float, alpha: float, sigma: float) -> Tensor:
            assert svd is not None
            values, y, noise = known(x)
            safe = values.clamp_min(1e-30)
            left = sigma**2 - (alpha * noise / safe).square()
            fresh = svd.to(x)
            begun = alpha * y / safe + left.clamp_min(0.0).sqrt() * fresh / max(sigma, 1e-30)
            return svd.back(torch.where((values > 0) & (left >= 0), begun, fresh))

        def step(
            x: Tensor, data: Tensor, z: Tensor, *, t: float, alpha: float, sigma: float, next_alpha: float,
            next_sigma: float,
        ) -> Tensor:  # fmt: skip
            assert svd is not None
            values, y, noise = known(x)
            level = next_sigma / next_alpha
            clean, fresh = svd.to(data), svd.to(z)
            direction = (svd.to(x) - alpha * clean) / sigma
            old = (1 - self.eta**2) ** 0.5 * level
            plain = clean + old * direction + self.eta * level * fresh
            safe, size = values.clamp_min(1e-30), noise.clamp_min(1e-30)
            left = (level**2 - (self.eta_b * noise / safe).square()).clamp_min(0.0).sqrt()
            before = (1 - self.eta_b) * clean + self.eta_b * y / safe + left * fresh
            after = clean + old * (y - values * clean) / size + self.eta * level * fresh
            found = torch.where(values > 0, torch.where(values * level >= noise, before, after), plain)
            return svd.back(next_alpha * found)

        return {START: start, STEP: step}
