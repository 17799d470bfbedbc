"""A network's denoiser of some positions, given what is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, batch_times
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.past import Past, Written, copies_of
from anydiff.networks.sequence.cache import Memory
from anydiff.states import UNCONDITIONAL, Conditioning

if TYPE_CHECKING:
    from anydiff.denoisers.network import NetworkDenoiser


class GivenPast(Denoiser):
    """The positions of one turn ``[B, m, *element]``: an ordinary denoiser, whose network reads a memory.

    The network has ``new_memory(rows, like)``, ``remember(memory, values, positions, turn, condition)`` and
    ``forward(x, told, condition, memory=, positions=, turn=)``, and may name in ``remembered_conditions`` the
    conditions that remembered features depend on. The memory is no condition: a guided call holds copies of the rows,
    which read one memory unless they differ in such a condition.

    Args:
        whole: the network's denoiser.
        past: of the rows.
        positions: int64 ``[m]`` or ``[B, m]``.
        turn: the number of the turn.
    """

    def __init__(self, whole: NetworkDenoiser, past: Past, positions: Tensor, turn: int) -> None:
        self.whole, self.past, self.positions, self.turn = whole, past, positions, turn
        self.path, self.sigma_data, self.native_kind = whole.path, whole.sigma_data, whole.native_kind

    @property
    def native_kinds(self) -> tuple[PredictionKind, ...]:
        """Those of the network."""
        return self.whole.native_kinds

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The network's prediction."""
        return self.natives(x, t, condition)[self.native_kind]

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        """The predictions of all native kinds from one network call."""
        return self.whole.in_units(self._outputs(x, t, condition), x, t)

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """As the network encodes it."""
        return self.whole.encode_condition(condition)

    def _outputs(self, x: Tensor, t: float | Tensor, condition: Conditioning) -> Tensor | Mapping[str, Tensor]:
        times = t if isinstance(t, Tensor) and t.ndim else batch_times(t, x[:1])
        seen, told = self.path.seen(x, times, self.sigma_data), self.whole.told(x, times)
        rows, copies = self.past.rows, copies_of(len(x), self.past)
        if copies == 1 or not self.depends_on(condition):
            return self._call(seen, told, condition, self.past.memory(self, condition, seen))
        parts = [slice(copy * rows, (copy + 1) * rows) for copy in range(copies)]
        conditions = [condition.rows(part) for part in parts]
        memories = [self.past.memory(self, each, seen) for each in conditions]
        if all(memory is memories[0] for memory in memories):
            return self._call(seen, told, condition, memories[0])
        made = [
            self._call(seen[part], told[part], each, memory)
            for part, each, memory in zip(parts, conditions, memories, strict=True)
        ]
        return _stacked(made)

    def _call(
        self, seen: Tensor, told: Tensor, condition: Conditioning, memory: Memory
    ) -> Tensor | Mapping[str, Tensor]:
        made: Tensor | Mapping[str, Tensor] = self.whole.network(
            seen, told, condition, memory=memory, positions=self.positions, turn=self.turn
        )
        return made

    def new_memory(self, rows: int, like: Tensor) -> Memory:
        """The network's empty memory."""
        network: Any = self.whole.network
        memory: Memory = network.new_memory(rows, like)
        return memory

    def remember(self, memory: Memory, written: Written, condition: Conditioning) -> None:
        """Clean values at the scale at which a network sees them: at unit deviation."""
        values = written.values / self.sigma_data if written.values.is_floating_point() else written.values
        network: Any = self.whole.network
        network.remember(memory, values, written.positions, written.turn, condition)

    def depends_on(self, condition: Conditioning) -> tuple[str, ...]:
        """The conditions among those given that remembered features depend on."""
        named: tuple[str, ...] = tuple(getattr(self.whole.network, "remembered_conditions", ()))
        return tuple(name for name in named if name in condition.given)


def _stacked(made: list[Any]) -> Tensor | Mapping[str, Tensor]:
    """Outputs of several calls, one below the other: tensors, or mappings of them."""
    if isinstance(made[0], Mapping):
        return {name: torch.cat([each[name] for each in made]) for name in made[0]}
    return torch.cat(made)
