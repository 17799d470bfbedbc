"""Two data sets as the ends of a bridge, and who travels to whom: the coupling."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from anydiff.data.dataset import Dataset, Occasion
from anydiff.domains import Domain
from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.states import Conditioning, permutation

COUPLINGS = ("independent", "paired", "optimal")


class Bridge(Dataset):
    """The examples of one data set, each with a start state out of another, as the source ``start``.

    - ``independent``: at every step of a training an example meets a start of its own, drawn anew;
    - ``paired``: example i belongs to start i, for ever;
    - ``optimal``: as independent, but within each whole batch of a step (all devices together) the starts are assigned
      to the examples so that the sum of squared distances is least (Tong et al. 2024, arXiv:2302.00482).

    What training draws depends on its seed and on the positions of the examples alone. Outside of a training, in a
    benchmark say, example i has start i (modulo their number).

    Args:
        name: the registered name.
        data: where the bridge leads; its conditions go with the examples.
        start: where it begins; its conditions are dropped.
        coupling: one of the above.

    Raises:
        UnknownNameError: no such coupling.
        AnydiffError: states of different shapes, or a paired coupling of data sets of different length.
    """

    def __init__(self, name: str, data: Dataset, start: Dataset, coupling: str = "independent") -> None:
        if coupling not in COUPLINGS:
            raise UnknownNameError("coupling", coupling, COUPLINGS)
        if tuple(data.spec.shape) != tuple(start.spec.shape):
            raise AnydiffError(
                f"the bridge of {name!r} leads from states of shape {tuple(start.spec.shape)} to states of shape "
                f"{tuple(data.spec.shape)}; give both ends one shape."
            )
        if coupling == "paired" and len(data) != len(start):
            raise AnydiffError(
                f"coupling is 'paired', but {name!r} has {len(data)} examples and {len(start)} starts, so nothing says "
                "who belongs to whom; take coupling: independent, or pair the files."
            )
        self.name, self.data, self.start, self.coupling = name, data, start, coupling
        self._assigned = functools.lru_cache(maxsize=2)(self._assignment)

    @property
    def domain(self) -> Domain:
        """That of the data."""
        return self.data.domain

    @property
    def hash(self) -> str:
        """sha256 of both data sets' hashes."""
        return content_hash(self.data.hash, self.start.hash)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States of the data, with start i modulo the number of starts."""
        return self._with(indices, [int(index) % len(self.start) for index in indices])

    def drawn(self, occasion: Occasion) -> tuple[Tensor, Conditioning]:
        """States of the data, with the starts that the coupling gives them at this place of the training."""
        indices = occasion.indices(occasion.positions)
        if self.coupling == "paired":
            return self._with(indices, indices)
        if self.coupling == "independent":
            return self._with(indices, self._starts(occasion.seed, occasion.positions))
        chosen: list[int] = []
        for position in occasion.positions:
            step, row = divmod(position, occasion.batch_size)
            chosen.append(self._assigned(occasion, step)[row])
        return self._with(indices, chosen)

    def _with(self, indices: Sequence[int], starts: Sequence[int]) -> tuple[Tensor, Conditioning]:
        states, condition = self.data.batch(indices)
        begun, _ = self.start.batch(starts)
        return states, replace(condition, sources={**condition.sources, "start": begun})

    def _starts(self, seed: int, positions: Sequence[int]) -> list[int]:
        size = len(self.start)
        epochs = {epoch: permutation(seed, epoch, "bridge/start", size) for epoch in {p // size for p in positions}}
        return [int(epochs[position // size][position % size]) for position in positions]

    def _assignment(self, occasion: Occasion, step: int) -> list[int]:
        """The start of each example of the whole batch of a step."""
        from scipy.optimize import linear_sum_assignment  # only this coupling needs it

        positions = range(step * occasion.batch_size, (step + 1) * occasion.batch_size)
        states, _ = self.data.batch(occasion.indices(positions))
        starts = self._starts(occasion.seed, positions)
        begun, _ = self.start.batch(starts)
        cost = torch.cdist(states.flatten(1).double(), begun.flatten(1).double()).square()
        columns = np.asarray(linear_sum_assignment(cost.numpy())[1])
        return [starts[int(column)] for column in columns]
