"""Measurements that are no linear function of a state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, real_number
from anydiff.inverse.operators.base import Operator, checked_shape


@dataclass(frozen=True, eq=False)
class Clipped(Operator):
    """A(x) = x clipped to [low, high]: overexposed pictures, saturated sensors. Its gradient is 0 where it clips.

    Args:
        shape: of one state.
        low: least value that is told.
        high: greatest one.
    """

    shape: tuple[int, ...]
    low: float
    high: float

    def __init__(self, shape: Sequence[int], low: float = -math.inf, high: float = math.inf) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        for name, value in (("low", low), ("high", high)):
            open_end = isinstance(value, float) and math.isinf(value)
            object.__setattr__(self, name, value if open_end else real_number(name, value))
        if not self.low < self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise AnydiffError(f"low is {low} and high is {high}, which clips nothing or all; give low below high.")

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """As a state."""
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        """The clipped state."""
        return x.clamp(self.low, self.high)


@dataclass(frozen=True, eq=False)
class Magnitude(Operator):
    """A(x) = |F x|, the sizes of the orthonormal Fourier transform of a padded state: phase retrieval.

    Args:
        shape: of one state.
        padding: entries of zeros behind each of the last two axes (one, where there is one).
    """

    shape: tuple[int, ...]
    padding: int

    def __init__(self, shape: Sequence[int], padding: int = 0) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        object.__setattr__(self, "padding", int(padding))
        if padding < 0:
            raise AnydiffError(f"padding is {padding}, but must be at least 0.")

    @property
    def _rank(self) -> int:
        return min(2, len(self.shape))

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """The padded shape."""
        return (*self.shape[: -self._rank], *(n + self.padding for n in self.shape[-self._rank :]))

    def forward(self, x: Tensor) -> Tensor:
        """Sizes; the tiny number beneath the root keeps the gradient finite at 0."""
        padded = torch.nn.functional.pad(x, [0, self.padding] * self._rank)
        found: Tensor = torch.fft.fftn(padded, dim=tuple(range(-self._rank, 0)), norm="ortho")
        return (found.real.square() + found.imag.square() + 1e-12).sqrt()


@dataclass(frozen=True, eq=False)
class Quantised(Operator):
    """A(x) = x rounded to a multiple of ``step``. The gradient is that of the state itself ("straight through").

    Args:
        shape: of one state.
        step: between two values that are told, above 0.
    """

    shape: tuple[int, ...]
    step: float

    def __init__(self, shape: Sequence[int], step: float) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        object.__setattr__(self, "step", real_number("step", step))
        if not self.step > 0:
            raise AnydiffError(f"step is {step}, but must be a finite number above 0.")

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """As a state."""
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        """The nearest multiple."""
        return x + ((x / self.step).round() * self.step - x).detach()
