"""Denoising (Ho et al. 2020, arXiv:2006.11239) with the weightings of min-SNR-γ and EDM."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.base import DenoisingObjective
from anydiff.objectives.times import TimeLaw
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import Path

WEIGHTINGS = ("uniform", "data", "snr-clipped", "edm")


class Denoising(DenoisingObjective):
    """E[ w_D(t) · mean over elements of (D(x_t, t) - x0)² ].

    With SNR = (α/σ)² and κ = σ/α, the weighting sets w_D = SNR · w, w being the weight of the squared noise error:

    - ``uniform``: w = 1, w_D = SNR (Ho et al. 2020, the simple loss);
    - ``data``: w = 1/SNR, w_D = 1 (the plain squared error of the clean sample, as regressions use it);
    - ``snr-clipped``: w = min(SNR, γ)/SNR, w_D = min(SNR, γ) (Hang et al. 2023, arXiv:2303.09556);
    - ``edm``: w_D = (κ² + σ_data²)/(κ σ_data)² (Karras et al. 2022, arXiv:2206.00364), σ_data taken from the denoiser.

    The error is taken in the space the network predicts in (see :mod:`anydiff.objectives.base`); the value is the same.

    Args:
        weighting: one of the above.
        times: law of the training times, see :class:`~anydiff.objectives.times.TimeLaw`; by default ``log-normal``
            (P_mean = -1.2, P_std = 1.2) for ``edm`` and ``uniform`` otherwise.
        gamma: γ of ``snr-clipped``, positive.
        times_mean: mean of the time law, None for its own.
        times_std: standard deviation of the time law, None for its own.

    Raises:
        UnknownNameError: no such weighting or time law.
        AnydiffError: ``gamma`` or ``times_std`` is not positive.
    """

    def __init__(
        self,
        weighting: str = "uniform",
        times: str | None = None,
        gamma: float = 5.0,
        times_mean: float | None = None,
        times_std: float | None = None,
    ) -> None:
        if weighting not in WEIGHTINGS:
            raise UnknownNameError("weighting", weighting, WEIGHTINGS)
        if isinstance(gamma, bool) or not isinstance(gamma, (int, float)) or not 0 < gamma < math.inf:
            raise AnydiffError(f"gamma is {gamma!r}, but must be a positive number.")
        self.weighting = weighting
        self.gamma = float(gamma)
        self.law = TimeLaw(times or ("log-normal" if weighting == "edm" else "uniform"), times_mean, times_std)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1)."""
        return self.law(path, uniform)

    def noise_weight(self, path: GaussianPath, t: Tensor, sigma_data: float) -> Tensor:
        """w [B] at times t [B]."""
        squared_ratio = (path.sigma(t) / path.alpha(t)) ** 2
        if self.weighting == "snr-clipped":
            # min(SNR, γ)/SNR without forming an SNR that may be infinite.
            return (self.gamma * squared_ratio).clamp(max=1.0)
        if self.weighting == "data":
            return squared_ratio
        if self.weighting == "edm":
            return squared_ratio / sigma_data**2 + 1
        return torch.ones_like(t)
