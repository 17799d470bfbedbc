"""Rounding that keeps what a network says: of the temporal block over its finite set, of the rest block by block.

After TFMQ-DM (Huang et al. 2024, arXiv:2311.16503) and BRECQ (Li et al. 2021, arXiv:2102.05426). Full precision gives
the targets; what goes into a block comes from the network as far as it is quantised already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.compression import rounding
from anydiff.compression.quantised import STATE, Clock, _geometry, convolved, replace_module
from anydiff.compression.quantisers import Quantiser, straight_through, weight_quantiser
from anydiff.compression.temporal import NetworkInput, watched


@dataclass(frozen=True)
class Effort:
    """How long rounding is learned.

    Attributes:
        iterations: steps of Adam per block.
        batch: rows per step.
        rate: of Adam. TFMQ-DM takes 20,000 steps of 1e-3; fewer steps need larger ones.
        weight: of the penalty that drives roundings to a decision.
        most_layers: of a block; larger ones are cut into theirs.
    """

    iterations: int = 300
    batch: int = 32
    rate: float = 1e-2
    weight: float = 0.01
    most_layers: int = 8


class SoftLayer(nn.Module):
    """A layer on its way to integers: in full precision, with weights that may still be rounded either way, or hard.

    Args:
        layer: in full precision; it is not changed.
        bits: of the weights.
        clock: tells the place of the time for the quantisers of inputs.
    """

    def __init__(self, layer: nn.Module, bits: int, clock: Clock, search: bool = True) -> None:
        super().__init__()
        self.layer, self.clock = layer, clock
        self.geometry, self.mode = _geometry(layer), getattr(layer, "padding_mode", "zeros")
        self.full: Tensor = layer.weight.detach()  # type: ignore[operator]
        self.quantiser = weight_quantiser(self.full, bits, search)
        self.nearest = self.quantiser(self.full)
        self.soft: Tensor | None = None
        self.hard: Tensor | None = None
        self.on = False
        self.inputs: Sequence[Quantiser] = ()

    @property
    def weight(self) -> Tensor:
        """The weight as it stands."""
        if not self.on:
            return self.full
        if self.soft is not None:
            return rounding.soft_weight(self.full, self.quantiser, self.soft)
        return self.nearest if self.hard is None else self.hard

    @property
    def bias(self) -> Tensor | None:
        """The layer's, in full precision."""
        return self.layer.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """The layer's result."""
        if not self.on and not self.inputs:
            made: Tensor = self.layer(x)
            return made
        if self.inputs:
            place = self.clock.place if len(self.inputs) > 1 else 0
            assert isinstance(place, int)
            each = self.inputs[place]
            x = straight_through(x, each.scale, each.zero, each.top)
        return convolved(x, self.weight, self.bias, self.geometry, self.mode)

    def begin(self) -> Tensor:
        """Let the weight be rounded either way; what is to be learned."""
        self.soft = rounding.start(self.full, self.quantiser).requires_grad_(True)
        return self.soft

    def decide(self) -> None:
        """Round every weight the way it leans."""
        if self.soft is not None:
            with torch.no_grad():
                levels = rounding.hard_levels(self.full, self.quantiser, self.soft)
                self.hard, self.soft = self.quantiser.values(levels), None


def soften(network: nn.Module, kinds: Mapping[str, str], bits: int, clock: Clock) -> dict[str, SoftLayer]:
    """Put a :class:`SoftLayer` in the place of each named layer of ``network``; off, so that nothing changes yet."""
    found = {}
    for name in kinds:
        found[name] = SoftLayer(network.get_submodule(name), bits, clock)
        replace_module(network, name, found[name])
    return found


@contextmanager
def switched(layers: Sequence[SoftLayer], on: bool) -> Iterator[None]:
    """With the quantised weights of ``layers`` on, or off."""
    before = [layer.on for layer in layers]
    for layer in layers:
        layer.on = on
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.on = was


def learn(
    layers: Sequence[SoftLayer], loss: Callable[[Tensor], Tensor], rows: int, effort: Effort, generator: torch.Generator
) -> None:
    """Learn the roundings of ``layers`` together, then decide them.

    Args:
        layers: which are on.
        loss: of a batch of row numbers, to be made small.
        rows: how many there are.
        effort: how long.
        generator: draws the batches.
    """
    soft = [layer.begin() for layer in layers]
    optimiser = torch.optim.Adam(soft, lr=effort.rate)
    for step in range(effort.iterations):
        chosen = torch.randperm(rows, generator=generator)[: effort.batch]
        with torch.enable_grad():
            total = loss(chosen)
            beta = rounding.beta_at(step / effort.iterations)
            if beta is not None:
                total = total + effort.weight * sum(rounding.penalty(each, beta) for each in soft)
            gradients = torch.autograd.grad(total, soft)
        for each, gradient in zip(soft, gradients, strict=True):
            each.grad = gradient
        optimiser.step()
    for layer in layers:
        layer.decide()


