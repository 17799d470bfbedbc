"""The face of what was measured: an operator from states to measurements, with adjoint, pseudo-inverse and SVD.

States are ``[B, *shape]`` and measurements ``[B, *output]``. Parameters that differ per case (a mask each, say) are
batch-first tensors with one row per case, or with one row for all; :meth:`Operator.parameters` names those that differ,
so that whoever cuts the rows of a batch cuts them too.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.operators.conjugate import conjugate_gradients

RELATIVE_RANK = 1e-9
"""Singular values below this share of the largest count as 0."""

Self = TypeVar("Self", bound="HasCases")


class HasCases:
    """Something with tensors that may differ from case to case: operators and laws of noise.

    Attributes:
        per_case: names of its tensors whose first axis is that of the cases, of length 1 where all share them.
        parts: names of attributes that are such things themselves, or tuples of them.
    """

    per_case: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()

    def parameters(self) -> dict[str, Tensor]:
        """The tensors that differ per case, ``[C, ...]``, by name: ``mask``, or ``first.mask`` of a part."""
        found = {name: getattr(self, name) for name in self.per_case if len(getattr(self, name)) > 1}
        for name, part in self._parts():
            found.update({f"{name}.{inner}": value for inner, value in part.parameters().items()})
        return found

    def with_parameters(self: Self, values: Mapping[str, Tensor]) -> Self:
        """A copy with these values under the names of :meth:`parameters`; nothing is checked anew."""
        if not values:
            return self
        made = copy.copy(self)
        changed = dict(self._parts())
        for name, part in changed.items():
            own = {key[len(name) + 1 :]: value for key, value in values.items() if key.startswith(f"{name}.")}
            changed[name] = part.with_parameters(own)
        for name in self.parts:
            value = getattr(self, name)
            many = tuple(changed[f"{name}{i}"] for i in range(len(value))) if isinstance(value, tuple) else None
            object.__setattr__(made, name, changed[name] if many is None else many)
        for name in self.per_case:
            if name in values:
                object.__setattr__(made, name, values[name])
        return made

    @property
    def cases(self) -> int:
        """How many cases it tells apart; 1 where none.

        Raises:
            AnydiffError: two of its parameters are of different numbers of cases.
        """
        sizes = {name: len(value) for name, value in self.parameters().items()}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise AnydiffError(
                f"the parameters are of different numbers of cases ({told}); give each one row per case."
            )
        return next(iter(sizes.values()), 1)

    def _parts(self) -> list[tuple[str, HasCases]]:
        found: list[tuple[str, HasCases]] = []
        for name in self.parts:
            value = getattr(self, name)
            found += (
                [(f"{name}{i}", each) for i, each in enumerate(value)] if isinstance(value, tuple) else [(name, value)]
            )
        return found


@dataclass(frozen=True)
class SVD:
    """A = U S Vᵀ with an orthonormal V of the whole space of states; U follows from A V = U S.

    Attributes:
        values: S, float64 ``[1 or B, n]`` with n entries of a state: 0 where a direction is not measured.
        to: x ``[B, *shape]`` -> Vᵀ x ``[B, n]``.
        back: c ``[B, n]`` -> V c ``[B, *shape]``.
        operator: A.
    """

    values: Tensor
    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    operator: LinearOperator

    @property
    def rank(self) -> Tensor:
        """Bool ``[1 or B, n]``: the directions that are measured."""
        return self.values > 0

    def measured(self, y: Tensor) -> Tensor:
        """Uᵀ y, float64 ``[B, n]``, of measurements ``[B, *output]``; 0 where a direction is not measured.

        In double precision whatever ``y`` is: single precision's rounding, divided by a small singular value, is larger
        than what was measured.
        """
        values = self.values.to(y.device)
        found = self.to(self.operator.adjoint(y.double()))
        return torch.where(values > 0, found / values.clamp_min(1e-300), 0.0)

    def filtered(self, y: Tensor, gains: Tensor) -> Tensor:
        """V diag(g) Uᵀ y ``[B, *shape]`` with gains ``[1 or B, n]``, which do not count where nothing is measured."""
        return self.back(torch.where(self.rank.to(y.device), gains.double() * self.measured(y), 0.0)).to(y.dtype)


class Operator(HasCases, ABC):
    """What was measured of a state, linear or not.

    Attributes:
        shape: of one state.
        output: of one measurement.
        linear: whether it is a :class:`LinearOperator`.
    """

    linear: ClassVar[bool] = False
    shape: tuple[int, ...]
    output: tuple[int, ...]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A(x) ``[B, *output]`` of states ``[B, *shape]``, from torch operations; row b is of row b alone."""

    def observed(self, y: Tensor) -> Tensor:
        """Bool, of the shape of ``y [C, *output]``: the entries that a measurement really has; by default all."""
        return torch.ones_like(y, dtype=torch.bool)

    @property
    def size(self) -> int:
        """Entries of one state."""
        return math.prod(self.shape)


