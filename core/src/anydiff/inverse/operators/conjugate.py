"""Conjugate gradients, row by row.

What is done to row b of a batch depends on row b alone: a row that has converged, or that met a direction of negative
curvature, stays where it is while others go on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anydiff.paths.base import per_row

Images = Callable[[Tensor], tuple[Tensor, Tensor]]
"""p -> (S p, c(p)): the matrix's image, and whatever else is linear in p and known with it."""


def inner(one: Tensor, two: Tensor) -> Tensor:
    """Inner products of rows: ``[B]``."""
    return (one * two).flatten(1).sum(1)


def conjugate_gradients(
    images: Images, right: Tensor, steps: int, tolerance: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """v with S v = ``right [B, ...]`` for a symmetric S that should be positive, and c(v); None before any step.

    Args:
        images: gives S p and c(p) of directions p, all rows at once.
        right: the right side.
        steps: at most so many images are asked for.
        tolerance: a row ends where its residual is at most this share of its right side.
    """
    v, residual, also = torch.zeros_like(right), right, None
    direction, size = right, inner(right, right)
    target = tolerance**2 * size
    alive = size > target
    for _ in range(steps):
        if not bool(alive.any()):
            break
        image, extra = images(direction)
        curvature = inner(direction, image)
        alive = alive & (curvature > 0)
        length = torch.where(alive, size / curvature.where(alive, torch.ones_like(curvature)), 0.0)
        v = v + per_row(length, v) * direction
        share = per_row(length, extra) * extra
        also = share if also is None else also + share
        residual = residual - per_row(length, residual) * image
        left = inner(residual, residual)
        grown = torch.where(alive, left / size.where(alive, torch.ones_like(size)), 0.0)
        direction, size = residual + per_row(grown, residual) * direction, torch.where(alive, left, size)
        alive = alive & (size > target)
    return v, also
