"""Operators of other libraries: anything with ``A`` and ``A_adjoint``, or with ``matvec`` and ``rmatvec``.

An adjoint is tried before it is used: <A x, u> and <x, Aᵀ u> must agree for random x and u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.operators.base import LinearOperator, checked_shape

TOLERANCE = 1e-4
"""What single precision leaves of the dot test, with a margin."""


def dot_test(operator: LinearOperator, pairs: int = 4) -> float:
    """The largest |<A x, u> - <x, Aᵀ u>| over random pairs, relative to |A x| |u| (or |x| |Aᵀ u|, if larger)."""
    generator = torch.Generator().manual_seed(0)
    cases = operator.cases
    worst = 0.0
    for _ in range(pairs):
        x = torch.randn(cases, *operator.shape, generator=generator, dtype=torch.float64)
        u = torch.randn(cases, *operator.output, generator=generator, dtype=torch.float64)
        image, back = operator.forward(x), operator.adjoint(u)
        sides = (image * u).flatten(1).sum(1), (x * back).flatten(1).sum(1)
        size = torch.maximum(
            image.flatten(1).norm(dim=1) * u.flatten(1).norm(dim=1),
            x.flatten(1).norm(dim=1) * back.flatten(1).norm(dim=1),
        )
        worst = max(worst, float(((sides[0] - sides[1]).abs() / size.clamp_min(1e-300)).max()))
    return worst


def checked_adjoint(operator: LinearOperator, tolerance: float, what: str) -> LinearOperator:
    """``operator``, if its adjoint is one.

    Raises:
        AnydiffError: the dot test fails; the sentence says by how much.
    """
    found = dot_test(operator)
    if not found <= tolerance:
        raise AnydiffError(
            f"the adjoint of {what} is not the operator's: <A x, u> and <x, Aᵀ u> differ by {found:.2g} of |A x| |u| "
            f"(at most {tolerance:g} is rounding); repair it, or scale it so that both use one inner product."
        )
    return operator


@dataclass(frozen=True, eq=False)
class Adjointed(LinearOperator):
    """Anything with ``A(x)`` and ``A_adjoint(y)`` on batches ``[B, ...]``, a physics of deepinv say, as an operator.

    Args:
        shape: of one state.
        physics: the object.

    Raises:
        AnydiffError: it lacks a method, or its adjoint fails the dot test.
    """

    shape: tuple[int, ...]
    physics: Any
    output: tuple[int, ...]

    def __init__(self, shape: Sequence[int], physics: Any) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        object.__setattr__(self, "physics", physics)
        for name in ("A", "A_adjoint"):
            if not callable(getattr(physics, name, None)):
                raise AnydiffError(f"{type(physics).__name__} has no method {name}(x), which an operator needs.")
        with torch.no_grad():
            object.__setattr__(self, "output", tuple(physics.A(torch.zeros(1, *self.shape)).shape[1:]))
            checked_adjoint(self, TOLERANCE, type(physics).__name__)

    def forward(self, x: Tensor) -> Tensor:
        """``A(x)``, in single precision."""
        found: Tensor = self.physics.A(x.float())
        return found.to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A_adjoint(y)``."""
        found: Tensor = self.physics.A_adjoint(y.float())
        return found.to(y.dtype)


@dataclass(frozen=True, eq=False)
class Matvec(LinearOperator):
    """Anything with ``shape (k, n)``, ``matvec(x)`` and ``rmatvec(y)`` on NumPy vectors: SciPy's and PyLops' operators.

    Args:
        shape: of one state, n entries in all.
        linear_operator: the object.

    Raises:
        AnydiffError: its size is another one, or its adjoint fails the dot test.
    """

    shape: tuple[int, ...]
    linear_operator: Any
    output: tuple[int, ...]

    def __init__(self, shape: Sequence[int], linear_operator: Any) -> None:
        object.__setattr__(self, "shape", checked_shape(shape))
        object.__setattr__(self, "linear_operator", linear_operator)
        sizes = tuple(getattr(linear_operator, "shape", ()))
        if len(sizes) != 2 or sizes[1] != self.size:
            raise AnydiffError(
                f"{type(linear_operator).__name__} has shape {sizes}, but a state of shape {self.shape} has "
                f"{self.size} entries; give an operator of shape (k, {self.size})."
            )
        object.__setattr__(self, "output", (int(sizes[0]),))
        checked_adjoint(self, TOLERANCE, type(linear_operator).__name__)

    def forward(self, x: Tensor) -> Tensor:
        """``matvec`` of each row."""
        return _through(x, self.linear_operator, True).reshape(-1, *self.output)

    def adjoint(self, y: Tensor) -> Tensor:
        """``rmatvec`` of each row."""
        return _through(y, self.linear_operator, False).reshape(-1, *self.shape)


class _Rows(torch.autograd.Function):
    """Each row through NumPy, with the other direction as the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Any, down: bool) -> Tensor:
        ctx.operator, ctx.down, ctx.shape = operator, down, x.shape
        function = operator.matvec if down else operator.rmatvec
        rows = [np.asarray(function(row)) for row in x.detach().cpu().flatten(1).numpy()]
        return torch.from_numpy(np.stack(rows)).to(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        back = _through(gradients[0], ctx.operator, not ctx.down)
        return back.reshape(ctx.shape), None, None


def _through(x: Tensor, operator: Any, down: bool) -> Tensor:
    found: Tensor = _Rows.apply(x, operator, down)  # type: ignore[no-untyped-call]
    return found
