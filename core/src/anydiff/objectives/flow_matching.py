"""Conditional flow matching (Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022, arXiv:2209.03003)."""

from __future__ import annotations

from torch import Tensor

from anydiff.objectives.base import DenoisingObjective, wronskian
from anydiff.objectives.times import TimeLaw
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import Path


class FlowMatching(DenoisingObjective):
    """E[ mean over elements of (u(x_t, t) - (α' x0 + σ' ε))² ], u the velocity dx_t/dt of the denoiser.

    Works for every kind of prediction: the velocity's error is (α σ' - σ α')/α times that of the noise prediction.

    Args:
        times: law of the training times, see :class:`~anydiff.objectives.times.TimeLaw`.
        times_mean: mean of the time law, None for its own.
        times_std: standard deviation of the time law, None for its own.

    Raises:
        UnknownNameError: no such time law.
        AnydiffError: ``times_std`` is not positive.
    """

    def __init__(self, times: str = "uniform", times_mean: float | None = None, times_std: float | None = None) -> None:
        self.law = TimeLaw(times, times_mean, times_std)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1)."""
        return self.law(path, uniform)

    def noise_weight(self, path: GaussianPath, t: Tensor, sigma_data: float) -> Tensor:
        """w = ((α σ' - σ α')/α)² [B] at times t [B]."""
        return (wronskian(path, t) / path.alpha(t)) ** 2
