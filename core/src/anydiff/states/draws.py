"""Random numbers of a batch's rows for whoever asks by a name, keyed by (seed, position, name)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anydiff.states.noise import NoiseLaw, NoiseSource
from anydiff.states.spec import StateSpec
from anydiff.states.streams import standard_normal, uniform


@dataclass(frozen=True)
class Draws:
    """What the rows of a batch draw beside their noise and their time.

    A number depends on (seed, position of its row, name) alone: not on the batch, on what others draw, on the order, or
    on the device. So resumption, micro batches and several devices change nothing.

    Args:
        seed: whole number in [0, 2^64).
        positions: of the examples in the whole training, one each.
        levels: rows of each example, one after the other; each has numbers of its own.
        name: who draws; other names give independent numbers.
        together: examples of an optimizer step, which :meth:`shared` gives one number; None where these are all of it.
    """

    seed: int
    positions: Sequence[int]
    levels: int = 1
    name: str = "draws"
    together: int | None = None

    @property
    def rows(self) -> list[int]:
        """The position of each row of the batch."""
        return [position for position in self.positions for _ in range(self.levels)]

    def named(self, name: str) -> Draws:
        """The same rows for ``name``, a part of who draws here."""
        return replace(self, name=f"{self.name}/{name}")

    def where(self, keep: Callable[[int], bool]) -> Draws:
        """The rows whose position is one to ``keep``, in their order, with the numbers that they have here."""
        return replace(self, positions=[position for position in self.positions if keep(position)])

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Numbers in (0, 1) for ``purpose``: float64 ``[rows, *shape]``, on the host."""
        stream = f"{self.name}/{purpose}"
        return self._rows([uniform(self.seed, self.positions, k, stream, shape) for k in range(self.levels)])

    def shared(self, purpose: str) -> Tensor:
        """Numbers in (0, 1) for ``purpose``, float64 ``[rows]``: one for all examples of a step, on the host.

        The numbers of an example's levels are spread evenly, and the same for each example.
        """
        every = self.together or max(self.positions) + 1
        first = uniform(self.seed, [p - p % every for p in self.positions], 0, f"{self.name}/{purpose}")
        levels = torch.arange(self.levels, dtype=torch.float64) / self.levels
        return ((first[:, None] + levels) % 1).clamp(min=2.0**-54).flatten()  # 0 is no number in (0, 1)

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal numbers for ``purpose``: float64 ``[rows, *shape]``, on the host."""
        stream = f"{self.name}/{purpose}"
        drawn = (standard_normal(self.seed, self.positions, k, stream, shape) for k in range(self.levels))
        return self._rows([torch.from_numpy(each) for each in drawn])

    def signs(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """-1 or 1, each with probability 1/2, for ``purpose``: float64 ``[rows, *shape]``, on the host."""
        return torch.where(self.uniform(purpose, shape) < 0.5, -1.0, 1.0).double()

    def source(
        self, purpose: str, spec: StateSpec, law: NoiseLaw | None = None, mask: Tensor | None = None
    ) -> tuple[NoiseSource, list[int]]:
        """What a sampler draws for ``purpose`` in each row, and the numbers of the rows in it.

        Args:
            purpose: other ones give independent numbers.
            spec: what one sample is.
            law: of the noise; the normal one by default.
            mask: bool ``[rows, N]``: which nodes each sample has.
        """
        text = f"{self.name}/{purpose}/{self.seed}"
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        numbers = [position * self.levels + k for position in self.positions for k in range(self.levels)]
        return NoiseSource(spec, seed, law, mask), numbers

    @staticmethod
    def _rows(levels: list[Tensor]) -> Tensor:
        return levels[0] if len(levels) == 1 else torch.stack(levels, dim=1).flatten(0, 1)
