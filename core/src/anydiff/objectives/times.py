"""Time laws: how the noise level of a training example follows from one uniform number.

Each law is the quantile function of a distribution on [t_end, t_start] of the path, so an example's time depends on its
own uniform number alone: not on the batch, the number of devices or the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.path import ClockedPath, Path, clocked

_Quantile = Callable[[Any, Tensor, float, float], Tensor]


def _uniform(path: Path, uniform: Tensor, mean: float, std: float) -> Tensor:
    """t uniform on [t_end, t_start]."""
    return path.t_end + (path.t_start - path.t_end) * uniform


def _uniform_log_snr(path: ClockedPath, uniform: Tensor, mean: float, std: float) -> Tensor:
    """λ uniform on the path's log-SNR range (Kingma et al., Variational diffusion models, NeurIPS 2021)."""
    first, last = path.log_snr_range()
    return path.time(first + (last - first) * uniform)


def _logit_normal(path: Path, uniform: Tensor, mean: float, std: float) -> Tensor:
    """t = t_end + (t_start - t_end) sigmoid(mean + std z), z normal (Esser et al. 2024, arXiv:2403.03206, eq. 19)."""
    share = torch.sigmoid(mean + std * torch.special.ndtri(uniform))
    return path.t_end + (path.t_start - path.t_end) * share


def _log_normal(path: ClockedPath, uniform: Tensor, mean: float, std: float) -> Tensor:
    """log(σ/α) normal (Karras et al. 2022, arXiv:2206.00364, table 1), truncated to the path's range."""
    # Truncation by quantiles: clamping would put a finite share of the examples on the two ends.
    ends = [(-path.log_snr(t) - mean) / std for t in (path.t_end, path.t_start)]
    low, high = (0.5 * math.erfc(-end / math.sqrt(2)) for end in ends)
    z: Tensor = torch.special.ndtri(low + (high - low) * uniform)
    return path.time(-(mean + std * z)).clamp(path.t_end, path.t_start)


TIME_LAWS: dict[str, tuple[_Quantile, float, float]] = {
    "uniform": (_uniform, 0.0, 1.0),
    "uniform-log-snr": (_uniform_log_snr, 0.0, 1.0),
    "logit-normal": (_logit_normal, 0.0, 1.0),
    "log-normal": (_log_normal, -1.2, 1.2),
}
"""Name -> (quantile function, default mean, default standard deviation)."""


BY_LOG_SNR = ("uniform-log-snr", "log-normal")
"""The laws of the log-SNR, which not every path has."""


class TimeLaw:
    """A distribution of training times on a path, by its quantile function.

    Args:
        name: ``uniform`` (in t), ``uniform-log-snr``, ``logit-normal`` (in t) or ``log-normal`` (in σ/α).
        mean: mean of the normal variable of the last two; None for the law's own (0 and -1.2).
        std: its standard deviation, positive; None for the law's own (1 and 1.2).

    Raises:
        UnknownNameError: no such law.
        AnydiffError: ``std`` is not positive.
    """

    def __init__(self, name: str, mean: float | None = None, std: float | None = None) -> None:
        if name not in TIME_LAWS:
            raise UnknownNameError("time law", name, TIME_LAWS)
        self.name = name
        self._quantile, default_mean, default_std = TIME_LAWS[name]
        self.mean = default_mean if mean is None else float(mean)
        self.std = default_std if std is None else float(std)
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise AnydiffError(
                f"times_mean is {self.mean} and times_std is {self.std}, but must be finite and times_std positive."
            )

    def __call__(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B], float64, in [t_end, t_start], from uniform numbers [B] in (0, 1).

        Raises:
            AnydiffError: the law is one of the log-SNR, which the path has not.
        """
        if self.name in BY_LOG_SNR:
            path = clocked(path, f"the law of training times {self.name!r}")
        return self._quantile(path, uniform.double(), self.mean, self.std)
