"""What a chunk of rows has drawn so far, and the memories that a network made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.networks.sequence.cache import Memory
from anydiff.states import Conditioning


@dataclass(frozen=True)
class Written:
    """Finished positions.

    Attributes:
        values: ``[B, m, *element]``.
        positions: int64 ``[m]`` or ``[B, m]``.
        turn: in which turn they were drawn.
    """

    values: Tensor
    positions: Tensor
    turn: int


class Remembers(Protocol):
    """What makes memories: ``remember`` writes finished positions into one."""

    def new_memory(self, rows: int, like: Tensor) -> Memory:
        """An empty memory for so many rows, of the dtype and on the device of ``like``."""
        ...

    def remember(self, memory: Memory, written: Written, condition: Conditioning) -> None:
        """Write finished positions."""
        ...

    def depends_on(self, condition: Conditioning) -> tuple[str, ...]:
        """The conditions that remembered features depend on."""
        ...


@dataclass
class _Kept:
    memory: Memory
    present: dict[str, Tensor]
    written: int = 0


@dataclass
class Past:
    """The finished positions of a chunk, remembered when they are first looked at.

    A guided call asks for several copies of the rows, with and without conditions. Where remembered features do not
    depend on what is hidden, all copies read one memory; else there is a memory for each way of hiding.

    Attributes:
        rows: of the chunk.
        written: in the order in which they were finished.
        positions_remembered: how many positions were written into memories, per row and memory.
    """

    rows: int
    written: list[Written] = field(default_factory=list)
    kept: dict[bytes, _Kept] = field(default_factory=dict)
    positions_remembered: int = 0

    def commit(self, written: Written) -> None:
        """Finished positions; a network meets them in its next call."""
        if len(written.values) != self.rows:
            raise AnydiffError(f"{len(written.values)} rows are finished, but this past has {self.rows}.")
        self.written.append(written)

    def memory(self, maker: Remembers, condition: Conditioning, like: Tensor) -> Memory:
        """The memory for rows under ``condition``, with all that is finished written into it."""
        present = presence(maker, condition)
        key = key_of(present)
        found = self.kept.get(key)
        if found is None:
            found = self.kept[key] = _Kept(maker.new_memory(self.rows, like), present)
        for each in self.written[found.written :]:
            maker.remember(found.memory, each, condition)
            self.positions_remembered += each.values.shape[1]
        found.written = len(self.written)
        return found.memory

    @property
    def nbytes(self) -> int:
        """Bytes of all memories."""
        return sum(each.memory.nbytes for each in self.kept.values())

    def mark(self) -> Any:
        """The state now, for :meth:`rewind`."""
        return len(self.written), {key: (each.memory.mark(), each.written) for key, each in self.kept.items()}

    def rewind(self, mark: Any) -> None:
        """Forget what was finished after ``mark``."""
        count, marks = mark
        del self.written[count:]
        for key in [key for key in self.kept if key not in marks]:
            del self.kept[key]
        for key, (inner, written) in marks.items():
            self.kept[key].memory.rewind(inner)
            self.kept[key].written = written

    def of_rows(self, rows: Tensor) -> Past:
        """The past of these rows alone: copies, so that both go on independently."""
        taken = [
            Written(each.values[rows], each.positions if each.positions.ndim == 1 else each.positions[rows], each.turn)
            for each in self.written
        ]
        made = Past(len(rows), taken)
        for each in self.kept.values():
            present = {name: there[rows] for name, there in each.present.items()}
            made.kept[key_of(present)] = _Kept(each.memory.of_rows(rows), present, each.written)
        return made


def presence(maker: Remembers, condition: Conditioning) -> dict[str, Tensor]:
    """Where each condition that remembered features depend on is there: what tells memories of one past apart."""
    return {name: condition.presence(name) for name in maker.depends_on(condition) if name in condition.given}


def key_of(present: dict[str, Tensor]) -> bytes:
    """A key for equal presences."""
    return b"/".join(name.encode() + there.cpu().numpy().tobytes() for name, there in present.items())


def copies_of(rows: int, past: Past) -> int:
    """How many copies of the past's rows a call of ``rows`` rows holds.

    Raises:
        AnydiffError: it is no whole number.
    """
    if rows % past.rows:
        raise AnydiffError(
            f"{rows} rows are asked of a memory of {past.rows} rows; a memory belongs to the rows it was made for: "
            "take its rows by index, or make one for this batch."
        )
    return rows // past.rows
