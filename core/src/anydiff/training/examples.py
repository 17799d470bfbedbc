"""The examples of a training, as a pure function of (seed, position): order, noise, time and hidden conditions.

Position p counts examples from the start of the training, over all devices. The example at p, its noise, its uniform
number (which becomes its time) and the conditions hidden from it depend on (seed, p) alone, so the same configuration
trains the same model on one device or many, with any micro batch, resumed or not.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data.dataset import Occasion
from anydiff.errors import AnydiffError
from anydiff.objectives import Coupling
from anydiff.paths.path import Path
from anydiff.states import Conditioning, Draws, NoiseSource, derived_seed, permutation, uniform
from anydiff.training.events import TrainingEvents
from anydiff.training.settings import TrainingSettings


@dataclass
class Examples:
    """A batch to train on.

    Attributes:
        clean: x0 [B, *shape].
        noise: ε [B K, *shape], the K noises of an example one after the other (``TrainingSettings.noise_levels``).
        uniform: numbers in (0, 1), float64 [B K, *Objective.uniform_shape].
        condition: what is given beside the states, B rows, without the truth.
        indices: where in the data set each example comes from.
        draws: what an objective draws beside, keyed by the examples' positions; of positions 0 to B - 1 where None.
        coupling: knows the other micro batches of a loss of the whole batch; None where this is all of it.
    """

    clean: Tensor
    noise: Tensor
    uniform: Tensor
    condition: Conditioning
    indices: list[int]
    draws: Draws | None = None
    coupling: Coupling | None = None

    def to(self, device: torch.device) -> Examples:
        """The same batch on ``device``."""
        states = (self.clean.to(device), self.noise.to(device), self.uniform.to(device))
        return Examples(*states, self.condition.to(device), self.indices, self.draws)


class Sealed:
    """Examples on their way through wrappers of precision, which round tensors in every container they know and refuse
    frozen ones: times stay float64."""

    __slots__ = ("examples",)

    def __init__(self, examples: Examples) -> None:
        self.examples = examples


class Drawn(NamedTuple):
    """A batch as it was drawn: states and condition of the data set, and the fields of :class:`Examples`."""

    states: Tensor
    condition: Conditioning
    noise: Tensor
    uniform: Tensor
    indices: list[int]


class ExampleStream:
    """Makes the examples of any positions of a training.

    Args:
        dataset: ``len(dataset)``, ``dataset.spec``, ``dataset.conditions``, ``dataset.batch(indices)``.
        path: gives the noise law.
        settings: gives seed, batch size and dropout of conditions.
        events: their ``transform_batch`` is applied in order.
        uniform_shape: of the uniform numbers that the objective needs of each example.
    """

    def __init__(
        self,
        dataset: Any,
        path: Path,
        settings: TrainingSettings,
        events: Sequence[TrainingEvents] = (),
        uniform_shape: tuple[int, ...] = (),
    ) -> None:
        self.dataset = dataset
        self.size = len(dataset)
        if self.size == 0:
            raise AnydiffError("the training data set is empty; check its path and split.")
        self.settings = settings
        self.events = events
        self.uniform_shape = uniform_shape
        self.seed = derived_seed(settings.seed, "training")
        self.noise = NoiseSource(dataset.spec, self.seed, path.noise_law)
        self.dtype = dataset.spec.dtype(torch.float64 if settings.precision == "64-true" else torch.float32)
        self._order = functools.lru_cache(maxsize=2)(self._permutation)

    def indices(self, positions: Sequence[int]) -> list[int]:
        """Where in the data set the examples at ``positions`` come from: each epoch is a permutation of its own."""
        return [int(self._order(position // self.size)[position % self.size]) for position in positions]

    def draw(self, positions: Sequence[int]) -> Drawn:
        """What is at ``positions``: of the data set and of the streams of random numbers, before any listener saw it.

        A pure function of the positions, so it may be called ahead of its step, in a thread.
        """
        indices = self.indices(positions)
        drawn = getattr(self.dataset, "drawn", None)  # whatever has batch() will do for a training
        if drawn is None:
            states, condition = self.dataset.batch(indices)
        else:
            states, condition = drawn(Occasion(positions, self.seed, self.settings.batch_size, self.indices))
        return Drawn(states, condition, self._noise(positions), self._uniform(positions), indices)

    def finish(self, drawn: Drawn, step: int, positions: Sequence[int]) -> Examples:
        """Let listeners transform what was drawn, check it, and hide conditions. Belongs into the training's thread:
        a transform may be a plugin's code that is not made for threads, and is told of each step in its turn.
        """
        states, condition = drawn.states, drawn.condition.without_truth()
        for listener in self.events:
            changed = listener.transform_batch((states, condition), step, positions)
            if changed is not None:
                states, condition = changed
        self.dataset.spec.check(states)
        self.dataset.spec.check_classes(states, f"data set {getattr(self.dataset, 'name', '')!r}")
        if states.shape[0] != len(positions):
            raise AnydiffError(f"the data set gave {states.shape[0]} states for {len(positions)} indices; repair it.")
        condition = self._hidden(condition, positions)
        draws = Draws(self.seed, positions, self.settings.noise_levels, "objective", together=self.settings.batch_size)
        return Examples(states.to(self.dtype), drawn.noise, drawn.uniform, condition, drawn.indices, draws)

    def examples(self, step: int, positions: Sequence[int]) -> Examples:
        """The examples at ``positions``, which belong to the optimizer step after ``step`` finished ones."""
        return self.finish(self.draw(positions), step, positions)

    def _noise(self, positions: Sequence[int]) -> Tensor:
        draws = [self.noise.draw(positions, level, self.dtype) for level in range(self.settings.noise_levels)]
        return torch.stack(draws, dim=1).flatten(0, 1)

    def _uniform(self, positions: Sequence[int]) -> Tensor:
        """Each row's numbers lie evenly in (0, 1), so that every example is seen at low and high noise alike.

        Each number is uniform by itself (Kingma et al. 2021, arXiv:2107.00630, appendix I.1, there over a batch).
        """
        levels = self.settings.noise_levels
        first = uniform(self.seed, positions, 0, "time", self.uniform_shape)
        if levels == 1:
            return first
        steps = torch.arange(levels, dtype=torch.float64).reshape(-1, *[1] * len(self.uniform_shape))
        spread = (first[:, None] + steps / levels) % 1
        return spread.clamp(min=2.0**-54).flatten(0, 1)  # the sum may round to 1, and 0 is no time

    def _hidden(self, condition: Conditioning, positions: Sequence[int]) -> Conditioning:
        rate = self.settings.condition_dropout
        for name in self.dataset.conditions if rate else ():
            if name in condition.given:
                condition = condition.hidden([name], uniform(self.seed, positions, 0, f"hide/{name}") < rate)
        return condition

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        """All examples once; of a data set in pieces, those of the same few pieces follow each other, mixed."""
        order = permutation(self.seed, epoch, "order", self.size)
        pieces = getattr(self.dataset, "pieces", None)
        if pieces is None:
            return order
        edges, together = pieces
        turn = permutation(self.seed, epoch, "order/pieces", len(edges) - 1)
        window = np.empty(len(turn), dtype=np.int64)
        window[turn] = np.arange(len(turn)) // together
        return order[np.argsort(np.repeat(window, np.diff(edges))[order], kind="stable")]
