"""The face of an objective, and the squared error of a denoiser in the space its network predicts in.

Any prediction F of a denoiser and its target F* (table below) obey D - x0 = q (F - F*), D = E[x0|x_t]. An error in the
noise prediction is α/σ times the error of D. So a loss that weighs the squared noise error by w is

    w (α/σ)² q² (F - F*)²,

and its factor g = (α/σ)² q² is written out per kind, so that nothing is divided by a tiny σ or α on its way:

========  =================================  ====================  with W = α σ' - σ α',  s² = σ² + α² σ_data²
kind      target F*                          g
========  =================================  ====================
data      x0                                 α²/σ²
noise     ε                                  1
velocity  α ε - σ x0                         α²/(α² + σ²)²
score     -ε/σ                               σ²
flow      α' x0 + σ' ε                       α²/W²
edm       (σ x0 - α σ_data² ε)/(σ_data s)    α² σ_data²/s²
========  =================================  ====================
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, batch_times
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath, per_row
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec


def target_and_gain(path: GaussianPath, t: Tensor, kind: str, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """(a, b, g), float64 [B]: the target of ``kind`` is a x0 + b ε, and g is its factor in the table above."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    if kind == "data":
        return one, zero, (alpha / sigma) ** 2
    if kind == "noise":
        return zero, one, one
    if kind == "velocity":
        return -sigma, alpha, (alpha / (alpha**2 + sigma**2)) ** 2
    if kind == "score":
        return zero, -1 / sigma, sigma**2
    if kind == "flow":
        return path.d_alpha(t), path.d_sigma(t), (alpha / wronskian(path, t)) ** 2
    if kind == "edm":
        scale = torch.sqrt(sigma**2 + (alpha * sigma_data) ** 2)
        return sigma / (sigma_data * scale), -alpha * sigma_data / scale, (alpha * sigma_data / scale) ** 2
    raise UnknownNameError("kind of prediction", kind, ("data", "noise", "velocity", "score", "flow", "edm"))


def wronskian(path: GaussianPath, t: Tensor) -> Tensor:
    """W = α σ' - σ α', positive on every path whose log-SNR decreases; 1 on the straight path of flow matching."""
    return path.alpha(t) * path.d_sigma(t) - path.sigma(t) * path.d_alpha(t)


class Objective(ABC):
    """A loss per example, and how the noise levels are distributed.

    A subclass gives :meth:`times` and :meth:`noise_weight`; both are float64 and per example.
    """

    @abstractmethod
    def times(self, path: GaussianPath, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1)."""

    @abstractmethod
    def noise_weight(self, path: GaussianPath, t: Tensor, sigma_data: float) -> Tensor:
        """The weight w [B] of the squared error of the noise prediction at times t [B]."""

    def __call__(
        self, denoiser: Denoiser, clean: Tensor, noise: Tensor, uniform: Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """Loss per example [B].

        Args:
            denoiser: what is trained; compared in its own kind of prediction.
            clean: x0 [B, *shape].
            noise: ε [B, *shape] of unit scale.
            uniform: one number in (0, 1) per example, [B]; becomes its time.
            condition: handed to the denoiser. With its ``loss_weight`` the loss is the weighted mean over the elements;
                with its ``mask`` entries of absent nodes are zero in x_t and left out of the mean. What the path leads
                to (``mu`` of a mean-reverting one) is a part of x_t too.

        Raises:
            AnydiffError: a loss weight or ``uniform`` of a shape that does not fit, or what the path leads to is
                missing.
        """
        clean, noise, mask = present_entries(denoiser.spec, clean, noise, condition)
        if uniform.shape != clean.shape[:1]:
            raise AnydiffError(f"uniform has shape {tuple(uniform.shape)}, but must be ({clean.shape[0]},).")
        path = denoiser.path
        t = batch_times(self.times(path, uniform), clean)
        target_x0, target_noise, gain = target_and_gain(path, t, denoiser.native_kind, denoiser.sigma_data)
        prediction = denoiser.native(path.mix(t, x0=clean, noise=noise, **path.given(condition)), t, condition)
        error = (prediction - per_row(target_x0, clean) * clean - per_row(target_noise, clean) * noise).square()
        weight = per_row(self.noise_weight(path, t, denoiser.sigma_data), gain) * gain
        if weight.ndim > 1:  # a product path: one weight per entry
            return element_mean(weight.to(error.dtype) * error, mask)
        return weight.to(error.dtype) * element_mean(error, mask)


def present_entries(
    spec: StateSpec | None, clean: Tensor, noise: Tensor, condition: Conditioning
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(x0, ε, weights of the elements), zero where no entry is."""
    weights = condition.loss_weight
    if spec is None or not spec.has_absent_entries:
        return clean, noise, weights
    present = spec.present(condition.mask).to(clean)
    clean, noise = torch.where(present > 0, clean, 0), torch.where(present > 0, noise, 0)
    return clean, noise, (present if weights is None else present * weights).expand(clean.shape)


def element_mean(error: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of ``error`` [B, *shape] per example, weighted by ``mask`` (zero where the mask is all zero): [B]."""
    if mask is None:
        return error.flatten(1).mean(1)
    if mask.ndim != error.ndim or any(m not in (1, e) for m, e in zip(mask.shape, error.shape, strict=True)):
        raise AnydiffError(
            f"loss_weight has shape {tuple(mask.shape)}, "
            f"but must be {tuple(error.shape)} or broadcast to it axis by axis."
        )
    mask = mask.to(error.dtype).expand(error.shape).flatten(1)
    total = mask.sum(1)
    # `where`, so that an unknown (NaN) element under a zero weight has no influence.
    weighted = torch.where(mask > 0, mask * error.flatten(1), 0).sum(1)
    return weighted / torch.where(total > 0, total, 1)
