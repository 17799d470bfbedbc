"""The micro batches of one rank, step by step, made ahead in a thread where that cannot change them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anydiff.training.examples import Drawn, Examples, ExampleStream
from anydiff.training.prefetch import Prefetch
from anydiff.training.settings import TrainingSettings

IN_A_THREAD = ("32-true", "bf16-mixed", "16-mixed")
"""Precisions under which batches may be made in a thread: the others change torch's default type, for all threads,
while the network runs."""


class Batches:
    """What this rank trains on in each step.

    A thread draws the batches of the next steps (see :mod:`anydiff.training.prefetch`); listeners transform each in the
    training's own thread, at its step. Where drawing the first batch moves torch's global random numbers, or under a
    precision that is not :data:`IN_A_THREAD`, each batch is drawn when it is asked for: then what the thread does
    would depend on what the network does meanwhile.

    Args:
        stream: makes the examples of any positions.
        settings: sizes, number of steps, and how many batches may wait.
        rank: of this process.
        world: number of processes.
    """

    def __init__(self, stream: ExampleStream, settings: TrainingSettings, rank: int, world: int) -> None:
        self.stream, self.settings, self.rank = stream, settings, rank
        self.share = settings.batch_size // world
        self.size = min(settings.micro_batch_size or self.share, self.share)
        self._prefetch: Prefetch[range, Drawn] | None = None
        self._next: int | None = None

    @property
    def count(self) -> int:
        """Micro batches of a step."""
        return -(-self.share // self.size)

    def positions(self, step: int) -> list[range]:
        """The positions of this rank's share of the batch after ``step`` finished steps, in micro batches."""
        first = step * self.settings.batch_size + self.rank * self.share
        last = first + self.share
        return [range(start, min(start + self.size, last)) for start in range(first, last, self.size)]

    @contextmanager
    def ahead(self, step: int) -> Iterator[None]:
        """Within it, batches are made ahead, from the one after ``step`` finished steps; the thread ends with it."""
        self._next = step if self.settings.prefetch and self.settings.precision in IN_A_THREAD else None
        try:
            yield
        finally:
            self._stop()

    def _stop(self) -> None:
        self._next = None
        if self._prefetch is not None:
            self._prefetch.close()
            self._prefetch = None

    def of(self, step: int, device: torch.device) -> Iterator[Examples]:
        """The micro batches after ``step`` finished steps, on ``device``."""
        for positions in self.positions(step):
            drawn = self._prefetch.take(positions) if self._prefetch is not None else self._draw(step, positions)
            yield self.stream.finish(drawn, step, positions).to(device)

    def again(self, step: int, device: torch.device) -> Iterator[Examples]:
        """The same micro batches once more, to find a fault in them; ends the making ahead."""
        self._stop()
        return self.of(step, device)

    def _draw(self, step: int, positions: range) -> Drawn:
        """Draw one batch here, and begin to make the later ones ahead if that cannot change them."""
        if self._next is None:
            return self.stream.draw(positions)
        before = torch.get_rng_state()
        drawn = self.stream.draw(positions)
        if torch.equal(before, torch.get_rng_state()):
            self._prefetch = Prefetch(self.stream.draw, self._after(step, positions), self.settings.prefetch)
        self._next = None
        return drawn

    def _after(self, step: int, positions: range) -> Iterator[range]:
        """All positions that are asked for after these, in order."""
        yield from (each for each in self.positions(step) if each.start > positions.start)
        for later in range(step + 1, self.settings.steps):
            yield from self.positions(later)
