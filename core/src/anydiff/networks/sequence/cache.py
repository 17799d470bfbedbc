"""What a network keeps of the positions that were drawn: keys and values, or a recurrent state.

A memory belongs to a chunk of rows and is written once per finished position. What is drawn at present stands in no
memory: :class:`KeyValues` lends its free slots to the keys of the tokens that are being drawn, without counting them,
so a network call copies nothing of what is remembered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number


class Memory(ABC):
    """What is remembered of ``length`` positions for each of ``rows`` rows."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many rows it belongs to."""

    @property
    @abstractmethod
    def length(self) -> int:
        """How many positions were written, those that a bounded memory has dropped included."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that are allocated for it."""

    @abstractmethod
    def mark(self) -> Any:
        """The state now, for :meth:`rewind`."""

    @abstractmethod
    def rewind(self, mark: Any) -> None:
        """Forget what was written after ``mark``: the memory is bit for bit as it was.

        Raises:
            AnydiffError: a bounded memory has dropped since what the mark still held.
        """

    @abstractmethod
    def of_rows(self, rows: Tensor) -> Memory:
        """A memory of these rows, a copy; they may repeat."""


@dataclass(frozen=True)
class Layout:
    """The sizes of a :class:`KeyValues`.

    Attributes:
        layers: attention layers.
        heads: attention heads.
        channels: per head.
        capacity: positions that are kept at most; the oldest are dropped.
        lent: slots for tokens that are being drawn, all copies of a guided call together.
    """

    layers: int
    heads: int
    channels: int
    capacity: int
    lent: int

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "channels", "capacity", "lent"):
            natural_number(name, getattr(self, name))

    def nbytes(self, rows: int, dtype: torch.dtype) -> int:
        """Bytes of a memory of ``rows`` rows: keys, values, and one turn per slot."""
        slots = rows * (self.capacity + self.lent)
        return slots * (2 * self.layers * self.heads * self.channels * torch.empty(0, dtype=dtype).itemsize + 8)


class KeyValues(Memory):
    """Keys and values of attention layers, allocated once.

    Args:
        layout: the sizes.
        rows: of the chunk.
        like: gives dtype and device.

    Attributes:
        keys, values: ``[layers, rows, heads, slots, channels]``.
        turns: int64 ``[rows, slots]``: in which turn the position in each slot was drawn.
    """

    def __init__(self, layout: Layout, rows: int, like: Tensor) -> None:
        self.layout, self._rows = layout, natural_number("rows", rows)
        slots = layout.capacity + layout.lent
        shape = (layout.layers, rows, layout.heads, slots, layout.channels)
        self.keys, self.values = like.new_zeros(shape), like.new_zeros(shape)
        self.turns = torch.zeros(rows, slots, dtype=torch.int64, device=like.device)
        self._end = 0  # slots that are written
        self._moved = 0  # positions that were shifted out of the slots

    @property
    def rows(self) -> int:
        """How many rows it belongs to."""
        return self._rows

    @property
    def length(self) -> int:
        """How many positions were written, those dropped included."""
        return self._end + self._moved

    @property
    def kept(self) -> slice:
        """The slots of the positions that may be looked at: the newest ``capacity`` ones."""
        return slice(max(self._end - self.layout.capacity, 0), self._end)

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sum(each.untyped_storage().nbytes() for each in (self.keys, self.values, self.turns))

    def mark(self) -> tuple[int, int]:
        """The number of slots and of dropped positions."""
        return self._end, self._moved

    def rewind(self, mark: tuple[int, int]) -> None:
        """See :meth:`Memory.rewind`."""
        end, moved = mark
        lost = self._moved - moved
        if lost > max(end - self.layout.capacity, 0) or end - lost > self._end:
            raise AnydiffError(
                f"the memory has dropped {lost} positions since the mark, which it cannot take back; raise its "
                f"capacity, now {self.layout.capacity}."
            )
        self._end = end - lost

    def of_rows(self, rows: Tensor) -> KeyValues:
        """See :meth:`Memory.of_rows`."""
        made = object.__new__(KeyValues)
        made.layout, made._rows, made._end, made._moved = self.layout, len(rows), self._end, self._moved
        made.keys, made.values, made.turns = self.keys[:, rows], self.values[:, rows], self.turns[rows]
        return made

    def room(self, count: int) -> None:
        """See to it that ``count`` more tokens find slots; what is older than the capacity goes first.

        Raises:
            AnydiffError: there are not so many slots at all.
        """
        slots = self.layout.capacity + self.layout.lent
        if self._end + count <= slots:
            return
        kept = self.kept
        size = kept.stop - kept.start
        if size + count > slots:
            raise AnydiffError(
                f"{count} tokens are drawn together, but the memory lends {slots - size} slots; make it with lent="
                f"{count} or more."
            )
        for tensor in (self.keys, self.values):
            tensor[:, :, :, :size] = tensor[:, :, :, kept].clone()
        self.turns[:, :size] = self.turns[:, kept].clone()
        self._moved, self._end = self._moved + kept.start, size

    def read(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept and, behind it, the given ``[rows, heads, n, channels]``: views, ``[rows, heads, M, channels]``.

        The given ones lie in lent slots: :meth:`count` counts them, else the next call writes over them.
        """
        here = slice(self._end, self._end + keys.shape[2])
        self.keys[layer, :, :, here], self.values[layer, :, :, here] = keys, values
        seen = slice(self.kept.start, here.stop)
        return self.keys[layer, :, :, seen], self.values[layer, :, :, seen]

    def count(self, turns: Tensor) -> None:
        """Keep what :meth:`read` was given last, drawn in ``turns`` (``[n]`` or ``[rows, n]``)."""
        here = slice(self._end, self._end + turns.shape[-1])
        self.turns[:, here] = turns
        self._end = here.stop
