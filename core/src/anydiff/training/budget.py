"""A network is built only as far as its weights go: options that ask for more are refused before memory is taken.

Weights carry the options of their network. A file of a few kilobytes may ask for a billion blocks, or for one matrix of
a terabyte; comparing shapes with the finished network would come too late. While a network is built within
:func:`within_weights`, every tensor that is made and every parameter and module that is registered counts against a
budget, a generous multiple of what the file holds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from anydiff.errors import FileFormatError

SLACK = 4
"""Parameters may be made and replaced, and constant tables stand beside them."""
FREE_VALUES = 16 << 20
FREE_PARTS = 10_000


@dataclass
class _Budget:
    """What is left for one network.

    Attributes:
        source: the file, for the sentence.
        held: values in the file.
        values: values that may still be registered as parameters.
        largest: values that one tensor may have.
        parts: parameters and modules that may still be registered.
    """

    source: str
    held: int
    values: int
    largest: int
    parts: int

    def refuse(self) -> FileFormatError:
        return FileFormatError(
            f"{self.source} holds {self.held:,} values, but its recipe asks for a network of far more; it is "
            "damaged or made to exhaust memory: get the weights again."
        )

    def take(self, values: int) -> None:
        self.values -= values
        self.parts -= 1
        if self.values < 0 or self.parts < 0:
            raise self.refuse()


_budgets: list[_Budget | None] = []
"""The budget of the network that is being built stands last; None lets everything pass."""


@contextlib.contextmanager
def without_budget() -> Iterator[None]:
    """Nothing counts inside: what a network needs beside its own weights is loaded there, by budgets of its own."""
    _budgets.append(None)
    try:
        yield
    finally:
        _budgets.pop()


@contextlib.contextmanager
def within_weights(
    tensors: Mapping[str, Tensor], source: str, options: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Bound what is built inside by ``tensors``: sizes of single tensors, of all parameters, and numbers of modules.

    Args:
        tensors: the content of a weights file.
        source: its name, for the sentence.
        options: of the network; none is a number beyond that of all values, which may be the length of a list.

    Raises:
        FileFormatError: more is asked for; raised before the memory is taken.
    """
    held = sum(tensor.numel() for tensor in tensors.values())
    most = SLACK * held + FREE_VALUES
    budget = _Budget(source, held, most, most, SLACK * 16 * len(tensors) + FREE_PARTS)
    if any(number > most for number in _numbers(options or {})):
        raise budget.refuse()
    handles = []
    if all(budget is None for budget in _budgets):  # else the outer block has them, and each part would count twice
        handles.append(register_module_parameter_registration_hook(_count_parameter))
        handles.append(register_module_module_registration_hook(_count_module))
    _budgets.append(budget)
    try:
        with _SizeCheck():  # type: ignore[no-untyped-call]
            yield
    finally:
        for handle in handles:
            handle.remove()
        _budgets.pop()


def _numbers(value: Any) -> Iterator[int]:
    """The whole numbers in plain data."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers(each)


def _count_parameter(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
    if _budgets[-1] is not None and parameter is not None:
        _budgets[-1].take(parameter.numel())


def _count_module(module: nn.Module, name: str, child: nn.Module | None) -> None:
    if _budgets[-1] is not None:
        _budgets[-1].take(0)


class _SizeCheck(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at each call that makes a tensor from numbers alone before it runs."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To hide this mode from its compiler torch imports the compiler, which takes two seconds; no network is
        # compiled while it is built.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        budget = _budgets[-1]
        packet = getattr(func, "overloadpacket", None)
        size = _MAKERS.get(getattr(packet, "__name__", ""))
        if budget is not None and size is not None and size(args) > budget.largest:
            raise budget.refuse()
        return func(*args, **(kwargs or {}))


def _of_shape(args: tuple[Any, ...]) -> int:
    return next((math.prod(each) for each in args if isinstance(each, (list, tuple))), 0)


def _of_range(args: tuple[Any, ...]) -> int:
    numbers = [float(each) for each in args]
    start, end, step = (0.0, numbers[0], 1.0) if len(numbers) == 1 else (*numbers, 1.0)[:3]
    return math.ceil((end - start) / step)


_MAKERS: dict[str, Callable[[tuple[Any, ...]], int]] = {
    **dict.fromkeys(
        ("empty", "empty_strided", "zeros", "ones", "full", "rand", "randn", "randint", "normal"), _of_shape
    ),
    **dict.fromkeys(("new_empty", "new_zeros", "new_ones", "new_full"), _of_shape),
    "arange": _of_range,
    "linspace": lambda args: int(args[2]),
    "logspace": lambda args: int(args[2]),
    "eye": lambda args: math.prod(args[:2]) if len(args) > 1 else args[0] ** 2,
    "tril_indices": lambda args: math.prod(args[:2]),
    "triu_indices": lambda args: math.prod(args[:2]),
    "randperm": lambda args: int(args[0]),
    "repeat": lambda args: args[0].numel() * math.prod(args[1]),
}
"""Number of values of the result, by the operation's name."""
