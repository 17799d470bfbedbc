"""The straight path of flow matching and rectified flow.

Lipman et al., "Flow matching for generative modeling", ICLR 2023; Liu et al., "Flow straight and fast", ICLR 2023. Both
let time run from noise to data; here, as everywhere in anydiff, t = 0 is data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError
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


@dataclass(frozen=True)
class ShiftedFlow(Flow):
    """:class:`Flow`, whose grid ``time`` stays longer in noise: nodes u evenly spaced become s u/(1 + (s - 1) u).

    Esser et al., "Scaling rectified flow transformers", 2024, whose s is 3; s = 1 shifts nothing.
    """

    stretch: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.stretch < float("inf"):
            raise AnydiffError(f"stretch is {self.stretch}, but must be a positive number; 1 shifts nothing.")
        super().__post_init__()

    def spaced(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """See :meth:`anydiff.paths.Path.spaced`."""
        return self.stretch * times / (1 + (self.stretch - 1) * times)
