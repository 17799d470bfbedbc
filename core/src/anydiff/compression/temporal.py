"""What a network is called with while it samples, and which of its layers see the time and the condition alone.

The layers are found, not named: one whose input is bitwise the same for two different states, at one time under one
condition, does not depend on the state. Together they are the temporal information block of TFMQ-DM (Huang et al. 2024,
arXiv:2311.16503), whatever network it is. Since a plan calls a network at finitely many times, what goes through them
is a finite set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.compression.quantised import CONDITION, QUANTISABLE, STATE, TIME
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning


@dataclass(frozen=True)
class NetworkInput:
    """What a network was called with.

    Attributes:
        x: scaled states ``[B, *shape]``.
        told: of the time, ``[B]`` or ``[B, told_size]``.
        condition: as it was before it was encoded.
    """

    x: Tensor
    told: Tensor
    condition: Conditioning

    def rows(self, rows: Tensor) -> NetworkInput:
        """These rows."""
        return NetworkInput(self.x[rows], self.told[rows], self.condition.rows(rows))

    def __call__(self, network: nn.Module) -> Any:
        """What ``network`` says."""
        return network(self.x, self.told, self.condition)


@dataclass(frozen=True)
class Calibration:
    """The calls of a plan.

    Attributes:
        calls: per time of the plan, in its order, all rows that were seen there.
        plan: the plan's own text, which tells plans apart.
    """

    calls: tuple[NetworkInput, ...]
    plan: str

    @property
    def times(self) -> list[Any]:
        """What the network is told at each time: a number, or a list of them."""
        return [call.told[0].tolist() for call in self.calls]

    def some(self, rows: int, generator: torch.Generator) -> NetworkInput:
        """About ``rows`` rows, as many of each time, drawn without repetition."""
        each = max(1, rows // len(self.calls))
        chosen = [
            call.rows(torch.randperm(len(call.x), generator=generator)[: min(each, len(call.x))]) for call in self.calls
        ]
        return joined(chosen)


def joined(calls: Sequence[NetworkInput]) -> NetworkInput:
    """The rows of several, one after the other."""
    return NetworkInput(
        torch.cat([each.x for each in calls]),
        torch.cat([each.told for each in calls]),
        Conditioning.joined([each.condition for each in calls]),
    )


def recorded(network: nn.Module, run: Callable[[], object], plan: str) -> Calibration:
    """The calls that ``run()`` makes of ``network``; calls at one time become one.

    Raises:
        AnydiffError: it makes none, or one whose rows have different times.
    """
    found: dict[tuple[float, ...], list[NetworkInput]] = {}

    def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
        x, told, condition = given
        if not bool((told == told[:1]).all()):
            raise AnydiffError("rows of one network call have different times, so there is no table of times for them.")
        key = tuple(told[0].reshape(-1).tolist())
        plain = replace(condition, parts={}, known=None, index=None)
        found.setdefault(key, []).append(NetworkInput(x.detach().clone(), told.clone(), plain))

    handle = network.register_forward_pre_hook(keep)
    try:
        run()
    finally:
        handle.remove()
    if not found:
        raise AnydiffError("no network call was made, so there is nothing to calibrate on.")
    return Calibration(tuple(joined(same) for same in found.values()), plan)


@contextmanager
def watched(modules: dict[str, nn.Module], tell: Callable[[str, Any, Any], None]) -> Iterator[None]:
    """Call ``tell(name, inputs, output)`` whenever one of ``modules`` has run."""
    handles = [
        module.register_forward_hook(lambda _, given, made, name=name: tell(name, given, made))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that can be quantised, by name."""
    return {name: each for name, each in network.named_modules() if isinstance(each, QUANTISABLE)}


@torch.no_grad()
def inputs_of(network: nn.Module, call: NetworkInput) -> dict[str, list[Tensor]]:
    """Name of each layer that runs -> its inputs, in the order in which the layers first run."""
    seen: dict[str, list[Tensor]] = {}
    with watched(layers_of(network), lambda name, given, made: seen.setdefault(name, []).append(given[0].clone())):
        call(network)
    return seen


def found_layers(network: nn.Module, calibration: Calibration) -> dict[str, str]:
    """Name of each layer that runs -> what its input depends on, in the order in which the layers run.

    ``time``: the same for two states, another at another time; ``condition``: the same at two times as well; ``state``:
    all others. A layer that no call runs (a weight that is only read) is not among them.
    """
    call = calibration.calls[len(calibration.calls) // 2]
    rows = torch.arange(min(4, len(call.x)))
    call = call.rows(rows)
    # Entries that are zero stay zero: those of absent nodes are.
    factor = 0.5 + torch.rand(call.x.shape, generator=torch.Generator().manual_seed(0)).to(call.x)
    other = replace(call, x=call.x * factor)
    seen, changed = inputs_of(network, call), inputs_of(network, other)
    if len(calibration.calls) > 1:
        later = replace(call, told=calibration.calls[-1].told[:1].expand_as(call.told))
        moved = inputs_of(network, later)
    else:
        moved = {}

    def same(name: str, others: dict[str, list[Tensor]]) -> bool:
        mine, theirs = seen[name], others.get(name, [])
        return len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))

    return {name: STATE if not same(name, changed) else CONDITION if same(name, moved) else TIME for name in seen}
