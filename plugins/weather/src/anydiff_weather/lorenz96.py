r"""The two-scale Lorenz-96 model with seasons: a physical simulator that gives any amount of ensemble truth.

Slow variables X_k on a latitude circle and fast ones Y_{j,k} (Lorenz 1996; coupling as in Wilks 2005,
doi:10.1256/qj.04.03):

.. math::

    \dot X_k &= -X_{k-1} (X_{k-2} - X_{k+1}) - X_k + F_k(t) - (h c / b) \textstyle\sum_j Y_{j,k} \\
    \dot Y_{j,k} &= -c b\, Y_{j+1,k} (Y_{j+2,k} - Y_{j-1,k}) - c\, Y_{j,k} + (h c / b)\, X_k

Here the forcing varies with the place and with the season, F_k = F + A_z cos(2π k/K) + A_s cos(2π day/365), so that a
climatology has something to say. One unit of time is five days; integration is RK4 in the precision of the state.

Two forecasting systems are made of it. The *perfect* one is the model itself: its members and the truth start from the
same analysis with errors of the same law, so they are exchangeable. The *biased* one has the slow scale alone, a linear
closure for the fast one (least squares on the model itself), a forcing that is too weak, and a product that reads 2.5
too high, as a valley station does that is read off a coarse model's mountain.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.states import standard_normal, uniform

DAYS_PER_UNIT = 5.0
DAYS_PER_YEAR = 365.0
_BLOCK = 256
"""States integrated at a time, so that they stay in the cache."""


@dataclass(frozen=True)
class Lorenz96:
    """The model's numbers.

    Attributes:
        slow: K, slow variables.
        fast: J, fast variables per slow one; 0 leaves the slow scale alone, with the closure.
        forcing: F, the mean forcing.
        zonal: A_z, its amplitude along the circle.
        season: A_s, its amplitude over the year.
        coupling: h.
        time_scale: c.
        space_scale: b.
        closure: (intercept, slope) of -(h c/b) Σ_j Y_j as a linear function of X_k, used where ``fast`` is 0.
        step: time step of RK4, in units of time.
    """

    slow: int = 40
    fast: int = 5
    forcing: float = 10.0
    zonal: float = 1.5
    season: float = 2.0
    coupling: float = 1.0
    time_scale: float = 10.0
    space_scale: float = 10.0
    closure: tuple[float, float] = (0.0, 0.0)
    step: float = 0.005

    @property
    def size(self) -> int:
        """Numbers per state: the slow ones, then the fast ones in the order (k, j)."""
        return self.slow * (1 + self.fast)

    def forcing_at(self, day: Tensor) -> Tensor:
        """F_k ``[B, K]`` on the days of the year ``day [B]`` (float)."""
        angle = 2 * math.pi * torch.arange(self.slow, dtype=day.dtype) / self.slow
        season = torch.cos(2 * math.pi * day / DAYS_PER_YEAR)
        return self.forcing + self.zonal * torch.cos(angle) + self.season * season[:, None]

    def tendency(self, state: Tensor, forcing: Tensor) -> Tensor:
        """d(state)/dt ``[B, size]``."""
        x = state[:, : self.slow]
        slope = (torch.roll(x, -1, 1) - torch.roll(x, 2, 1)) * torch.roll(x, 1, 1) - x + forcing
        if not self.fast:
            return slope + self.closure[0] + self.closure[1] * x
        y = state[:, self.slow :]
        exchange = self.coupling * self.time_scale / self.space_scale
        slope = slope - exchange * y.reshape(-1, self.slow, self.fast).sum(-1)
        steep = (torch.roll(y, 1, 1) - torch.roll(y, -2, 1)) * torch.roll(y, -1, 1)
        fast = self.time_scale * (self.space_scale * steep - y) + exchange * x.repeat_interleave(self.fast, 1)
        return torch.cat([slope, fast], dim=1)

    def run(self, state: Tensor, day: Tensor, days: float) -> Tensor:
        """The states ``[B, size]`` ``days`` after ``day [B]`` (which need not be whole)."""
        parts = []
        for begin in range(0, len(state), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            parts.append(self._run(state[rows], day[rows].to(state.dtype), days))
        return torch.cat(parts)

    def _run(self, state: Tensor, day: Tensor, days: float) -> Tensor:
        steps = round(days / DAYS_PER_UNIT / self.step)
        for number in range(steps):
            # The season is frozen during a step of 36 minutes.
            forcing = self.forcing_at(day + number * self.step * DAYS_PER_UNIT)
            state = runge_kutta(functools.partial(self.tendency, forcing=forcing), state, self.step)
        return state


def runge_kutta(slope: Callable[[Tensor], Tensor], state: Tensor, step: float) -> Tensor:
    """One step of the classical fourth-order method."""
    first = slope(state)
    second = slope(state + step / 2 * first)
    third = slope(state + step / 2 * second)
    fourth = slope(state + step * third)
    return state + step / 6 * (first + 2 * second + 2 * third + fourth)


TRUTH = Lorenz96()
BIASED = Lorenz96(fast=0, forcing=9.0, closure=(-0.07, -0.154))
BIAS = 2.5
"""What the biased system's product reads too high."""