class LinearOperator(Operator):
    """A linear operator. A subclass gives :meth:`forward` and :meth:`adjoint`, and :meth:`svd` where it has one."""

    linear: ClassVar[bool] = True

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y ``[B, *shape]`` of measurements ``[B, *output]``: <A x, y> = <x, Aᵀ y>."""

    def svd(self) -> SVD | None:
        """The singular value decomposition; None where it has none that costs little."""
        return None

    def diagonal(self) -> Tensor | None:
        """a ``[1 or C, *shape]`` where A is a mere factor per entry, A x = a ⊙ x; else None."""
        return None

    @property
    def norm(self) -> float:
        """The largest singular value, over all cases."""
        return float(self.norms.max())

    @property
    def norms(self) -> Tensor:
        """The largest singular value of each case ``[C]``: of the SVD, or by 100 steps of the power method."""
        found = self.svd()
        if found is not None:
            return found.values.amax(1)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, *self.shape, generator=generator, dtype=torch.float64).expand(self.cases, *self.shape)
        size = torch.zeros(())
        for _ in range(100):
            x = self.adjoint(self.forward(x))
            size = x.flatten(1).norm(dim=1)
            x = x / size.clamp_min(1e-300).reshape(-1, *[1] * len(self.shape))
        return size.sqrt()

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y ``[B, *shape]``: of all states that come nearest to ``y`` the smallest one.

        By the SVD; without one by conjugate gradients, in at most 200 steps.
        """
        found = self.svd()
        if found is None:
            return _least_squares(self, y)
        return found.filtered(y, 1 / found.values.clamp_min(1e-300))

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x + A⁺(y - A x) ``[B, *shape]``: the nearest state to ``x`` of those that come nearest to ``y``."""
        return x + self.pseudo_inverse(y - self.forward(x))

    def absorb(self, scale: Tensor) -> tuple[LinearOperator, Tensor]:
        """(A', f) with A diag(scale) = diag(f) A', for a scale ``[1 or C, *shape]`` of the entries.

        By default A' is the composition and f is 1. An operator that keeps its SVD so gives its own.
        """
        if scale[0].numel() == 1:
            return self, scale.reshape(-1, *[1] * len(self.output))
        return composed(self, Scaling(scale)), torch.ones(1, *[1] * len(self.output), dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Scaling(LinearOperator):
    """x -> scale ⊙ x, a factor for each entry.

    Args:
        scale: ``[1 or C, *shape]``.
    """

    per_case = ("scale",)
    scale: Tensor

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one state."""
        return tuple(self.scale.shape[1:])

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one measurement."""
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        """scale ⊙ x."""
        return x * self.scale.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """scale ⊙ y."""
        return y * self.scale.to(y)

    def diagonal(self) -> Tensor:
        """The scale."""
        return self.scale


@dataclass(frozen=True, eq=False)
class Composition(LinearOperator):
    """x -> A_1 A_2 ... x: the last factor is applied first.

    Args:
        factors: A_1, A_2, ...; each takes what the next one gives.
    """

    parts = ("factors",)
    factors: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(self.factors))
        for first, second in zip(self.factors, self.factors[1:], strict=False):
            if first.shape != second.output:
                raise AnydiffError(
                    f"a composition applies an operator for states of shape {first.shape} to measurements of shape "
                    f"{second.output}; change their order or sizes."
                )

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one state."""
        return self.factors[-1].shape

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one measurement."""
        return self.factors[0].output

    def forward(self, x: Tensor) -> Tensor:
        """One factor after the other, the last first."""
        for each in reversed(self.factors):
            x = each.forward(x)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """The adjoints in the other order."""
        for each in self.factors:
            y = each.adjoint(y)
        return y

    def observed(self, y: Tensor) -> Tensor:
        """What the outermost factor gives."""
        return self.factors[0].observed(y)

    def diagonal(self) -> Tensor | None:
        """The product of the factors' where all have one."""
        each = [factor.diagonal() for factor in self.factors]
        known = [one for one in each if one is not None]
        return math.prod(known[1:], start=known[0]) if len(known) == len(each) else None


def composed(*factors: LinearOperator) -> LinearOperator:
    """The composition, with compositions among the factors laid out flat."""
    flat: list[LinearOperator] = []
    for each in factors:
        flat += each.factors if isinstance(each, Composition) else [each]
    return flat[0] if len(flat) == 1 else Composition(tuple(flat))


@dataclass(frozen=True, eq=False)
class Stack(LinearOperator):
    """Several measurements of one state, one after the other as flat vectors.

    Args:
        members: operators for states of one shape.
    """

    parts = ("members",)
    members: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        if not self.members or len({each.shape for each in self.members}) > 1:
            raise AnydiffError(
                f"a stack needs operators for states of one shape, but has {[each.shape for each in self.members]}."
            )

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one state."""
        return self.members[0].shape

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """One flat vector of all."""
        return (sum(self._sizes),)

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(each.output) for each in self.members]

    def forward(self, x: Tensor) -> Tensor:
        """Each member's measurement, flat, one after the other."""
        return torch.cat([each.forward(x).flatten(1) for each in self.members], dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        """The sum of the adjoints."""
        pieces = zip(self.members, torch.split(y, self._sizes, dim=1), strict=True)
        found = [each.adjoint(piece.reshape(-1, *each.output)) for each, piece in pieces]
        return torch.stack(found).sum(0)

    def observed(self, y: Tensor) -> Tensor:
        """What each member says."""
        pieces = zip(self.members, torch.split(y, self._sizes, dim=1), strict=True)
        return torch.cat([each.observed(piece.reshape(-1, *each.output)).flatten(1) for each, piece in pieces], dim=1)


def _least_squares(operator: LinearOperator, y: Tensor, steps: int = 200) -> Tensor:
    """A⁺ y by conjugate gradients on Aᵀ A x = Aᵀ y from x = 0, in float64."""

    def images(p: Tensor) -> tuple[Tensor, Tensor]:
        found = operator.adjoint(operator.forward(p))
        return found, found

    right = operator.adjoint(y.double())
    return conjugate_gradients(images, right, min(steps, 2 * operator.size), 1e-12)[0].to(y.dtype)


def dense(operator: LinearOperator) -> Tensor:
    """The matrix ``[C, k, n]`` (float64) of an operator on flattened states; for small ones."""
    basis = torch.eye(operator.size, dtype=torch.float64).reshape(operator.size, *operator.shape)
    cases = operator.cases
    columns = [operator.forward(one[None].expand(cases, *operator.shape)).reshape(cases, -1) for one in basis]
    return torch.stack(columns, dim=2)


def rows_first(value: Any, axes: int, what: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """``value`` as a tensor with ``axes`` axes behind a first one of cases, which is added where it lacks.

    Raises:
        AnydiffError: it is no array, or has another number of axes.
    """
    try:
        found = torch.as_tensor(value).to(dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AnydiffError(f"{what} is no array of numbers ({error}); give numbers.") from error
    if found.ndim == axes:
        found = found[None]
    if found.ndim != axes + 1:
        raise AnydiffError(
            f"{what} has shape {tuple(found.shape)}, but needs {axes} axes, or one more in front for cases."
        )
    return found


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape`` of one state as a tuple of whole numbers above 0."""
    found = tuple(int(size) for size in shape)
    if not found or any(size < 1 for size in found):
        raise AnydiffError(f"shape is {tuple(shape)}, but a state needs at least one axis and sizes above 0.")
    return found
