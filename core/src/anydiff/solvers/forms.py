"""Linear forms: what a solver's arithmetic builds while a plan is recorded, and arrays that fit a leaf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError
from anydiff.solvers.plan import Coefficient
from anydiff.states.spec import Leaf


class LinearForm:
    """Σ coefficient · register, closed under addition and multiplication by numbers.

    A sum or a multiple is worked out when it is asked for, not when it is written: in ``x + h * (a * x + b *
    program.evaluate(x, node))`` Python multiplies by ``a`` before the call gives ``x`` a register, and the multiple is
    to hold that register, not what ``x`` was made of.
    """

    __array_ufunc__ = None  # so that a NumPy number or array times a form is a form
    __slots__ = ("_parts", "_terms", "register")

    def __init__(self, terms: Mapping[str, Coefficient], register: str | None = None) -> None:
        self._terms: dict[str, Coefficient] | None = dict(terms)
        self._parts: tuple[Any, ...] = ()
        #: The register that holds this form, once there is one.
        self.register = register

    @classmethod
    def of(cls, register: str) -> LinearForm:
        """The content of one register."""
        return cls({register: 1.0}, register)

    @classmethod
    def _later(cls, first: LinearForm, second: Any) -> LinearForm:
        """The sum of two forms, or a form times a number."""
        made = cls({})
        made._terms, made._parts = None, (first, second)
        return made

    @property
    def terms(self) -> dict[str, Coefficient]:
        """Register -> coefficient."""
        known = self._terms
        return self._worked_out() if known is None else known

    @terms.setter
    def terms(self, terms: Mapping[str, Coefficient]) -> None:
        self._terms, self._parts = dict(terms), ()

    def _worked_out(self) -> dict[str, Coefficient]:
        pending = [self]  # a list, not recursion: a state that the network never sees is as deep as there are steps
        while pending:
            form = pending[-1]
            parts = [each for each in form._parts if isinstance(each, LinearForm) and each._terms is None]
            if parts:
                pending += parts
                continue
            if form._terms is None:
                form.terms = _added(*form._parts)
            pending.pop()
        assert self._terms is not None
        return self._terms

    def __add__(self, other: LinearForm) -> LinearForm:
        return self._later(self, other) if isinstance(other, LinearForm) else NotImplemented

    def __mul__(self, factor: Any) -> LinearForm:
        return NotImplemented if isinstance(factor, LinearForm) else self._later(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> LinearForm:
        return self.__mul__(1.0 / divisor)

    def __neg__(self) -> LinearForm:
        return self * -1.0

    def __sub__(self, other: LinearForm) -> LinearForm:
        return self + (-other)


def _added(first: LinearForm, second: Any) -> dict[str, Coefficient]:
    if not isinstance(second, LinearForm):
        return {register: coefficient * second for register, coefficient in first.terms.items()}
    terms = dict(first.terms)
    for register, coefficient in second.terms.items():
        terms[register] = terms[register] + coefficient if register in terms else coefficient
    return terms


def fitted(array: NDArray[np.float64], leaf: Leaf) -> NDArray[np.float64]:
    """``array`` with one value per entry of ``leaf``.

    Raises:
        AnydiffError: it does not broadcast to the leaf.
    """
    try:
        return np.broadcast_to(array, leaf.shape).copy()
    except ValueError:
        raise AnydiffError(
            f"an array of shape {array.shape} does not fit the leaf {leaf.name!r} of shape {leaf.shape}; give one "
            "value per entry, or what broadcasts to that (program.part(array) cuts an array over a whole sample)."
        ) from None
