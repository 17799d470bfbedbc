"""Losses that couple all examples of a step, whatever micro batches and devices these are cut into: two passes.

Let L be a function of the outputs o_1, ..., o_N of all N rows. The first pass makes the outputs of every micro batch
without graph, and gathers them over the devices; then L and its gradients g_i by the outputs are made, once, of leaves.
The second pass makes the outputs of each micro batch again, with graph, and gives row i the loss

    L + N (<g_i, o_i> - <g_i, o_i> without graph),

whose mean over all rows is L, and has the gradient of L by the chain rule. So no graph is larger than that of one micro
batch, and the price is one further forward pass. Where one micro batch on one device is the whole batch, one pass does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.objectives import Coupled, Coupling
from anydiff.training.examples import Examples, Sealed

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass
class _Collected(Coupling):
    """The first pass: keeps what every micro batch gives."""

    collects = True
    terms: dict[str, Coupled] = field(default_factory=dict)
    outputs: dict[str, list[Mapping[str, Tensor]]] = field(default_factory=dict)

    def losses(self, name: str, term: Coupled, outputs: Mapping[str, Tensor]) -> Tensor:
        if self.terms.setdefault(name, term) is not term:
            raise AnydiffError(f"two coupled terms are called {name!r} in one step; call them differently.")
        self.outputs.setdefault(name, []).append({key: value.detach() for key, value in outputs.items()})
        first = next(iter(outputs.values()))
        return first.new_zeros(len(first))


class _Solved(NamedTuple):
    """The loss of one term, the number of rows it is of, and its gradients by the outputs of each micro batch here."""

    loss: Tensor
    rows: int
    gradients: Iterator[Mapping[str, Tensor]]


@dataclass
class _Given(Coupling):
    """The second pass: gives each row its share of the gradient."""

    solved: Mapping[str, _Solved]

    def losses(self, name: str, term: Coupled, outputs: Mapping[str, Tensor]) -> Tensor:
        loss, rows, gradients = self.solved[name]
        shares = []
        for key, gradient in next(gradients).items():
            product = gradient.to(outputs[key]) * outputs[key]
            shares.append(product.reshape(len(product), -1).sum(1))
        linear = sum(shares[1:], start=shares[0])
        return loss.to(linear) + rows * (linear - linear.detach())


def two_passes(
    batches: Iterable[Examples], step: Callable[[Sealed], object], fabric: Fabric, seed: Callable[[int], None]
) -> Iterator[Examples]:
    """The micro batches of a step for the second pass, after the first one.

    Args:
        batches: of this device.
        step: the method's, on one of them.
        fabric: gathers over the devices.
        seed: sets torch's random numbers for the micro batch of this number, so that dropout is the same in both.
    """
    kept, collected = list(batches), _Collected()
    with torch.no_grad():
        for number, examples in enumerate(kept):
            seed(number)
            step(Sealed(replace(examples, coupling=collected)))
    solved = {name: _solve(collected.terms[name], outputs, fabric) for name, outputs in collected.outputs.items()}
    for number, examples in enumerate(kept):
        seed(number)
        yield replace(examples, coupling=_Given(solved))


def _solve(term: Coupled, outputs: list[Mapping[str, Tensor]], fabric: Fabric) -> _Solved:
    """The loss of the whole batch and its gradients by the outputs of this device's micro batches."""

    def gather(rows: Tensor) -> Tensor:  # those of all devices, in the order of their ranks, as examples are
        return torch.as_tensor(fabric.all_gather(rows)).reshape(-1, *rows.shape[1:])

    sizes = [len(next(iter(each.values()))) for each in outputs]
    whole = {key: gather(torch.cat([each[key] for each in outputs])) for key in outputs[0]}
    leaves = {key: value.requires_grad_(value.is_floating_point()) for key, value in whole.items()}
    with torch.enable_grad():
        loss = term.batch_loss(leaves)
    found = torch.autograd.grad(loss, [v for v in leaves.values() if v.requires_grad], allow_unused=True)
    names = [key for key, value in leaves.items() if value.requires_grad]
    mine = slice(first := fabric.global_rank * sum(sizes), first + sum(sizes))
    parts = {key: torch.split(g[mine], sizes) for key, g in zip(names, found, strict=True) if g is not None}
    rows = len(next(iter(leaves.values())))
    each = ({key: split[number] for key, split in parts.items()} for number in range(len(sizes)))
    return _Solved(loss.detach(), rows, each)