ANALYSIS_ERROR = (0.4, 0.02)
"""Standard deviation of the analysis error, of slow and of fast variables."""


@dataclass(frozen=True)
class Cases:
    """Forecasts and truth of ``n`` cases; all numbers are those of the slow variables.

    Attributes:
        day: base day of each case, day of the year from 0, ``[n]``.
        analysis: the truth on the base day ``[n, K]``.
        truth: the truth on the valid day ``[n, K]``.
        perfect: members of the perfect system on the valid day ``[n, members, K]``.
        biased: members of the biased one.
    """

    day: Tensor
    analysis: Tensor
    truth: Tensor
    perfect: Tensor
    biased: Tensor


def simulate(count: int, members: int, lead: float, seed: int, *, spacing: float = 15.0, chain: int = 8) -> Cases:
    """``count`` cases with ``members`` members of each system at ``lead`` days.

    Analyses are taken every ``spacing`` days from trajectories of ``chain`` analyses each, after 40 days of spin-up
    from noise (about 60 doubling times of an error).

    Args:
        count: how many cases.
        members: per system.
        lead: days from the base to the valid day.
        seed: of initial states, days and analysis errors.
    """
    starts = -(-count // chain)
    day = torch.from_numpy(uniform(seed, range(starts), 0, "lorenz96/day").numpy() * DAYS_PER_YEAR).floor()
    state = _normal(seed, range(starts), 0, "lorenz96/start", TRUTH.size)
    state *= torch.cat([torch.full((TRUTH.slow,), 3.0), torch.full((TRUTH.slow * TRUTH.fast,), 0.1)])
    state = TRUTH.run(state, day, 40.0)
    day = day + 40
    days, analyses = [day], [state]
    for _ in range(chain - 1):
        state, day = TRUTH.run(state, day, spacing), day + spacing
        days.append(day)
        analyses.append(state)
    base, first = torch.cat(days)[:count], torch.cat(analyses)[:count]
    slow = TRUTH.slow
    true = TRUTH.run(_perturbed(first, seed, 0), base, lead)[:, :slow]
    perfect = [TRUTH.run(_perturbed(first, seed, 1 + m), base, lead)[:, :slow] for m in range(members)]
    biased = [BIASED.run(_perturbed(first, seed, 1 + m)[:, :slow], base, lead) + BIAS for m in range(members)]
    return Cases(base % DAYS_PER_YEAR, first[:, :slow], true, torch.stack(perfect, 1), torch.stack(biased, 1))


def _perturbed(state: Tensor, seed: int, draw: int) -> Tensor:
    noise = _normal(seed, range(len(state)), draw, "lorenz96/analysis error", state.shape[1])
    noise[:, : TRUTH.slow] *= ANALYSIS_ERROR[0]
    noise[:, TRUTH.slow :] *= ANALYSIS_ERROR[1]
    return state + noise


def _normal(seed: int, rows: range, draw: int, stream: str, size: int) -> Tensor:
    return torch.from_numpy(standard_normal(seed, rows, draw, stream, (size,))).float()
