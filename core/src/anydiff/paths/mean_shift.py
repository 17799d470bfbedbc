"""The forward process of MT-Diffusion (ICLR 2024, arXiv 2407.17571): several data types aggregated into one diffusion.

With an aggregate m of all parts of a sample, each step adds a share b_t of it:

    q(z_t | z_{t-1}, m) = N(a_t z_{t-1} + b_t m, (1 - a_t²) I),   so   z_t = A_t z_0 + k_t m + sqrt(1 - A_t²) ε,

A_t = Π a_s and k_t = a_t k_{t-1} + b_t, k_0 = 0. So z_t - k_t m is the ordinary variance-preserving process. Here the N
steps lie at the times i/N, and between them k/A is linear in t; b_t = A_t w_t makes k_t/A_t the cumulative sum of w,
and b_t = a_t w_t the other reading of the paper's weights.

:class:`MeanShift` is the process where m is known beside the data. :class:`Aggregated` is that of z_0 = m, where no m
is known when samples are drawn: z_t = (A_t + k_t) m + sqrt(1 - A_t²) ε.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import Role
from anydiff.paths.variance_preserving import VPLinear

SHARES = (0.02,)
"""b of a single step, which leaves k_T = 0.02: the prior is reached."""


@dataclass(frozen=True)
class MeanShift(VPLinear):
    """x_t = A_t x_0 + k_t m + σ_t ε with A and σ of :class:`~anydiff.paths.VPLinear` and the known source ``mean`` m.

    Args:
        shares: b_1, ..., b_N: what each of N steps over the times 1/N, 2/N, ..., 1 adds of m; any finite numbers.

    Raises:
        AnydiffError: no numbers, or one that is not finite.
    """

    shares: tuple[float, ...] = SHARES
    sources: ClassVar[Mapping[str, Role]] = {"x0": "clean", "mean": "known", "noise": "noise"}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "shares", _numbers(self.shares))

    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """A_t (``x0``), k_t (``mean``) and σ_t (``noise``)."""
        alpha = self._alpha(t)
        return {"x0": alpha, "mean": alpha * _carried(self, t), "noise": self._sigma(t)}


@dataclass(frozen=True)
class Aggregated(GaussianPath):
    """x_t = (A_t + k_t) x_0 + σ_t ε: the process of :class:`MeanShift` whose x_0 is the aggregate itself.

    Args:
        shares: as there; the log-SNR must still fall.
        beta_min: rate of :class:`~anydiff.paths.VPLinear` at t = 0.
        beta_max: at t = 1.
        t_start: where sampling starts.
        t_end: where it ends.

    Raises:
        AnydiffError: numbers that are not finite, or with which the signal grows again or vanishes.
    """

    shares: tuple[float, ...] = SHARES
    beta_min: float = 0.1
    beta_max: float = 20.0
    t_start: float = 1.0
    t_end: float = 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", _numbers(self.shares))
        base = self._base
        for step in range(len(self.shares)):
            # Between two knots 1 + k/A is linear, so ten places tell where it falls or grows too fast.
            t = (torch.linspace(0, 1, 11, dtype=torch.float64)[1:] + step) / len(self.shares)
            signal = 1 + _carried(base, t)
            rising = bool((signal <= 0).any()) or bool((self._log_snr(t).diff() >= 0).any())
            if rising:
                raise AnydiffError(
                    f"shares[{step}] is {self.shares[step]:g}, with which the signal over the noise does not fall from "
                    f"t={step / len(self.shares):g} on, or vanishes; take a smaller number there."
                )

    @property
    def _base(self) -> MeanShift:
        return MeanShift(self.beta_min, self.beta_max, self.t_start, self.t_end, self.shares)

    def _alpha(self, t: Tensor) -> Tensor:
        return self._base._alpha(t) * (1 + _carried(self._base, t))

    def _sigma(self, t: Tensor) -> Tensor:
        return self._base._sigma(t)

    def _log_snr(self, t: Tensor) -> Tensor:
        return self._base._log_snr(t) + torch.log1p(_carried(self._base, t))


def _numbers(shares: object) -> tuple[float, ...]:
    listed = tuple(shares) if isinstance(shares, (tuple, list)) else ()
    numbers = [each for each in listed if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if not listed or len(numbers) < len(listed) or not all(math.isfinite(each) for each in numbers):
        raise AnydiffError(f"shares is {shares!r}, but must be a list of finite numbers, one per step: [0.02], say.")
    return tuple(float(each) for each in numbers)


@functools.lru_cache(maxsize=16)
def _knots(path: MeanShift) -> Tensor:
    """k/A at the times 0, 1/N, ..., 1, float64 ``[N + 1]``: each step adds b/A."""
    count = len(path.shares)
    times = torch.arange(1, count + 1, dtype=torch.float64) / count
    added = torch.tensor(path.shares, dtype=torch.float64) / path._alpha(times)
    return torch.cat([torch.zeros(1, dtype=torch.float64), added.cumsum(0)])


def _carried(path: MeanShift, t: Tensor) -> Tensor:
    """k_t/A_t, linear between the steps and beyond the last."""
    with torch.inference_mode(False):
        knots = _knots(path)
    place = t * len(path.shares)
    step = place.detach().floor().clamp(0, len(path.shares) - 1).long()
    first, second = knots.to(t.device)[step], knots.to(t.device)[step + 1]
    return first + (place - step) * (second - first)
