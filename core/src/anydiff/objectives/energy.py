"""The energy of a clean state under a diffusion model: its denoising loss at one noise level, differentiable."""

from __future__ import annotations

from torch import Tensor

from anydiff.denoisers.base import Denoiser, batch_times
from anydiff.states import UNCONDITIONAL, Conditioning


def denoising_energy(
    denoiser: Denoiser, states: Tensor, t: float | Tensor, noise: Tensor, condition: Conditioning = UNCONDITIONAL
) -> Tensor:
    """E(y) = Σ over elements of (ε - ε_θ(α_t y + σ_t ε, t))²: ``[B]``, low where the model finds y likely.

    Its gradient by y, averaged over ε, points away from the data; the energy differs from the noise level's term of the
    negative evidence bound by a factor (Graikos et al. 2022, arXiv 2206.09012; used to refine forecasts in TSDiff,
    Kollovieh et al. 2023, arXiv 2307.11494).

    Args:
        denoiser: the model.
        states: y ``[B, *shape]``.
        t: a time, or one per row.
        noise: ε ``[B, *shape]`` of unit scale.
        condition: handed to the denoiser.
    """
    noised = denoiser.path.noised(batch_times(t, states), states, noise, condition)
    return (noise - denoiser.predict(noised, t, "noise", condition)).square().flatten(1).sum(1)
