"""Gradient guidance: the score of the model plus the gradient of any differentiable log f.

With a classifier's log p(y | x_t) it is classifier guidance (Dhariwal and Nichol 2021, arXiv 2105.05233); with a
measurement's log p(y | D(x_t)), differentiated through the network, diffusion posterior sampling (Chung et al. 2023,
arXiv 2209.14687) and TSDiff's observation self-guidance (Kollovieh et al. 2023, arXiv 2307.11494); with a value or a
policy, planning (Janner et al. 2022, arXiv 2205.09991; Jackson et al. 2024, arXiv 2404.06356).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, asks_condition, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance.base import LinearGuidance, Scale, differentiable_leaf, scale_at, score_unit
from anydiff.paths.base import per_row
from anydiff.states import Conditioning

LogDensity = Callable[..., Tensor]
"""``f(value [B, *shape], t)`` or ``f(value, t, condition) -> [B]``: the log of a density in row b, of row b alone."""

POINTS = ("state", "data", "data-direct")
_INDEPENDENT = "log_density does not depend on its input; compute it from that with torch operations."


@dataclass(frozen=True)
class ScoreGuidance(LinearGuidance):
    """∇log p_t(x_t) ← ∇log p_t(x_t) + s ∇ log f, that is D ← D + s (σ²/α) ∇ log f; see the module.

    Where f is evaluated and differentiated:

    - ``at="state"``: ∇_x log f(x_t), with f of the noisy state. With log f = log E[g(x_0) | x_t] and s = 1 the samples
      are exactly of the law p(x_0) g(x_0).
    - ``at="data"``: ∇_x log f(D(x_t)), through the network: one call and one backward pass, about three calls' time.
    - ``at="data-direct"``: ∇_D log f(D), without the chain rule through the network: no backward pass, and no claim.

    The gradient is always taken at the state that the plan evaluates, so it works inside every plan. A plan's step
    scales it: DDPM's ancestral step adds s β_t/sqrt(1-β_t) ∇log f to its mean, DDIM adds -s σ_t ∇log f to the noise.
    Where α = 0 the state says nothing of the data and the shift is 0/0; there it is left out.

    Args:
        log_density: log f, one number per row from torch operations.
        scale: s: a number, a tensor ``[B]`` (one per sample), or a function of the time t. 0 leaves the sampler as it
            is, bit for bit, and spends no backward pass.
        at: ``"state"``, ``"data"`` or ``"data-direct"``.
        names: conditions that are for log f alone: it is given every condition, the network all but these.

    Raises:
        UnknownNameError: no such ``at``.
        AnydiffError: the scale is not finite, or f is not one differentiable number per row.
    """

    log_density: LogDensity
    scale: Scale = 1.0
    at: str = "data"
    names: tuple[str, ...] = ()
    _asks: bool = field(default=True, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_asks", asks_condition(self.log_density))
        if self.at not in POINTS:
            raise UnknownNameError("place of guidance", self.at, POINTS)
        if isinstance(self.scale, (int, float)) and not math.isfinite(self.scale):
            raise AnydiffError(f"scale is {self.scale}, but guidance needs a finite number; try 1.")

    @property
    def bends(self) -> bool:
        """Unless the scale is the number 0, where no prediction is changed."""
        return not (isinstance(self.scale, (int, float)) and self.scale == 0)

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The inner prediction, made in its own kind, with the shift in the kind that is asked for."""
        scale = scale_at(self.scale, t, x.shape[0])
        known = condition.without(self.names) if self.names else condition
        if isinstance(scale, float) and scale == 0.0:
            return denoiser.predict(x, t, kind, known)
        native, gradient = self._gradient(denoiser, x, t, known, condition)
        prediction = convert(denoiser, x, t, native, denoiser.native_kind, kind, known)
        strength = scale if isinstance(scale, Tensor) else torch.tensor(scale, dtype=torch.float64)
        return prediction + per_row(score_unit(denoiser, t, kind), x) * per_row(strength, x) * gradient

    def _gradient(
        self,
        denoiser: Denoiser,
        x: Tensor,
        t: float | Tensor,
        known: Conditioning,
        condition: Conditioning,
    ) -> tuple[Tensor, Tensor]:
        """The inner denoiser's native prediction and ∇ log f, both ``[B, *shape]``.

        The graph is kept only where the caller differentiates through the guided denoiser.
        """
        keep = torch.is_grad_enabled()
        through = self.at == "data"
        with torch.inference_mode(False), torch.enable_grad():
            state = differentiable_leaf(x, keep)
            with torch.set_grad_enabled(keep or through):
                native = denoiser.predict(state, t, denoiser.native_kind, known)
                of_state = self.at == "state"
                kind = denoiser.native_kind
                value = state if of_state else convert(denoiser, state, t, native, kind, "data", known)
            point = state if through or of_state else differentiable_leaf(value, keep)
            log_density = self._log_density(value if through else point, t, condition)
            (gradient,) = torch.autograd.grad(log_density.sum(), point, create_graph=keep, allow_unused=True)
        if gradient is None:
            raise AnydiffError(_INDEPENDENT)
        return (native, gradient) if keep else (native.detach(), gradient)

    def _log_density(self, value: Tensor, t: float | Tensor, condition: Conditioning) -> Tensor:
        out = self.log_density(value, t, condition) if self._asks else self.log_density(value, t)
        if not isinstance(out, Tensor) or out.shape != value.shape[:1]:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise AnydiffError(
                f"log_density gave {found}, but must give one number per row, a tensor [{value.shape[0]}]; sum over "
                "the other axes."
            )
        if not out.requires_grad:
            raise AnydiffError(_INDEPENDENT)
        return out
