"""Residual denoising diffusion (Liu et al., CVPR 2024, arXiv 2308.13712): residual and noise on schedules of their own.

With the clean data x_0, a known degraded input u and the residual R = u - x_0,

    x_t = x_0 + A_t R + B_t ε = (1 - A_t) x_0 + A_t u + B_t ε,

from A = B = 0 (clean) to A_T = 1, B_T² = sum_scale: restoration starts at the input with a little noise, generation
(u = 0) at pure noise. So α = 1 - A and σ = B, and the mean-reverting path is the case A = 1 - α with its own B. A
network is told the pair (A, B): the two schedules may be travelled in another order than they were trained in.

The paper's schedules are sums of increments; here they are their limits for many increments, which are functions of t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import Role, check_range
from anydiff.paths.variance_preserving import VPLinear
from anydiff.states.conditions import Conditioning

SCHEDULES = ("decreased", "average", "increased", "vp-linear")
ROUTES = ("together", "residual-first", "noise-first", "any")


@dataclass(frozen=True)
class RDDM(GaussianPath):
    """x_t = (1 - A) x_0 + A u + B ε, t in [0, 1], with the known source ``input`` u ``[B, *shape]``.

    A and B²/sum_scale grow from 0 to 1 in a time s of their own: ``decreased`` 1 - (1 - s)^(r+1), ``average`` s,
    ``increased`` s^(r+1), with r = ``ratio``; ``vp-linear`` is A = 1 - α and B² = sum_scale σ² of
    :class:`~anydiff.paths.VPLinear`, with which ``input`` 0 and sum_scale 1 give DDPM.

    Args:
        residual: schedule of A.
        noise: schedule of B².
        ratio: r of both schedules, at least 0.
        sum_scale: B_T², a variance: 0.01 for restoration, 1 for generation and strong degradations.
        route: ``together``: both run in t. ``residual-first``: sampling removes the residual in t from 1 to 1/2, then
            the noise. ``noise-first``: the other way about; there the log-SNR says nothing, so only the solver ``rddm``
            travels it. ``any``: for training alone (objective ``every-route``): half of the times are those of
            ``together``, at the others the noise has an independent time of its own, read off further digits of t.
        t_start: where sampling starts.
        t_end: where it ends.

    Raises:
        UnknownNameError: no such schedule or route.
        AnydiffError: ``sum_scale`` is not positive, or ``ratio`` is negative.
    """

    residual: str = "decreased"
    noise: str = "increased"
    ratio: float = 1.0
    sum_scale: float = 0.01
    route: str = "together"
    t_start: float = 1.0
    t_end: float = 0.0
    sources: ClassVar[Mapping[str, Role]] = {"x0": "clean", "input": "known", "noise": "noise"}
    centre: ClassVar[Mapping[str, float]] = {"input": 1.0}
    default_grid: ClassVar[str] = "time"
    told_size: ClassVar[int] = 2
    reroutes: ClassVar[tuple[str, ...]] = ("residual", "noise", "ratio", "route", "t_start", "t_end")

    def __post_init__(self) -> None:
        check_range(self, latest=1.0)
        for name, value in (("residual", self.residual), ("noise", self.noise)):
            if value not in SCHEDULES:
                raise UnknownNameError(f"schedule of the {name}", value, SCHEDULES)
        if self.route not in ROUTES:
            raise UnknownNameError("route", self.route, ROUTES)
        if not 0 < self.sum_scale < math.inf or not 0 <= self.ratio < math.inf:
            raise AnydiffError(
                f"sum_scale is {self.sum_scale} and ratio is {self.ratio}, but must be above 0 and at least 0, both "
                "finite: sum_scale is a variance, 0.01 or 1, say."
            )

    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """1 - A (``x0``), A (``input``) and B (``noise``)."""
        return {"x0": self._alpha(t), "input": self._removed(t), "noise": self._sigma(t)}

    def told(self, t: Tensor) -> Tensor:
        """(A, B/B_T) ``[B, 2]``, each mapped from [0, 1] to [-10, 10], the range that networks resolve."""
        t = t.to(torch.float64)
        return 20 * torch.stack([self._removed(t), self._share(t).sqrt()], dim=-1) - 10

    def _clocks(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The times of the residual's and of the noise's schedule."""
        if self.route == "together":
            return t, t
        if self.route == "any":
            # Digits of a uniform number are independent of each other.
            own, free = torch.frac(t * 2.0**12) < 0.5, torch.frac(t * 2.0**26)
            return t, torch.where(own, t, free)
        early, late = (2 * t).clamp(max=1.0), (2 * t - 1).clamp(min=0.0)
        return (late, early) if self.route == "residual-first" else (early, late)

    def _removed(self, t: Tensor) -> Tensor:
        """A_t."""
        s = self._clocks(t)[0]
        if self.residual == "vp-linear":
            return 1 - VPLinear()._alpha(s)
        return self._schedule(self.residual, s)

    def _share(self, t: Tensor) -> Tensor:
        """B_t² / sum_scale."""
        s = self._clocks(t)[1]
        return VPLinear()._sigma(s) ** 2 if self.noise == "vp-linear" else self._schedule(self.noise, s)

    def _schedule(self, name: str, s: Tensor) -> Tensor:
        if name == "average":
            return s * 1.0
        power = self.ratio + 1
        return torch.pow(s, power) if name == "increased" else 1 - torch.pow(1 - s, power)

    def _alpha(self, t: Tensor) -> Tensor:
        s = self._clocks(t)[0]
        if self.residual == "vp-linear":
            return VPLinear()._alpha(s)
        # 1 - A without cancellation where A is nearly 1.
        return torch.pow(1 - s, self.ratio + 1) if self.residual == "decreased" else 1 - self._removed(t)

    def _sigma(self, t: Tensor) -> Tensor:
        root: Tensor
        if self.noise == "vp-linear":
            root = VPLinear()._sigma(self._clocks(t)[1])
        elif self.noise == "increased":
            # The root of s^(r+1) as a power of its own: its slope at s = 0 is finite for r >= 1.
            root = torch.pow(self._clocks(t)[1], (self.ratio + 1) / 2)
        else:
            root = self._share(t).sqrt()
        return root * math.sqrt(self.sum_scale)

    def first(self, noise: Tensor, condition: Conditioning) -> Tensor:
        """u + B_T ε.

        Raises:
            AnydiffError: the route is ``any``, which leads nowhere.
        """
        if self.route == "any":
            raise AnydiffError("the route 'any' is for training alone; sample on 'together', say.")
        return super().first(noise, condition)

    def _log_snr(self, t: Tensor) -> Tensor:
        if self.route in ("noise-first", "any"):
            raise AnydiffError(
                f"the route {self.route!r} has no log-SNR: there is no noise while the residual is removed; use the "
                "solver 'rddm'."
            )
        return super()._log_snr(t)
