"""Some entries are observed, the others are not: inpainting, gaps, imputation, assimilation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.operators.base import SVD, LinearOperator, Operator, checked_shape, composed, rows_first


@dataclass(frozen=True, eq=False)
class Mask(LinearOperator):
    """A x = m ⊙ x. A measurement is as large as a state; what it holds outside of the mask is not looked at.

    Args:
        shape: of one state.
        mask: which entries are observed, bool ``[*shape]``, or one mask per case ``[C, *shape]``.
    """

    per_case = ("mask",)
    shape: tuple[int, ...]
    mask: Tensor

    def __init__(self, shape: Sequence[int], mask: Any) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        object.__setattr__(self, "mask", rows_first(mask, len(self.shape), "mask", torch.bool))
        if tuple(self.mask.shape[1:]) != self.shape:
            raise AnydiffError(
                f"the mask has shape {tuple(self.mask.shape[1:])}, but a state has {self.shape}; give one truth value "
                "per entry."
            )

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """As a state."""
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        """x where it is observed, 0 elsewhere."""
        return torch.where(self.mask.to(x.device), x, 0.0)

    def adjoint(self, y: Tensor) -> Tensor:
        """As :meth:`forward`."""
        return self.forward(y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """As :meth:`forward`."""
        return self.forward(y)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """y where it is observed, x elsewhere."""
        return torch.where(self.mask.to(x.device), y, x)

    def observed(self, y: Tensor) -> Tensor:
        """The mask."""
        return self.mask.to(y.device).expand(y.shape)

    def diagonal(self) -> Tensor:
        """1 where it is observed, 0 elsewhere."""
        return self.mask.to(torch.float64)

    def svd(self) -> SVD:
        """V is the identity, and S the mask."""
        return SVD(self.diagonal().flatten(1), _flat, self._whole, self)

    def absorb(self, scale: Tensor) -> tuple[LinearOperator, Tensor]:
        """Itself, and the scale of each entry."""
        return self, scale

    def only(self, present: Tensor) -> LinearOperator:
        """The entries that both observe."""
        return Mask(self.shape, self.mask & present)

    def _whole(self, c: Tensor) -> Tensor:
        return c.reshape(-1, *self.shape)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def observing(operator: Operator, present: Tensor) -> Operator:
    """``operator`` of which only the entries ``present``, bool ``[C, *output]``, of a measurement are there.

    Raises:
        AnydiffError: entries of a non-linear operator's measurement are missing.
    """
    if bool(present.all()):
        return operator
    only = getattr(operator, "only", None)
    if only is not None:
        found: Operator = only(present)
        return found
    if not isinstance(operator, LinearOperator):
        raise AnydiffError(
            f"{int((~present).sum())} measured values are missing, which an operator that is not linear "
            f"({type(operator).__name__}) does not allow; give all."
        )
    return composed(Mask(operator.output, present), operator)
