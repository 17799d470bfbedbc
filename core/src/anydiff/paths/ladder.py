"""The path of a network that was trained at whole times: known at 0, 1, ..., N - 1, and in between by its log-SNR."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath

SCHEDULES = ("linear", "scaled-linear", "cosine", "sigmoid", "diffusion-rate")
CEILING = 0.999
"""Of a β of the cosine schedule (Nichol and Dhariwal 2021)."""


@dataclass(frozen=True)
class Ladder(GaussianPath):
    """α_i² = Π_{j≤i} (1 - β_j), σ² = 1 - α², at the whole times i = 0, ..., N - 1, which networks are told.

    Between two rungs the log-SNR is linear in t, and so is its inverse: a solver that stops between them is told the
    time that belongs to its noise level, and no level is rounded to a rung.

    Args:
        schedule: of the β: ``linear``, ``scaled-linear`` (linear in √β), ``cosine``, ``sigmoid``, or
            ``diffusion-rate``, β_i = 1 - exp(-b_0/N - (b_1 - b_0)(2i + 1)/(2 N²)), exact rungs of a linear rate, with
            which ProDiff has few of them (N = 5, b_0 = 0.1, b_1 = 40).
        beta_start: β_0 of ``linear``, ``scaled-linear`` and ``sigmoid``; b_0 of ``diffusion-rate``.
        beta_end: β_{N-1} of these, or b_1.
        steps: N.
        betas: the β themselves, which come before the schedule; their number is N.

    Raises:
        UnknownNameError: no such schedule.
        AnydiffError: fewer than two β, one outside of (0, 1), or a rate ``b_1`` below 1.
    """

    schedule: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000
    betas: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        if self.betas:
            object.__setattr__(self, "steps", len(self.betas))
            object.__setattr__(self, "schedule", f"betas {_digest(self.betas)}")
        elif self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule of the betas", self.schedule, SCHEDULES)
        if not isinstance(self.steps, int) or self.steps < 2:
            raise AnydiffError(f"steps is {self.steps}, but a ladder needs a whole number of at least 2 rungs.")
        if self.schedule == "diffusion-rate" and not self.beta_end >= 1:
            raise AnydiffError(
                f"beta_end is {self.beta_end:g}, but of the schedule 'diffusion-rate' it is a rate over the whole "
                "range of times, not the β of one step, and a rate that ends below 1 leaves most of the data; give "
                "beta_start=0.1, beta_end=40.0, say."
            )
        found = self._rates()
        wrong = [i for i, beta in enumerate(found) if not 0 < beta < 1]
        if wrong:
            raise AnydiffError(
                f"beta {wrong[0]} of the ladder is {found[wrong[0]]:g}, but must lie between 0 and 1; a last beta of 1 "
                "(zero terminal signal) is not modelled: leave that rung out."
            )

    @property
    def t_start(self) -> float:  # type: ignore[override]
        """The last rung, N - 1."""
        return float(self.steps - 1)

    @property
    def t_end(self) -> float:  # type: ignore[override]
        """The first rung, 0."""
        return 0.0

    tells_rungs: ClassVar[bool] = True
    """Whether a network is told the number of a rung, in place of the log-SNR."""

    def told(self, t: Tensor) -> Tensor:
        """The time itself: networks of a ladder know its rungs by their numbers."""
        return t.to(torch.float64)

    def input_scale(self, t: Tensor, sigma_data: float) -> Tensor:
        """1: networks of a ladder see the state as it is."""
        return torch.ones_like(t, dtype=torch.float64)

    def _rates(self) -> tuple[float, ...]:
        return self.betas or _betas(self.schedule, self.beta_start, self.beta_end, self.steps)

    def _rungs(self) -> Tensor:
        return _log_snr_of(self._rates())

    def _log_snr(self, t: Tensor) -> Tensor:
        rungs = self._rungs()
        low = t.detach().floor().clamp(0, self.steps - 2).long()
        return torch.lerp(rungs[low], rungs[low + 1], t - low)  # beyond the ends along the outermost line

    def _time(self, log_snr: Tensor) -> Tensor:
        rungs = self._rungs()
        low = (torch.searchsorted(-rungs, -log_snr.detach().contiguous()) - 1).clamp(0, self.steps - 2)
        return low + (rungs[low] - log_snr) / (rungs[low] - rungs[low + 1])

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-softplus(-2 * self._log_snr(t)) / 2)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.exp(-softplus(2 * self._log_snr(t)) / 2)


@dataclass(frozen=True)
class DiscreteVP(Ladder):
    """The chain of a :class:`Ladder` for networks of this library: they are told the log-SNR, and see unit scale.

    So a network outlives number and schedule of the rungs, and the grids ``leading`` and ``trailing`` count them.
    """

    tells_rungs: ClassVar[bool] = False

    def told(self, t: Tensor) -> Tensor:
        """The log-SNR λ_t."""
        return self.log_snr(t)

    def input_scale(self, t: Tensor, sigma_data: float) -> Tensor:
        """1/sqrt(α² σ_data² + σ²): unit scale of the input."""
        return GaussianPath.input_scale(self, t, sigma_data)


def _digest(betas: tuple[float, ...]) -> str:
    return hashlib.sha256(repr(betas).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=64)
def _betas(schedule: str, start: float, end: float, steps: int) -> tuple[float, ...]:
    line = torch.linspace(0, 1, steps, dtype=torch.float64)
    if schedule == "linear":
        found = start + (end - start) * line
    elif schedule == "scaled-linear":
        found = (math.sqrt(start) + (math.sqrt(end) - math.sqrt(start)) * line) ** 2
    elif schedule == "diffusion-rate":
        rung = torch.arange(steps, dtype=torch.float64)
        found = -torch.expm1(-start / steps - (end - start) * (2 * rung + 1) / (2 * steps**2))
    elif schedule == "sigmoid":
        found = start + (end - start) * torch.sigmoid(12 * line - 6)
    else:
        edges = torch.arange(steps + 1, dtype=torch.float64) / steps
        kept = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
        found = (1 - kept[1:] / kept[:-1]).clamp(max=CEILING)
    return tuple(found.tolist())


@functools.lru_cache(maxsize=64)
def _log_snr_of(betas: tuple[float, ...]) -> Tensor:
    log_signal = torch.log1p(-torch.tensor(betas, dtype=torch.float64)).cumsum(0)  # log α²
    return (log_signal - torch.log(-torch.expm1(log_signal))) / 2
