"""The straight path of flow matching and rectified flow.

Lipman et al., "Flow matching for generative modeling", ICLR 2023; Liu et al., "Flow straight and fast", ICLR 2023. Both
let time run from noise to data; here, as everywhere in anydiff, t = 0 is data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.paths.base import GaussianPath
from anydiff.paths.path import check_range


@dataclass(frozen=True)
class Flow(GaussianPath):
    """α_t = 1 - t, σ_t = t, t in [t_end, 1]; λ = -logit(t) is -inf at t = 1, where x_1 is noise alone."""

    t_start: float = 1.0
    t_end: float = 1e-3
    default_grid: ClassVar[str] = "time"

    def __post_init__(self) -> None:
        check_range(self, latest=1.0)

    def _alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def _sigma(self, t: Tensor) -> Tensor:
        return t * 1.0

    def _log_snr(self, t: Tensor) -> Tensor:
        return torch.log1p(-t) - torch.log(t)

    def _time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr)
