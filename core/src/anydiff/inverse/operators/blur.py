"""Blur with periodic edges: a convolution, whose SVD the fast Fourier transform gives.

A convolution is diagonal in the Fourier basis, with complex factors k̂ for a real kernel. Aᵀ A has the factors |k̂|²,
which are even, so that the real Hartley basis (real part less imaginary part of the Fourier transform) diagonalises it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.operators.base import RELATIVE_RANK, SVD, LinearOperator, checked_shape


@dataclass(frozen=True, eq=False)
class Blur(LinearOperator):
    """A x = k * x along the last axes, with periodic edges.

    Args:
        shape: of one state.
        std: standard deviation, in entries, of a Gaussian kernel.
        kernel: k, centred, an array with an odd number of entries along each of the last axes; in place of ``std``.
        axes: along how many of the last axes a Gaussian blurs: two by default, one where there is one behind channels.
    """

    shape: tuple[int, ...]
    kernel: Tensor
    output: tuple[int, ...]

    def __init__(
        self, shape: Sequence[int], std: float | None = None, kernel: Any = None, axes: int | None = None
    ) -> None:
        size = checked_shape(shape)
        object.__setattr__(self, "shape", size)
        object.__setattr__(self, "output", size)
        if (std is None) == (kernel is None):
            raise AnydiffError("a blur needs a standard deviation or a kernel, one of both; give std=1.5, say.")
        rank = min(2, max(1, len(size) - 1)) if axes is None else axes
        if std is not None:
            found = _gaussian(size, std, rank)
        else:
            found = torch.as_tensor(kernel, dtype=torch.float64)
        wrong = found.ndim < 1 or found.ndim > len(size) or any(n % 2 == 0 for n in found.shape)
        if wrong or not bool(found.isfinite().all()) or not bool(found.any()):
            raise AnydiffError(
                f"the kernel has shape {tuple(found.shape)}; give finite numbers, not all 0, with an odd number of "
                f"them along each of at most {len(size)} axes."
            )
        if any(n > whole for n, whole in zip(found.shape[::-1], size[::-1], strict=False)):
            raise AnydiffError(
                f"the kernel has shape {tuple(found.shape)}, which is larger than the state's {size}; give a smaller "
                "one."
            )
        object.__setattr__(self, "kernel", found)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.kernel.ndim, 0))

    @property
    def _places(self) -> tuple[int, ...]:
        """Sizes of the blurred axes."""
        return self.shape[-self.kernel.ndim :]

    def _transfer(self) -> Tensor:
        """k̂ on the whole grid of frequencies, complex."""
        whole = torch.zeros(self._places, dtype=torch.float64)
        whole[tuple(slice(0, n) for n in self.kernel.shape)] = self.kernel
        centred = torch.roll(whole, tuple(-(n // 2) for n in self.kernel.shape), tuple(range(whole.ndim)))
        found: Tensor = torch.fft.fftn(centred)
        return found

    def _convolved(self, x: Tensor, factor: Tensor) -> Tensor:
        precise = x if x.dtype == torch.float64 else x.float()
        kind = torch.complex128 if precise.dtype == torch.float64 else torch.complex64
        spectrum = torch.fft.fftn(precise, dim=self._axes) * factor.to(x.device, kind)
        found: Tensor = torch.fft.ifftn(spectrum, dim=self._axes)
        return found.real.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """k * x."""
        return self._convolved(x, self._transfer())

    def adjoint(self, y: Tensor) -> Tensor:
        """The correlation of y with k."""
        return self._convolved(y, self._transfer().conj())

    def svd(self) -> SVD:
        """S = |k̂| in the Hartley basis."""
        size = self._transfer().abs()
        size = torch.where(size > RELATIVE_RANK * size.max(), size, 0.0).expand(self.shape)
        return SVD(size.reshape(1, -1), lambda x: self._hartley(x).flatten(1), self._back, self)

    def _back(self, c: Tensor) -> Tensor:
        return self._hartley(c.reshape(-1, *self.shape))

    def _hartley(self, x: Tensor) -> Tensor:
        return hartley(x, self._axes)


def hartley(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The orthonormal Hartley transform of ``x`` along ``axes``: real, symmetric, and its own inverse."""
    found: Tensor = torch.fft.fftn(x, dim=tuple(axes), norm="ortho")
    return found.real - found.imag


def _gaussian(shape: tuple[int, ...], std: float, rank: int) -> Tensor:
    if not (isinstance(std, (int, float)) and math.isfinite(std) and std > 0):
        raise AnydiffError(f"std is {std}, but a blur needs a width above 0, in entries; try 1.")
    if not 1 <= rank <= len(shape):
        raise AnydiffError(f"axes is {rank}, but a state of shape {shape} has 1 to {len(shape)} axes.")
    kernel = torch.ones(())
    for size in shape[-rank:]:
        reach = min(math.ceil(4 * std), (size - 1) // 2)
        steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
        line = torch.exp(-(steps**2) / (2 * std**2))
        kernel = kernel[..., None] * line
    return kernel / kernel.sum()