def reconstruct_temporal(
    network: nn.Module,
    layers: Mapping[str, SoftLayer],
    finite: NetworkInput,
    effort: Effort,
    generator: torch.Generator,
) -> None:
    """Learn the roundings of all layers of the temporal block together, so that its features stay what they are.

    Args:
        network: softened.
        layers: those of the block, by name.
        finite: the rows of the finite set: times, conditions and presence.
        effort: how long.
        generator: draws the batches.
    """
    if not layers:
        return
    seen: dict[str, list[Tensor]] = {}
    modules = dict(layers)

    def features(rows: Tensor) -> dict[str, list[Tensor]]:
        seen.clear()
        with watched(modules, lambda name, given, made: seen.setdefault(name, []).append(made)):  # type: ignore[arg-type]
            finite.rows(rows)(network)
        return dict(seen)

    targets: dict[str, list[Tensor]] = {}
    with torch.no_grad(), switched(list(layers.values()), False):
        for name, made in features(torch.arange(len(finite.x))).items():
            targets[name] = [each.clone() for each in made]

    def loss(rows: Tensor) -> Tensor:
        made = features(rows)
        errors = [
            (now - then[rows]).square().flatten(1).sum(1).mean()
            for name in targets
            for now, then in zip(made[name], targets[name], strict=True)
        ]
        return torch.stack(errors).sum()

    with switched(list(layers.values()), True):
        learn(list(layers.values()), loss, len(finite.x), effort, generator)


@dataclass(frozen=True)
class Block:
    """A module whose roundings are learned together.

    Attributes:
        name: of the module.
        layers: names of its layers.
    """

    name: str
    layers: tuple[str, ...]


@torch.no_grad()
def found_blocks(network: nn.Module, kinds: Mapping[str, str], call: NetworkInput, most: int) -> list[Block]:
    """The smallest modules that hold several layers of the state and are called once with tensors; else single layers.

    In the order in which they run.
    """
    calls: dict[str, list[bool]] = {}

    def tell(name: str, given: Any, made: Any) -> None:
        calls.setdefault(name, []).append(isinstance(made, Tensor) and all(isinstance(each, Tensor) for each in given))

    modules = {name: each for name, each in network.named_modules() if name}
    with watched(modules, tell):
        call(network)
    state = [name for name, kind in kinds.items() if kind == STATE]

    def within(name: str) -> tuple[str, ...]:
        return tuple(each for each in state if each == name or each.startswith(f"{name}."))

    def block_of(layer: str) -> str:
        parts = layer.split(".")
        for end in range(len(parts) - 1, 0, -1):
            name = ".".join(parts[:end])
            if calls.get(name) == [True] and 2 <= len(within(name)) <= most:
                return name
        return layer

    names = dict.fromkeys(block_of(each) for each in state)
    outer = [name for name in names if not any(name.startswith(f"{other}.") for other in names if other != name)]
    return [Block(name, within(name)) for name in outer if calls.get(name) == [True]]


def reconstruct_blocks(
    network: nn.Module, layers: Mapping[str, SoftLayer], kinds: Mapping[str, str], rows: NetworkInput, effort: Effort,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """Learn the roundings of the layers of the state, block by block in the order in which they run.

    Args:
        network: softened; the layers of the temporal block are decided, and on.
        layers: all, by name.
        kinds: of each.
        rows: calls to learn on.
        effort: how long.
        generator: draws the batches.
    """
    every = list(layers.values())
    for block in found_blocks(network, kinds, rows.rows(torch.arange(min(2, len(rows.x)))), effort.most_layers):
        module = network.get_submodule(block.name)
        captured: dict[str, Any] = {}

        def keep(name: str, given: Any, made: Any, captured: dict[str, Any] = captured) -> None:
            captured["given"], captured["made"] = given, made

        with torch.no_grad(), watched({block.name: module}, keep):
            rows(network)
            given = captured["given"]
            with switched(every, False):
                rows(network)
            target = captured["made"].clone()
        learned = [layers[name] for name in block.layers]

        def loss(chosen: Tensor, module: nn.Module = module, given: Any = given, target: Tensor = target) -> Tensor:
            made = module(*(each[chosen] for each in given))
            return (made - target[chosen]).square().flatten(1).sum(1).mean() / _places(target)  # type: ignore[no-any-return]

        with switched(learned, True):
            learn(learned, loss, len(target), effort, generator)
        for layer in learned:
            layer.on = True


def _places(target: Tensor) -> int:
    """Positions of a result ``[B, C, *positions]``: errors are summed over channels and averaged over positions."""
    return max(1, target[0].numel() // target.shape[1])


@torch.no_grad()
def input_values(network: nn.Module, layers: Mapping[str, SoftLayer], call: NetworkInput) -> dict[str, Tensor]:
    """Name of each layer that runs -> all that goes into it, flattened."""
    seen: dict[str, list[Tensor]] = {}
    modules: dict[str, nn.Module] = dict(layers)
    with watched(modules, lambda name, given, made: seen.setdefault(name, []).append(given[0].detach().flatten())):
        call(network)
    return {name: torch.cat(each) for name, each in seen.items()}
