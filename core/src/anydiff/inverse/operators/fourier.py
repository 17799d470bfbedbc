"""Some frequencies are observed: magnetic resonance imaging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.operators.base import SVD, LinearOperator, checked_shape, rows_first
from anydiff.inverse.operators.blur import hartley


@dataclass(frozen=True, eq=False)
class Fourier(LinearOperator):
    """A x = m ⊙ F x of the orthonormal Fourier transform along the last axes, real and imaginary parts as rows.

    A measurement is ``[2, *shape]``: real parts, then imaginary ones, in the order of ``torch.fft``. A frequency and
    its opposite tell the same of a real state, so Aᵀ A has in the Hartley basis the factors (m_k + m_-k)/2.

    Args:
        shape: of one state.
        mask: which frequencies are observed, bool, over the last axes ``[*axes]``, or one per case ``[C, *axes]`` where
            ``axes`` says how many there are.
        axes: along how many of the last axes the transform goes: all of the mask's by default.
    """

    per_case = ("mask",)
    shape: tuple[int, ...]
    mask: Tensor
    output: tuple[int, ...]

    def __init__(self, shape: Sequence[int], mask: Any, axes: int | None = None) -> None:
        size = checked_shape(shape)
        found = torch.as_tensor(mask)
        rank = min(found.ndim, len(size)) if axes is None else axes
        object.__setattr__(self, "shape", size)
        object.__setattr__(self, "output", (2, *size))
        object.__setattr__(self, "mask", rows_first(found, rank, "mask", torch.bool))
        if tuple(self.mask.shape[1:]) != size[-rank:]:
            raise AnydiffError(
                f"the mask of frequencies has shape {tuple(self.mask.shape[1:])}, but the last {rank} axes of a state "
                f"have {size[-rank:]}; give one truth value per frequency."
            )

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(1 - self.mask.ndim, 0))

    def _rows(self) -> Tensor:
        """The mask ``[1 or C, 1, ..., *axes]``, to be multiplied by states."""
        extra = len(self.shape) - self.mask.ndim + 1
        return self.mask.reshape(len(self.mask), *[1] * extra, *self.mask.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Real and imaginary parts ``[B, 2, *shape]``, 0 where not observed."""
        found = torch.fft.fftn(x, dim=self._axes, norm="ortho") * self._rows().to(x.device)
        return torch.stack([found.real, found.imag], dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        """The real part of the inverse transform of what is observed."""
        values = torch.complex(y[:, 0].contiguous(), y[:, 1].contiguous()) * self._rows().to(y.device)
        found: Tensor = torch.fft.ifftn(values, dim=self._axes, norm="ortho")
        return found.real

    def observed(self, y: Tensor) -> Tensor:
        """The mask, for both parts."""
        return self._rows()[:, None].to(y.device).expand(y.shape)

    def svd(self) -> SVD:
        """S² = (m_k + m_-k)/2 in the Hartley basis."""
        mask = self.mask.double()
        axes = tuple(range(1, mask.ndim))
        opposite = torch.roll(mask.flip(axes), [1] * len(axes), axes)
        values = ((mask + opposite) / 2).sqrt()
        values = values.reshape(self._rows().shape).expand(-1, *self.shape)
        return SVD(values.flatten(1), lambda x: hartley(x, self._axes).flatten(1), self._back, self)

    def _back(self, c: Tensor) -> Tensor:
        return hartley(c.reshape(-1, *self.shape), self._axes)
