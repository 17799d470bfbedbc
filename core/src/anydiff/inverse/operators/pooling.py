"""Weighted means of blocks: super-resolution, cells of a coarser grid, sums over days."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number
from anydiff.inverse.operators.base import SVD, LinearOperator, checked_shape, rows_first


@dataclass(frozen=True, eq=False)
class AveragePooling(LinearOperator):
    """A x = Σ over each block of a ⊙ x, with blocks of ``factor`` entries along the last axes.

    The rows of A do not overlap, so A Aᵀ is diagonal: A⁺ and an SVD follow, with one Householder reflection per block.

    Args:
        shape: of one state.
        factor: the block's side along the last axes: one number per axis, counted from the last, or one for all of them
            behind the first (channels), at most two.
        weights: what the entries of a block count for in its mean, above 0, broadcastable to ``[*shape]`` or
            ``[C, *shape]``: areas of cells. By default all count alike.
        total: whether sums are measured in place of means.
    """

    per_case = ("share", "present")
    shape: tuple[int, ...]
    factors: tuple[int, ...]
    share: Tensor
    present: Tensor

    def __init__(
        self, shape: Sequence[int], factor: int | Sequence[int] = 2, weights: Any = None, total: bool = False
    ) -> None:
        size = checked_shape(shape)
        object.__setattr__(self, "shape", size)
        object.__setattr__(self, "factors", _factors(size, factor))
        given = torch.ones(1, *size, dtype=torch.float64) if weights is None else _weights(weights, size)
        object.__setattr__(self, "share", given)
        object.__setattr__(self, "present", torch.ones(1, *self.output, dtype=torch.bool))
        if not total:
            whole = self._spread(self._summed(given))
            object.__setattr__(self, "share", given / whole)

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """The coarser shape."""
        return tuple(size // factor for size, factor in zip(self.shape, self.factors, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """The weighted mean (or sum) of each block."""
        found: Tensor = torch.where(self.present.to(x.device), self._summed(x * self.share.to(x)), 0.0)
        return found

    def adjoint(self, y: Tensor) -> Tensor:
        """Each number to all entries of its block, by their weights."""
        return self._spread(torch.where(self.present.to(y.device), y, 0.0)) * self.share.to(y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Aᵀ (A Aᵀ)⁻¹ y: the nearest enlargement where all entries count alike."""
        return self.adjoint(y / self._summed(self.share.square()).to(y))

    def svd(self) -> SVD:
        """One direction of each block is measured, that of its weights; a reflection turns it into the first entry."""
        blocks = self._blocks(self.share)
        length = blocks.norm(dim=-1, keepdim=True)
        mirror = blocks / length
        mirror[..., 0] += 1.0  # shares are above 0, so nothing cancels: H e_1 = -w
        mirror = mirror / mirror.norm(dim=-1, keepdim=True)
        seen = self.present.flatten(1)
        values = torch.zeros(max(len(blocks), len(seen)), *blocks.shape[1:], dtype=torch.float64)
        values[..., 0] = torch.where(seen, length[..., 0], 0.0)

        def reflected(c: Tensor) -> Tensor:
            own = mirror.to(c)
            turned: Tensor = 2 * own * (own * c).sum(-1, keepdim=True) - c  # -H, so that the first direction is +w
            return turned

        return SVD(
            values.flatten(1),
            lambda x: reflected(self._blocks(x)).flatten(1),
            lambda c: self._joined(reflected(c.reshape(-1, *blocks.shape[1:]))),
            self,
        )

    def observed(self, y: Tensor) -> Tensor:
        """The blocks that are there."""
        return self.present.to(y.device).expand(y.shape)

    def only(self, present: Tensor) -> LinearOperator:
        """With these blocks alone; the SVD stays."""
        made = copy.copy(self)
        object.__setattr__(made, "present", self.present & present)
        return made

    def absorb(self, scale: Tensor) -> tuple[LinearOperator, Tensor]:
        """The same blocks with scaled weights."""
        one = torch.ones(1, *[1] * len(self.shape), dtype=torch.float64)
        if scale[0].numel() == 1:
            return super().absorb(scale)
        scaled = AveragePooling(self.shape, self.factors[::-1], self.share * scale, total=True)
        return scaled.only(self.present), one

    def _cut(self) -> list[int]:
        """Each axis as (blocks, entries of a block)."""
        return [n for size, factor in zip(self.shape, self.factors, strict=True) for n in (size // factor, factor)]

    def _summed(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, 2 * len(self.shape) + 1, 2))
        return x.reshape(-1, *self._cut()).sum(axes)

    def _spread(self, y: Tensor) -> Tensor:
        for axis, factor in enumerate(self.factors):
            y = y.repeat_interleave(factor, dim=axis + 1) if factor > 1 else y
        return y

    def _blocks(self, x: Tensor) -> Tensor:
        """``[B, blocks, entries]``."""
        rank = len(self.shape)
        order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2)]
        whole = x.expand(-1, *self.shape).reshape(-1, *self._cut()).permute(order)
        count = 1
        for size in self.output:
            count *= size
        return whole.reshape(whole.shape[0], count, -1).clone()

    def _joined(self, blocks: Tensor) -> Tensor:
        """The inverse of :meth:`_blocks`."""
        rank = len(self.shape)
        order = [
            0,
            *(axis for pair in zip(range(1, rank + 1), range(rank + 1, 2 * rank + 1), strict=True) for axis in pair),
        ]
        return blocks.reshape(-1, *self.output, *self.factors).permute(order).reshape(-1, *self.shape)


def _factors(shape: tuple[int, ...], factor: int | Sequence[int]) -> tuple[int, ...]:
    """One factor per axis, in the order of the axes."""
    if isinstance(factor, int):
        given = [natural_number("factor", factor)] * min(2, max(1, len(shape) - 1))
    else:
        given = [natural_number("factor", each) for each in factor]
    if len(given) > len(shape):
        raise AnydiffError(f"factor names {len(given)} axes, but a state has shape {shape}; give at most {len(shape)}.")
    whole = (*[1] * (len(shape) - len(given)), *reversed(given))
    for size, each in zip(shape, whole, strict=True):
        if size % each:
            fits = [n for n in range(2, size + 1) if size % n == 0]
            raise AnydiffError(
                f"factor is {each}, but an axis has {size} entries, which are not whole blocks; take one of "
                f"{', '.join(map(str, fits))}."
            )
    return whole


def _weights(weights: Any, shape: tuple[int, ...]) -> Tensor:
    given = torch.as_tensor(weights, dtype=torch.float64)
    given = given if given.ndim > len(shape) else given.expand(shape)
    found = rows_first(given, len(shape), "weights")
    found = found.expand(len(found), *shape)
    if not bool((found > 0).all()) or not bool(found.isfinite().all()):
        raise AnydiffError("weights must be finite and above 0; give the share of each entry in its block.")
    return found
