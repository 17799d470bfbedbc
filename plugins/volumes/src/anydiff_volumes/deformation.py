r"""Diffeomorphisms with known truth: flows of stationary velocity fields, by scaling and squaring.

A map is kept as its displacement u, φ(x) = x + u(x), in voxels: float32 ``[B, 3, X, Y, Z]`` (axes x, y, z). The flow
exp(v) of a smooth field v is invertible with inverse exp(-v), and exp(a v) moves along one and the same path as a grows
(Arsigny et al. 2006, doi:10.1007/11866565_113). An image is moved by looking up: moved(x) = image(φ(x)).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.states import standard_normal

SQUARINGS = 5


def look_up(image: Tensor, places: Tensor, background: str = "zeros") -> Tensor:
    """``image [B, C, *shape]`` at ``places [B, 3, *out]`` (its voxel coordinates), trilinear: ``[B, C, *out]``.

    Outside of the image lies zero, or with ``background="border"`` the nearest voxel.
    """
    sizes = torch.tensor(image.shape[2:], dtype=places.dtype).reshape(1, 3, 1, 1, 1)
    scaled = places * (2 / (sizes - 1)) - 1
    # grid_sample wants the last image axis first.
    grid = scaled.flip(1).movedim(1, -1)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode=background, align_corners=True)


def voxels(shape: Sequence[int]) -> Tensor:
    """The voxel coordinates of a grid, float32 ``[1, 3, *shape]``."""
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    return torch.stack(axes)[None]


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Displacement of x -> φ_first(φ_second(x)), from two displacements ``[B, 3, *shape]``."""
    places = voxels(second.shape[2:]) + second
    return second + look_up(first, places, "border")


def flow(velocity: Tensor, squarings: int = SQUARINGS) -> Tensor:
    """Displacement of exp(v) for ``velocity [B, 3, *shape]`` in voxels: 2^n small steps, composed with themselves."""
    displacement: Tensor = velocity / 2**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """det ∂φ/∂x by central differences ``[B, X-2, Y-2, Z-2]``; positive everywhere for a diffeomorphism."""
    rows = []
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    for axis in range(3):
        slope = (displacement.roll(-1, axis + 2) - displacement.roll(1, axis + 2))[inner] / 2
        rows.append(slope.movedim(1, -1))
    jacobian = torch.stack(rows, dim=-1) + torch.eye(3)
    determinant: Tensor = torch.linalg.det(jacobian)
    return determinant


def random_velocity(
    shape: Sequence[int], seed: int, samples: Sequence[int], *, amplitude: float, spacing: int = 7
) -> Tensor:
    """Smooth random velocities ``[len(samples), 3, *shape]``, a pure function of (seed, sample).

    Normal numbers of standard deviation ``amplitude`` (voxels) at control points ``spacing`` voxels apart, between them
    interpolated linearly and smoothed over one spacing; so the field's own deviation is about half of ``amplitude``.
    """
    control = tuple(size // spacing + 2 for size in shape)
    numbers = standard_normal(seed, samples, 0, "velocity", (3, *control))
    coarse = torch.from_numpy(numbers).float() * amplitude
    dense = functional.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)
    width = spacing if spacing % 2 else spacing + 1
    for axis in range(3):  # one axis after the other: the same mean for a tenth of the work
        kernel, margin = [1, 1, 1], [0] * 6
        kernel[axis] = width
        margin[4 - 2 * axis] = margin[5 - 2 * axis] = width // 2
        dense = functional.avg_pool3d(functional.pad(dense, margin, mode="replicate"), kernel, stride=1)
    return dense


def radial_velocity(shape: Sequence[int], centre: Sequence[float], radius: float) -> Tensor:
    """A field that flows away from ``centre`` (voxels), of speed 1 at ``radius``, its maximum: ``[1, 3, *shape]``.

    v(x) = (x - c)/ρ exp((1 - |x - c|²/ρ²)/2)
    """
    away = (voxels(shape) - torch.tensor(list(centre)).reshape(1, 3, 1, 1, 1)) / radius
    return away * torch.exp((1 - away.square().sum(dim=1, keepdim=True)) / 2)
