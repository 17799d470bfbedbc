"""Pseudo-inverse guidance: the exact posterior score if x_0 given x_t were Gaussian.

Song, Vahdat, Mardani, Kautz, "Pseudoinverse-guided diffusion models for inverse problems" (ICLR 2023), for
y = A x_0 + n with n ~ N(0, Σ): with D = E[x_0 | x_t], J = dD/dx_t and a guess V of Cov(x_0 | x_t),

    ∇ log p(y | x_t) = Jᵀ Aᵀ (A V Aᵀ + Σ)⁻¹ (y - A D).

``isotropic``: V = r_t² I with r_t² = σ_d² σ²/(σ² + α² σ_d²), right for N(0, σ_d² I), σ_d the denoiser's ``sigma_data``
(the paper has σ_d = 1). One backward pass. ``jacobian``: V = (σ²/α) J, which is Cov(x_0 | x_t) for every law of the
data, so that this is exact wherever x_0 given x_t is Gaussian (moment matching: Rozet et al. 2024, arXiv:2405.13712).
The system is solved by a few steps of conjugate gradients, each of one backward pass; a network's Jacobian need not be
positive, so a row stops at a direction of negative curvature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.oracles import GaussianOracle
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, NonFiniteError, UnknownNameError, natural_number, real_number
from anydiff.guidance.base import LinearGuidance, differentiable_leaf, score_path, score_unit
from anydiff.inverse.method import GuidanceMethod, require_linear
from anydiff.inverse.operators.conjugate import conjugate_gradients
from anydiff.inverse.operators.mask import Mask
from anydiff.inverse.problem import Problem, without_problem
from anydiff.inverse.proximal import gain
from anydiff.paths.base import per_row
from anydiff.paths.product import ProductPath
from anydiff.samplers import PlanSampler, Sampler
from anydiff.solvers.executor import execute
from anydiff.states import Conditioning

Covariance = Literal["isotropic", "jacobian"]
STEPS = 2
"""More are better on exact scores, and worse on small networks (pictures: docs/inverse.md)."""
CORRELATED = 10.0
"""Variance of a direction in which many entries vary together, in units of an entry's: of the field of
docs/inverse.md, whose plans with errors of more than two deviations of the posterior are told by it."""
DIVERGED = 10.0
"""By so much an entry may miss a measurement of 1; plans of few calls miss it by up to 5 (``ddpm``, 5 calls: 3)."""


@dataclass(frozen=True)
class PiGDM(GuidanceMethod):
    """PiGDM; see the module.

    Args:
        covariance: ``isotropic`` or ``jacobian``.
        steps: of conjugate gradients, for ``jacobian``; each costs a backward pass.
        scale: factor on the shift; 1 is the method.
    """

    calls = "1 call and 1 backward pass (jacobian: one per step)"
    covariance: Covariance = "isotropic"
    steps: int = STEPS
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.covariance not in get_args(Covariance):
            raise UnknownNameError("covariance of PiGDM", self.covariance, get_args(Covariance))
        natural_number("steps", self.steps)
        real_number("scale", self.scale, 0)

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse what is not linear or not Gaussian, and paths on which a shift of the score has no meaning."""
        require_linear(problem)
        score_path(denoiser)

    @property
    def bends(self) -> bool:
        """``isotropic`` does: its shift is no smooth function of the noise level, which high orders rely on."""
        return self.covariance == "isotropic"

    def layers(self, problem: Problem, denoiser: Denoiser, sampler: Sampler) -> list[Wrapper]:
        """The guidance.

        Raises:
            AnydiffError: ``isotropic`` inside a plan in which it diverges.
        """
        if self.bends and self.scale and bool(problem.operator.observed(problem.measurement).any()):
            _require_stable(self, problem, denoiser, sampler)
        return [PseudoInverse(problem, self)]


MMPS = partial(PiGDM, covariance="jacobian")


@dataclass(frozen=True)
class _Silent:
    """Noise of size 0, of the shape of ``like``."""

    like: Tensor

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros_like(self.like, dtype=dtype, device=device)


