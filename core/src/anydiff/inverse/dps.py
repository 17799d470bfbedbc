"""Diffusion posterior sampling: down the gradient of the measurement's misfit at D, through the network.

Chung, Kim, Mccann, Klasky, Ye, "Diffusion posterior sampling for general noisy inverse problems" (ICLR 2023,
arXiv:2209.14687). Any operator and any noise whose likelihood can be differentiated. Two forms:

- ``published``: the next state of the plan is moved by -ζ ∇_{x_t} |y - A(D)|² / |y - A(D)|, the norm of each sample its
  own and without gradient. A shift Δ of that state is a shift Δ/b of D, with b the coefficient of D in the plan's next
  row, which is read from the plan.
- ``likelihood``: ∇ log p_t + ζ ∇_{x_t} log p(y | D), the score of the measurement if D were x_0; with the law of the
  noise, and inside any sampler. Where the noise is small it diverges: D is taken for x_0 at every noise level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, UnknownNameError, real_number
from anydiff.guidance.base import LinearGuidance, data_unit, differentiable_leaf, score_path, score_unit
from anydiff.inverse.method import GuidanceMethod
from anydiff.inverse.operators.conjugate import inner
from anydiff.inverse.problem import Problem, without_problem
from anydiff.paths.base import per_row
from anydiff.samplers import PlanSampler, Sampler
from anydiff.solvers.next_row import data_coefficients
from anydiff.solvers.plan import Coefficient
from anydiff.states import Conditioning

Form = Literal["published", "likelihood"]
SMALL = 1e-8
"""Residuals are not divided by less."""


@dataclass(frozen=True)
class DPS(GuidanceMethod):
    """DPS; see the module.

    Args:
        scale: ζ: 0.1 to 2 in the paper, by the task and the number of steps; of ``likelihood`` 1 is the method.
        form: ``published`` or ``likelihood``.
    """

    calls = "1 call and 1 backward pass"
    scale: float = 1.0
    form: Form = "published"

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise UnknownNameError("form of DPS", self.form, get_args(Form))
        real_number("scale", self.scale, 0)  # 0 leaves the sampler as it is

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse paths on which a shift of the score has no meaning."""
        score_path(denoiser)

    def layers(self, problem: Problem, denoiser: Denoiser, sampler: Sampler) -> list[Wrapper]:
        """The guidance, with the coefficients of the plan.

        Raises:
            AnydiffError: the published form inside a sampler without a plan.
        """
        if self.form == "likelihood":
            return [Misfit(problem, self)]
        if not isinstance(sampler, PlanSampler):
            raise AnydiffError(
                f"the published form of DPS moves the states of a plan, which {type(sampler).__name__} has not; use "
                "the method option form=likelihood."
            )
        return [Misfit(problem, self, data_coefficients(sampler.plan, denoiser.gaussian_path, denoiser.sigma_data))]


@dataclass(frozen=True, eq=False)
class Misfit(LinearGuidance):
    """The guidance of :class:`DPS`, of the rows of a problem.

    Attributes:
        problem: in the units of states; what differs per case is read from the condition.
        method: its options.
        coefficients: b of the plan by the times of its calls, for the published form.
    """

    problem: Problem
    method: DPS
    coefficients: Mapping[float, Coefficient] = field(default_factory=dict)

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The inner prediction, made in its own kind, with the shift in the kind that is asked for."""
        problem, told = self.problem.of(condition), without_problem(condition)
        unit = self._unit(denoiser, t, kind)
        if unit is None:
            return denoiser.predict(x, t, kind, told)
        keep = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            state = differentiable_leaf(x, keep)
            native = denoiser.native(state, t, told)
            data = convert(denoiser, state, t, native, denoiser.native_kind, "data", told)
            fit = problem.log_likelihood(data) if self.method.form == "likelihood" else _nearness(problem, data)
            if not fit.requires_grad:
                raise AnydiffError(
                    "the denoiser's prediction, or the operator, does not depend on the state by torch operations, so "
                    "nothing can be differentiated through it; use the method 'red-diff', or torch operations."
                )
            (slope,) = torch.autograd.grad(fit.sum(), state, create_graph=keep)
        if not keep:
            native = native.detach()
        prediction = convert(denoiser, x, t, native, denoiser.native_kind, kind, told)
        return prediction + self.method.scale * per_row(unit, x) * slope

    def _unit(self, denoiser: Denoiser, t: float | Tensor, kind: PredictionKind) -> Tensor | None:
        """What the gradient is multiplied by in a prediction of ``kind``; None where nothing is to be shifted."""
        if self.method.scale == 0:
            return None
        if self.method.form == "likelihood":
            return score_unit(denoiser, t, kind)
        b: Any = self.coefficients.get(float(t))
        if b is None:
            return None
        return data_unit(denoiser, t, kind) / torch.as_tensor(b, dtype=torch.float64)


def _nearness(problem: Problem, data: Tensor) -> Tensor:
    """-|y - A(D)|² / |y - A(D)| ``[B]``, with the divisor held fixed."""
    residual = problem.residual(data)
    squared = inner(residual, residual)
    return -squared / squared.detach().sqrt().clamp_min(SMALL)
