"""Limits on the data prediction: static clamp, and dynamic thresholding (Saharia et al., Imagen, NeurIPS 2022)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.paths.categorical import CategoricalPath
from anydiff.states import Conditioning


class Limit(Wrapper):
    """The data prediction through a function of itself."""

    @abstractmethod
    def limit(self, data: Tensor) -> Tensor:
        """The limited data prediction ``[B, *shape]``."""

    def native_kind(self, denoiser: Denoiser) -> PredictionKind:
        """The data."""
        return "data"

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The limited data prediction as ``kind``."""
        if isinstance(denoiser.path, CategoricalPath):
            raise NotApplicableError(
                f"{self!r} limits real numbers, but {denoiser.path!r} is of classes; take top-k or nucleus, or leave "
                "it out."
            )
        return convert(denoiser, x, t, self.limit(denoiser(x, t, condition)), "data", kind, condition)


@dataclass(frozen=True)
class Clamp(Limit):
    """D ← clip(D, low, high), for data known to lie in that range."""

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise AnydiffError(f"low is {self.low} and high is {self.high}, but low < high is needed.")

    def limit(self, data: Tensor) -> Tensor:
        """The clipped data prediction."""
        return data.clamp(self.low, self.high)


@dataclass(frozen=True)
class DynamicThreshold(Limit):
    """s = max(quantile_q |D| per sample, floor); D ← clip(D, -s, s) / s · floor. For bounded data, never for latents.

    The identity wherever the quantile of |D| is at most ``floor`` and no entry exceeds it.
    """

    quantile: float = 0.995
    floor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1 or self.floor <= 0:
            raise AnydiffError(
                f"quantile is {self.quantile} and floor is {self.floor}, but 0 < quantile <= 1 and floor > 0 must hold."
            )

    def limit(self, data: Tensor) -> Tensor:
        """The thresholded data prediction."""
        magnitude = data.detach().abs().flatten(1)
        # kthvalue instead of torch.quantile, which refuses more than 2^24 entries; linear interpolation as there.
        position = self.quantile * (magnitude.shape[1] - 1)
        low = int(position)
        lower = magnitude.kthvalue(low + 1, dim=1).values
        upper = magnitude.kthvalue(min(low + 2, magnitude.shape[1]), dim=1).values
        level = torch.lerp(lower, upper, position - low).clamp_min(self.floor)
        level = level.reshape(-1, *([1] * (data.ndim - 1)))
        return torch.maximum(torch.minimum(data, level), -level) * (self.floor / level)