def _require_stable(method: PiGDM, problem: Problem, denoiser: Denoiser, sampler: Sampler) -> None:
    """Refuse a plan in which the guidance diverges where data are correlated, as they are in every field.

    The plan is run on one entry of an exact Gaussian of :data:`CORRELATED` times the assumed variance, measured as one
    deviation with a tenth of noise. The posterior's mean is nearly 1; what comes out says by how much the plan
    amplifies the guidance's error.

    Raises:
        AnydiffError: by more than :data:`DIVERGED`.
    """
    if not isinstance(sampler, PlanSampler):
        return
    path, unit = denoiser.gaussian_path, denoiser.sigma_data
    if path.known:
        return
    shape = problem.operator.shape if isinstance(path, ProductPath) else (1,)
    entry = GaussianOracle(path, torch.zeros(shape), CORRELATED * unit**2)
    entry.sigma_data = unit
    whole = Mask(shape, torch.ones(shape, dtype=torch.bool))
    layer = PseudoInverse(Problem(whole, torch.full(shape, unit), 0.1 * unit), method)
    begin = torch.zeros(1, *shape, dtype=torch.float64)
    try:
        found = float(execute(sampler.plan, layer(entry), begin, noise=_Silent(begin)).abs().max()) / unit
    except NonFiniteError:
        found = math.inf
    if found > DIVERGED:
        raise AnydiffError(
            f"the method 'pigdm' diverges inside of {sampler.plan.solver} with {sampler.plan.nfe} calls: of an entry "
            f"that varies with others and is measured as 1 it makes {found:.3g}; take the solver 'ddpm' or "
            "'dpm-solver++-2m', more calls (nfe), or the method 'mmps'."
        )


@dataclass(frozen=True, eq=False)
class PseudoInverse(LinearGuidance):
    """∇ log p_t(x_t) ← ∇ log p_t(x_t) + ∇ log p(y | x_t), of the rows of a problem; see the module.

    Attributes:
        problem: in the units of states; what differs per case is read from the condition.
        method: its options.
    """

    problem: Problem
    method: PiGDM = field(default_factory=PiGDM)

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The inner prediction, made in its own kind, with the shift of the score in the kind that is asked for."""
        problem, told = self.problem.of(condition), without_problem(condition)
        keep = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            state = differentiable_leaf(x, keep)
            native = denoiser.native(state, t, told)
            data = convert(denoiser, state, t, native, denoiser.native_kind, "data", told)
            if not data.requires_grad:
                raise AnydiffError(
                    "the denoiser's prediction does not depend on the state by torch operations, so nothing can be "
                    "differentiated through it; use the method 'ddnm', or a denoiser made of torch operations."
                )
            shift = self._shift(problem, denoiser, state, data, t)
            if denoiser.spec is not None and any(leaf.symmetric for leaf in denoiser.spec.leaves):
                shift = denoiser.spec.project(shift, told.mask)
        if not keep:
            native, shift = native.detach(), shift.detach()
        prediction = convert(denoiser, x, t, native, denoiser.native_kind, kind, told)
        return prediction + self.method.scale * per_row(score_unit(denoiser, t, kind), x) * shift

    def _shift(self, problem: Problem, denoiser: Denoiser, state: Tensor, data: Tensor, t: float | Tensor) -> Tensor:
        """∇ log p(y | x_t) ``[B, *shape]``."""
        operator, noise = problem.linear_operator, problem.variance(data)
        residual = problem.residual(data if torch.is_grad_enabled() and state.grad_fn is not None else data.detach())
        times = torch.as_tensor(t, dtype=torch.float64)
        alpha, sigma = denoiser.gaussian_path.alpha(times), denoiser.gaussian_path.sigma(times)

        def back(value: Tensor) -> Tensor:
            return torch.autograd.grad(data, state, value, retain_graph=True, create_graph=state.grad_fn is not None)[0]

        if self.method.covariance == "isotropic":
            spread = denoiser.sigma_data**2
            prior = _rows(spread * sigma**2 / (sigma**2 + alpha**2 * spread), data)
            return back(gain(operator, residual, prior, noise))
        unit = _rows(torch.where(alpha > 0, sigma**2 / alpha, 0.0), data)

        def images(p: Tensor) -> tuple[Tensor, Tensor]:
            pulled = back(operator.adjoint(p))
            return operator.forward(unit * pulled) + noise * p, pulled

        found = conjugate_gradients(images, residual, self.method.steps, 1e-6)[1]
        return torch.zeros_like(data) if found is None else found


def _rows(value: Tensor, like: Tensor) -> Tensor:
    """A coefficient of the path as ``[1 or B, ones or *shape]``, in the type of ``like``."""
    found = per_row(value, like)
    return found.reshape(1, *[1] * (like.ndim - 1)) if found.ndim == 0 else found
