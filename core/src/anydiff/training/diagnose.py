"""Which tensor was the first to be NaN or infinite: found by running the failing batch once more under hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.states.conditions import spoken
from anydiff.training.examples import Examples


def first_bad_tensor(module: nn.Module, examples: Examples, loss: Callable[[Examples], Tensor]) -> str | None:
    """The name of the first non-finite tensor on the way of ``examples`` through ``loss``; None if all are finite.

    Looked at in the order in which they act: data, conditions, parameters and buffers, activations, loss, gradients.
    The gradients of ``module`` are overwritten.

    Args:
        module: holds the parameters and the layers; names are its own.
        examples: the batch.
        loss: returns the loss [B] of a batch, running ``module`` without collectives.
    """
    return _bad_data(examples) or _bad_weights(module) or _bad_activation(module, examples, loss)


def _bad_data(examples: Examples) -> str | None:
    named = {"states": examples.clean, "noise": examples.noise}
    condition = examples.condition
    for name, value in condition.tensors():
        if name.startswith("given.") and value.is_floating_point():
            # Absent rows have no influence, whatever they hold.
            present = condition.presence(name.removeprefix("given."))
            value = value.masked_fill(~present.reshape(-1, *[1] * (value.ndim - 1)), 0.0)
        named[spoken(name)] = value
    for name, tensor in named.items():
        if not _finite(tensor):
            row = int((~torch.isfinite(tensor)).nonzero()[0, 0])
            index = examples.indices[row * len(examples.indices) // len(tensor)]  # an example may have several noises
            return f"the {name} of example {index} of the data set"
    return None


def _bad_weights(module: nn.Module) -> str | None:
    for kind, tensors in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in tensors:
            if not _finite(tensor):
                return f"the {kind} {name!r}"
    return None


def _bad_activation(module: nn.Module, examples: Examples, loss: Callable[[Examples], Tensor]) -> str | None:
    found: list[str] = []
    with _hooks(module, found):
        module.zero_grad(set_to_none=True)
        total = loss(examples).sum()
        if not found and not _finite(total):
            found.append("the loss")
        if not found:
            total.backward()  # type: ignore[no-untyped-call]
    return found[0] if found else None


@contextmanager
def _hooks(module: nn.Module, found: list[str]) -> Iterator[None]:
    """Append to ``found`` the first bad activation in forward order and the first bad gradient in backward order."""

    def watch(name: str, layer: nn.Module) -> list[Any]:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not all(map(_finite, inputs)):
                found.append(f"the input of {label}")

        def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            if not _finite(output):
                found.append(f"the output of {label}")

        label = f"the layer {name!r} ({type(layer).__name__})"
        return [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]

    def watch_gradient(name: str, parameter: nn.Parameter) -> Any:
        def arrived(parameter: Tensor) -> None:
            if not _finite(parameter.grad):
                found.append(f"the gradient of the parameter {name!r}")

        return parameter.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]

    handles = [handle for name, layer in module.named_modules() if name for handle in watch(name, layer)]
    handles += [watch_gradient(name, parameter) for name, parameter in module.named_parameters()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(torch.isfinite(value).all())
