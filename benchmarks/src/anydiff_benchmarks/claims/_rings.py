"""Two rings of twelve Gaussians with exact denoisers: what an edit is to keep is the angle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.editing import EditMethod, Side, Travel
from anydiff.guidance import ClassifierFree
from anydiff.paths import VPLinear
from anydiff.states import UNCONDITIONAL, Conditioning

PATH, MODES, COUNT, CALLS = VPLinear(), 12, 1000, 100
STD = 0.004**0.5
SOURCE, TARGET = 1.0, 1.6
OTHER: Mapping[str, tuple[int, dict[str, Any]]] = {
    "sde-dpm-solver++-2m": (CALLS, {}),
    "seeds-2": (2 * CALLS, {}),
    "euler-maruyama": (CALLS, {}),
    "reverse-diffusion": (CALLS, {}),
    "predictor-corrector": (2 * CALLS, {}),
    "edm": (2 * CALLS, {"churn": 20.0}),
}
"""Further solvers, each with 100 steps: network calls and options."""


def ring(radius: float) -> Tensor:
    """The means of one ring."""
    angle = torch.arange(MODES, dtype=torch.float64) * (2 * torch.pi / MODES)
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def samples(seed: int) -> Tensor:
    """Samples of the source's ring, mode i % 12 in row i."""
    generator = torch.Generator().manual_seed(1000 + seed)
    noise = torch.randn(COUNT, 2, dtype=torch.float64, generator=generator)
    return ring(SOURCE)[torch.arange(COUNT) % MODES] + STD * noise


class Rings(GaussianMixtureOracle):
    """Both rings; the condition ``ring`` (0 the source, 1 the target) leaves one of them."""

    def __init__(self) -> None:
        super().__init__(PATH, torch.cat([ring(SOURCE), ring(TARGET)]), STD)
        self.single = [GaussianMixtureOracle(PATH, ring(radius), STD) for radius in (SOURCE, TARGET)]

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t] of the ring that is asked for, and of both without one."""
        if "ring" not in condition.given:
            return super().native(x, t)
        there = condition.presence("ring")
        asked = condition.given["ring"]
        found = super().native(x, t) if not bool(there.all()) else torch.empty_like(x)
        for number, oracle in enumerate(self.single):
            rows = there & (asked == number)
            if bool(rows.any()):
                times = t[rows] if isinstance(t, Tensor) and t.ndim else t
                found[rows] = oracle.native(x[rows], times)
        return found


def sides(scale: float) -> tuple[Side, Side]:
    """The source, and the target under classifier-free guidance away from the union."""
    rings = Rings()
    given = [Conditioning({"ring": torch.full((COUNT,), number)}) for number in (0, 1)]
    return Side(rings, given[0]), Side(rings, given[1], () if scale == 1 else (ClassifierFree(scale),))


def travel(solver: str = "ddpm", calls: int = CALLS, options: Mapping[str, Any] | None = None) -> Travel:
    """By ``solver`` on times that are even, as published."""
    return Travel(solver, options or {}, calls, "time")


def kept(
    method: EditMethod, seed: int, pair: tuple[Side, Side] | None = None, route: Travel | None = None
) -> tuple[float, float]:
    """Share of edits whose nearest target mode has the source's angle, and share within 0.25 of a target mode."""
    settings: dict[str, Any] = {} if route is None else {"travel": route}
    found = method.edit(samples(seed), (2,), *(pair or sides(1.0)), seed=seed, batch_size=COUNT, **settings)
    distance = torch.cdist(found, ring(TARGET))
    same = (distance.argmin(1) == torch.arange(COUNT) % MODES).double().mean()
    return float(same), float((distance.amin(1) < 0.25).double().mean())
