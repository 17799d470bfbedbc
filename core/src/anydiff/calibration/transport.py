"""Semi-discrete optimal transport: potentials by which noise N(0, I) jumps to stored points, each with equal mass.

The convex energy E(h) = E_x max_j (<x, y_j> + h_j) - mean_j h_j of potentials h has as gradient the mass of each cell
less 1/n. It is descended by Adam without bias correction on drawn noise, as the code of DPM-OT (ICCV 2023) does; the
best potentials by the gradient's norm are kept, and where nothing gets better more noise is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number
from anydiff.solvers import cells

DECAY, SECOND_DECAY, GUARD = 0.9, 0.999, 1e-8
PATIENCE, RAISES, SLOWER = 50, 3, 0.8
ENOUGH = 8e-4
DRAWS = 4
"""Noises per point and step."""
REPORTED = 10
"""Noises per point that the masses are measured with afterwards."""


@dataclass(frozen=True)
class Transport:
    """A fitted coupling.

    Attributes:
        potentials: h, float64 ``[n]``, of mean 0.
        masses: of the cells, by fresh noise ``[n]``; they sum to 1.
        empty: points that no fresh noise jumps to.
        steps: of the descent.
    """

    potentials: Tensor
    masses: Tensor
    empty: int
    steps: int

    @property
    def variation(self) -> float:
        """Total variation between the masses and equal ones, 0 to 1."""
        return float((self.masses - 1 / len(self.masses)).abs().sum() / 2)


def semi_discrete(
    points: Tensor, steps: int = 400, rate: float = 0.02, seed: int = 0,
    source: Callable[[int, torch.Generator], Tensor] | None = None, told: Callable[[int, float], None] | None = None,
) -> Transport:  # fmt: skip
    """Potentials for ``points`` ``[n, *shape]`` of equal mass.

    Args:
        points: what the noise jumps to.
        steps: of the descent at most.
        rate: of Adam, in units of the points' spread (root mean square from their mean).
        seed: of the noise.
        source: draws so many rows of noise ``[m, d]``, float64; None for N(0, I).
        told: hears the step and the gradient's norm.

    Raises:
        AnydiffError: no point, or one that is not finite.
    """
    natural_number("steps", steps)
    y = points.flatten(1).double()
    if not len(y) or not bool(torch.isfinite(y).all()):
        raise AnydiffError(f"there are {len(y)} points to jump to, all of which must be finite; give some that are.")
    y = y - y.mean(0)  # the same cells: <x, mean> is common to all points
    spread = float(y.square().sum(1).mean().sqrt()) or 1.0
    draw = source or (lambda count, generator: torch.randn(count, y.shape[1], dtype=torch.float64, generator=generator))
    generator = torch.Generator().manual_seed(seed)
    h, first, second = (torch.zeros(len(y), dtype=torch.float64) for _ in range(3))
    best, least, since, raises = h.clone(), float("inf"), 0, 0
    count, speed, done = DRAWS * len(y), rate * spread, 0
    for done in range(1, steps + 1):
        gradient = _masses(draw(count, generator), y, h) - 1 / len(y)
        norm = float(gradient.norm())
        since += 1
        if norm < least:
            best, least, since = h.clone(), norm, 0
        if told is not None:
            told(done, norm)
        if norm < ENOUGH and bool((gradient > -1 / len(y)).all()):
            break
        if since >= PATIENCE and raises < RAISES:
            count, speed, least, since, raises = 2 * count, SLOWER * speed, float("inf"), 0, raises + 1
        first = DECAY * first + (1 - DECAY) * gradient
        second = SECOND_DECAY * second + (1 - SECOND_DECAY) * gradient.square()
        h = h - speed * first / (second.sqrt() + GUARD)
        h = h - h.mean()
    masses = _masses(draw(REPORTED * len(y), generator), y, best)
    return Transport(best, masses, int((masses == 0).sum()), done)


def _masses(x: Tensor, y: Tensor, h: Tensor) -> Tensor:
    """The share of the rows of x in each cell."""
    return torch.bincount(cells(x, y, h), minlength=len(y)).double() / len(x)
