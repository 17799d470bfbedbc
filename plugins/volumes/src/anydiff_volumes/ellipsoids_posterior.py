r"""The exact law of a frame of an oscillating ellipsoid given others: what a perfect model of sequences would draw.

A frame is seen through voxel noise and clamping, so its likelihood as a function of the radius has a closed form,

.. math:: \log p(v \mid r) = \sum_i \begin{cases} \log Φ(-e_i/s) & v_i = 0 \\ \log Φ((e_i-1)/s) & v_i = 1 \\
    -(v_i-e_i)^2/2s^2 & \text{else} \end{cases}, \qquad e = \text{ellipsoid}(r),

and the course r_j = r_0 + A sin(2π f j + φ) has four numbers with flat priors. Their posterior is drawn by sequential
Monte Carlo: particles of the prior, the likelihood raised from power 0 to 1 in steps that halve the effective sample
size, each followed by resampling and Metropolis moves (Del Moral, Doucet and Jasra 2006,
doi:10.1111/j.1467-9868.2006.00553.x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from anydiff.states import standard_normal
from anydiff_volumes.ellipsoids import NOISE, course, ellipsoid

PARTICLES = 2048
MOVES = 6
_STEP = 0.004
_RADII = torch.arange(1.5, 7.0, _STEP, dtype=torch.float64)


def frame_likelihood(frames: Tensor) -> Tensor:
    """log p(frame | radius), up to a constant, at the radii of a fine grid: ``[..., X, Y, Z] -> [..., R]``."""
    levels = ((frames.double() + 1) / 2).flatten(-3)
    expected = ellipsoid(_RADII).flatten(-3)
    black, white = (levels <= 0).double(), (levels >= 1).double()
    inside = 1 - black - white
    squares = (inside * levels**2).sum(dim=-1, keepdim=True)
    quadratic = squares - 2 * (inside * levels) @ expected.T + inside @ (expected**2).T
    below, above = (torch.special.log_ndtr(edge / NOISE) for edge in (-expected, expected - 1))
    likelihood: Tensor = -quadratic / (2 * NOISE**2) + black @ below.T + white @ above.T
    return likelihood


def draw_courses(frames: Tensor, seen: Tensor, seed: int = 0) -> Tensor:
    """Particles of the posterior of the radii at all times.

    Args:
        frames: states ``[B, T, X, Y, Z]`` in [-1, 1].
        seen: bool ``[B, T]``; other frames have no influence.
        seed: of the particles.

    Returns:
        radii float64 ``[B, PARTICLES, T]``, equally weighted.
    """
    rows = range(len(frames))
    table = torch.where(seen[..., None], frame_likelihood(torch.where(seen[:, :, None, None, None], frames, 0)), 0)
    cube = _flat(seed, rows, 0, "particles", PARTICLES, 4)
    count = frames.shape[1]
    fit = _likelihood(table, cube)
    power = torch.zeros(len(frames), dtype=torch.float64)
    level = 0
    while bool((power < 1).any()):
        level += 1
        step = _next_step(fit, 1 - power)
        power = power + step
        weight = torch.softmax(step[:, None] * fit, dim=1)
        # Systematic resampling: one uniform number per case.
        offset = _flat(seed, rows, level, "offset", 1)
        places = (torch.arange(PARTICLES) + offset) / PARTICLES
        chosen = torch.searchsorted(weight.cumsum(dim=1), places).clamp_max(PARTICLES - 1)
        cube = torch.gather(cube, 1, chosen[..., None].expand(-1, -1, 4))
        fit = torch.gather(fit, 1, chosen)
        for move in range(MOVES):
            cube, fit = _metropolis(table, cube, fit, power, (seed, level * MOVES + move))
    return course(cube, count)


def _flat(seed: int, rows: Sequence[int], draw: int, stream: str, *shape: int) -> Tensor:
    """Uniform numbers in (0, 1), float64 ``[B, *shape]``, one stream per case."""
    numbers: Tensor = torch.special.ndtr(torch.from_numpy(standard_normal(seed, rows, draw, stream, shape)))
    return numbers


def _likelihood(table: Tensor, cube: Tensor) -> Tensor:
    """Σ_t log p(frame_t | r_t) of each particle ``[B, P]``, the table interpolated linearly."""
    radii = course(cube, table.shape[1]).transpose(1, 2)
    place = (radii - _RADII[0]) / _STEP
    index = place.long().clamp(0, len(_RADII) - 2)
    low, high = torch.gather(table, 2, index), torch.gather(table, 2, index + 1)
    return (low + (place - index) * (high - low)).sum(dim=1)


def _next_step(fit: Tensor, left: Tensor) -> Tensor:
    """The step of the power ``[B]`` that halves the effective sample size, by bisection, or what is left."""
    low, high = torch.zeros_like(left), 2 * left
    for _ in range(50):
        middle = (low + high) / 2
        weight = torch.softmax(middle[:, None] * fit, dim=1)
        enough = 1 / weight.square().sum(dim=1) >= PARTICLES / 2
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return torch.minimum(low, left)


def _metropolis(
    table: Tensor, cube: Tensor, fit: Tensor, power: Tensor, stream: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """One Metropolis move along the difference of two particles (differential evolution), with a little noise."""
    seed, draw = stream
    rows = range(len(cube))
    # Differences of particles follow the posterior's own shape, ridges and several modes included.
    order = _flat(seed, rows, draw, "pairs", PARTICLES, 2).mul(PARTICLES).long()
    one, two = (torch.gather(cube, 1, order[..., k : k + 1].expand(-1, -1, 4)) for k in (0, 1))
    noise = torch.from_numpy(standard_normal(seed, rows, draw, "jitter", (PARTICLES, 4)))
    scale = torch.where(_flat(seed, rows, draw, "scale", PARTICLES, 1) < 0.15, 1.0, 0.5)
    proposal = cube + scale * (one - two) + 1e-4 * noise
    # The phase is periodic; elsewhere the prior ends.
    proposal[..., 3] = proposal[..., 3] % 1.0
    allowed = ((proposal >= 0) & (proposal < 1)).all(dim=-1)
    there = torch.where(allowed, _likelihood(table, proposal.clamp(0, 1)), -math.inf)
    accept = _flat(seed, rows, draw, "accept", PARTICLES).log() < power[:, None] * (there - fit)
    return torch.where(accept[..., None], proposal, cube), torch.where(accept, there, fit)


def draw_frames(radii: Tensor, seed: int = 0) -> Tensor:
    """States ``[B, M, X, Y, Z]`` in [-1, 1] with the data's noise, for radii ``[B, M]``: draws of a perfect model."""
    levels = ellipsoid(radii)
    noise = torch.from_numpy(standard_normal(seed, range(len(radii)), 0, "frames", tuple(levels.shape[1:])))
    return ((levels + NOISE * noise).clamp(0, 1) * 2 - 1).float()
