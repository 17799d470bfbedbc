"""An inverse problem: what was measured, by which operator, with which noise; in the field's units, or in states'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse.noise import Gaussian, MeasurementNoise, as_noise
from anydiff.inverse.operators.base import LinearOperator, Operator
from anydiff.inverse.operators.mask import Mask
from anydiff.states import Conditioning

PREFIX = "inverse"
"""Conditions of a problem are called ``inverse.measurement``, ``inverse.operator.mask``, ...; no network is told
them."""
SPARE = 1e-5
"""A measurement without noise must lie in what the operator can give, within this share of its size."""


@dataclass(frozen=True, eq=False)
class Affine(Operator):
    """x -> A(scale ⊙ x + offset): an operator in the field's units, of states.

    Args:
        operator: A.
        scale: ``[1 or C, *shape]``, or axes of length 1.
        offset: likewise.
    """

    per_case = ("scale", "offset")
    parts = ("operator",)
    operator: Operator
    scale: Tensor
    offset: Tensor

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one state."""
        return self.operator.shape

    @property
    def output(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one measurement."""
        return self.operator.output

    def forward(self, x: Tensor) -> Tensor:
        """A(scale ⊙ x + offset)."""
        return self.operator.forward(x * self.scale.to(x) + self.offset.to(x))

    def observed(self, y: Tensor) -> Tensor:
        """As A says."""
        return self.operator.observed(y)


@dataclass(frozen=True, eq=False)
class Problem:
    """y = A(x) + n.

    Args:
        operator: A.
        measurement: y ``[*output]``, or one per case ``[C, *output]``; entries that the operator does not observe may
            hold anything, NaN included.
        noise: the law of n; a number is the standard deviation of Gaussian noise.

    Raises:
        AnydiffError: sizes or numbers of cases differ, or an observed value is not finite.
    """

    operator: Operator
    measurement: Tensor
    noise: MeasurementNoise

    def __init__(self, operator: Operator, measurement: Any, noise: float | Tensor | MeasurementNoise = 0.0) -> None:
        y = torch.as_tensor(measurement)
        y = y if y.is_floating_point() else y.double()
        y = y[None] if tuple(y.shape) == operator.output else y
        if tuple(y.shape[1:]) != operator.output:
            raise AnydiffError(
                f"the measurement has shape {tuple(y.shape)}, but the operator {type(operator).__name__} gives "
                f"{operator.output}; give one number per measured entry, with an axis of cases in front or none."
            )
        law = as_noise(noise)
        law = law.shaped(operator.output) if isinstance(law, Gaussian) else law
        sizes = {"operator": operator.cases, "noise": law.cases, "measurement": len(y)}
        counts = {size for size in sizes.values() if size > 1}
        if len(counts) > 1:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise AnydiffError(f"the problem has different numbers of cases ({told}); give one row per case.")
        y = y.expand(max(counts, default=1), *operator.output)
        seen = operator.observed(y)
        wrong = seen & ~y.isfinite()
        if bool(wrong.any()):
            raise AnydiffError(
                f"the measurement holds {int(wrong.sum())} values that are not finite where something was observed; "
                "leave these entries out of the mask, or repair them."
            )
        object.__setattr__(self, "operator", operator)
        object.__setattr__(self, "measurement", torch.where(seen, y, 0.0))
        object.__setattr__(self, "noise", law)

    @property
    def cases(self) -> int:
        """How many measurements."""
        return len(self.measurement)

    @property
    def linear_operator(self) -> LinearOperator:
        """The operator, if it is linear.

        Raises:
            AnydiffError: it is not.
        """
        if not isinstance(self.operator, LinearOperator):
            own = self.operator.operator if isinstance(self.operator, Affine) else self.operator
            raise AnydiffError(
                f"the operator {type(own).__name__} is not linear, which this method needs; use the method "
                "'dps', which takes any operator."
            )
        return self.operator

    @property
    def gaussian(self) -> Gaussian:
        """The noise, if it is Gaussian.

        Raises:
            AnydiffError: it is of another law.
        """
        if not isinstance(self.noise, Gaussian):
            raise AnydiffError(
                f"the noise is {type(self.noise).__name__}, but this method takes Gaussian noise alone; use the method "
                "'dps', which takes any law, or give a standard deviation."
            )
        return self.noise

    def variance(self, like: Tensor) -> Tensor:
        """Of the noise, ``[1 or B, *output]`` in the type of ``like``, axes of length 1 where all entries share it."""
        return self.gaussian.std.to(like).square()

    def residual(self, x: Tensor) -> Tensor:
        """y - A(x) ``[B, *output]``, 0 where nothing is observed."""
        y = self.measurement.to(x)
        return torch.where(self.operator.observed(y), y - self.operator.forward(x), 0.0)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(y | x) ``[B]`` up to a constant, differentiable."""
        y = self.measurement.to(x)
        return self.noise.log_likelihood(y, self.operator.forward(x), self.operator.observed(y))

    def require_attainable(self) -> None:
        """Refuse a measurement without noise that no state gives.

        Raises:
            AnydiffError: the sentence says how far the nearest one is.
        """
        if not isinstance(self.operator, LinearOperator) or not isinstance(self.noise, Gaussian) or not self.noise.zero:
            return
        y = self.measurement.double()
        rest = (y - self.operator.forward(self.operator.pseudo_inverse(y))).flatten(1).norm(dim=1)
        share = float((rest / y.flatten(1).norm(dim=1).clamp_min(1e-300)).max())
        if share > SPARE:
            raise AnydiffError(
                f"noise is 0, but no state gives this measurement (the nearest is {share:.2g} of its size away); say "
                "how large the noise is (noise=...)."
            )

    def in_states(self, scale: Tensor | float = 1.0, offset: Tensor | float = 0.0) -> Problem:
        """This problem, whose operator takes x = scale ⊙ z + offset in the field's units, as one of states z.

        Args:
            scale: above 0; a number, or broadcastable to ``[*shape]`` or ``[C, *shape]``.
            offset: likewise.

        Raises:
            AnydiffError: a scale that is not above 0.
        """
        shape = self.operator.shape
        factors, shift = (_rows(value, shape) for value in (scale, offset))
        if not bool(((factors > 0) & factors.isfinite()).all()) or not bool(shift.isfinite().all()):
            raise AnydiffError("the units of the states have a scale that is not above 0, or that is not finite.")
        operator = self.operator
        if isinstance(operator, LinearOperator):
            inner, factor = operator.absorb(factors)
            noise = self.noise.divided(factor)
            if noise is not None:
                moved = operator.forward(shift.expand(len(shift), *shape).contiguous())
                return Problem(inner, (self.measurement.double() - moved) / factor, noise)
        return Problem(Affine(operator, factors, shift), self.measurement, self.noise)

    def rows(self, cases: int) -> Problem:
        """With one row for each of ``cases``, of a problem that has as many, or one.

        Raises:
            AnydiffError: it has another number.
        """
        if self.cases not in (1, cases):
            raise AnydiffError(
                f"the problem has {self.cases} measurements, but {cases} cases are asked for; give one for each, or "
                "one."
            )
        made = replace_fields(self, measurement=self.measurement.expand(cases, *self.operator.output))
        return made

    def condition(self) -> dict[str, Tensor]:
        """What differs from case to case as conditions, one row per case, which samplers cut with all others."""
        found = {f"{PREFIX}.measurement": self.measurement}
        for part, owner in (("operator", self.operator), ("noise", self.noise)):
            found.update({f"{PREFIX}.{part}.{name}": value for name, value in owner.parameters().items()})
        return found

    def of(self, condition: Conditioning) -> Problem:
        """The problem of the rows of a ``condition`` that holds what :meth:`condition` gives; without it, itself."""
        given: Mapping[str, Tensor] = condition.given
        if f"{PREFIX}.measurement" not in given:
            return self
        own = {
            part: {
                name[len(f"{PREFIX}.{part}.") :]: value
                for name, value in given.items()
                if name.startswith(f"{PREFIX}.{part}.")
            }
            for part in ("operator", "noise")
        }
        return replace_fields(
            self,
            measurement=given[f"{PREFIX}.measurement"],
            operator=self.operator.with_parameters(own["operator"]),
            noise=self.noise.with_parameters(own["noise"]),
        )


def replace_fields(problem: Problem, **changes: Any) -> Problem:
    """A copy with other fields, which are not checked anew."""
    made = object.__new__(Problem)
    for name in ("operator", "measurement", "noise"):
        object.__setattr__(made, name, changes[name] if name in changes else getattr(problem, name))
    return made


def known_problem(values: Tensor, mask: Tensor) -> Problem:
    """Entries of the states ``[B, *shape]`` that are known exactly where ``mask`` says so; nothing is checked.

    It is made within a network call, so it looks at no value, which would wait for the device.
    """
    operator = object.__new__(Mask)
    object.__setattr__(operator, "shape", tuple(values.shape[1:]))
    object.__setattr__(operator, "mask", mask)
    made = object.__new__(Problem)
    measured = torch.where(mask, values, 0.0)
    return replace_fields(made, operator=operator, measurement=measured, noise=Gaussian(0.0).shaped(operator.output))


def without_problem(condition: Conditioning) -> Conditioning:
    """The condition as networks are told it: without what a problem put there."""
    own = [name for name in condition.given if name.startswith(f"{PREFIX}.")]
    return condition.without(own) if own else condition


def with_problem(condition: Conditioning, problem: Problem) -> Conditioning:
    """The condition with what the ``problem`` has per case."""
    return replace(condition, given={**condition.given, **problem.condition()})


def _rows(value: Tensor | float, shape: tuple[int, ...]) -> Tensor:
    """``value`` as float64 ``[1 or C, *shape]``, with axes of length 1 where all entries of a case have one value."""
    found = torch.as_tensor(value, dtype=torch.float64)
    if found.ndim <= len(shape):
        found = found.expand(shape)[None]
    found = found.expand(len(found), *shape)
    first = found.reshape(len(found), -1)[:, :1]
    if bool((found.reshape(len(found), -1) == first).all()):
        return first.reshape(-1, *[1] * len(shape))
    return found
