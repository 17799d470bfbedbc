"""Differences of neighbours along one axis, with periodic edges: what a total variation sums up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.operators.base import LinearOperator, checked_shape


@dataclass(frozen=True, eq=False)
class Differences(LinearOperator):
    """(A x)_k = x_{k+1} - x_k along ``axis``; the last entry's neighbour is the first.

    Args:
        shape: of one state.
        axis: which of its axes.
    """

    shape: tuple[int, ...]
    axis: int

    def __init__(self, shape: Sequence[int], axis: int = -1) -> None:
        size = checked_shape(shape)
        if isinstance(axis, bool) or not isinstance(axis, int) or not -len(size) <= axis < len(size):
            raise AnydiffError(f"axis is {axis}, but a state of shape {size} has the axes 0 to {len(size) - 1}.")
        object.__setattr__(self, "shape", size)
        object.__setattr__(self, "axis", axis % len(size))

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """As a state."""
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        """x_{k+1} - x_k."""
        return x.roll(-1, self.axis + 1) - x

    def adjoint(self, y: Tensor) -> Tensor:
        """y_{k-1} - y_k."""
        return y.roll(1, self.axis + 1) - y
