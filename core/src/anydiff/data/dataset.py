"""What training and metrics ask of a data set: random access to states and conditions, and a hash of what they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from anydiff.domains import Domain
from anydiff.domains.kit import content_hash_of
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning, StateSpec
from anydiff.states.conditions import hashed_names, spoken


@dataclass(frozen=True)
class Occasion:
    """Where in a training examples are asked for.

    Attributes:
        positions: of the examples, counted from the start of the training over all devices.
        seed: of the training's random streams.
        batch_size: examples per step, all devices together: step s has the positions s n to (s + 1) n - 1.
        indices: where in the data set the examples at any positions come from.
    """

    positions: Sequence[int]
    seed: int
    batch_size: int
    indices: Callable[[Sequence[int]], list[int]]

    def __hash__(self) -> int:
        return hash((self.seed, self.batch_size))

    def __eq__(self, other: object) -> bool:
        """Whether what is made of a whole batch is the same: the positions asked for do not matter."""
        mine = (self.seed, self.batch_size)
        return isinstance(other, Occasion) and mine == (other.seed, other.batch_size)


class Dataset(ABC):
    """Training or test data. The same index gives the same example for ever; there is no hidden order and no loader.

    Attributes:
        name: the registered name.
    """

    name: str

    @cached_property
    def hash(self) -> str:
        """Hexadecimal sha256 of every state and condition: two data sets of one hash give the same batches."""
        return content_hash_of(self._content())

    def _content(self) -> Iterator[str | Tensor]:
        for begin in range(0, len(self), 1024):
            states, condition = self.batch(range(begin, min(begin + 1024, len(self))))
            for name, value in [("", states), *hashed_names(condition).items()]:
                yield f"{name}:{value.dtype}:{tuple(value.shape)};"
                yield value

    @property
    @abstractmethod
    def domain(self) -> Domain:
        """The codec of these states."""

    @property
    def statistics(self) -> Mapping[str, Any]:
        """The domain's options that are statistics of this data: option -> value (numbers, texts, lists of these).

        Node counts, a property's scale, a list of classes. Training puts the values of the training split into the
        recipe, so that the test split is read with the same: into the domain's options, and into those of this data
        set where it was given an option of that name, or takes one and no ``domain``. Empty by default.
        """
        return {}

    @property
    def spec(self) -> StateSpec:
        """The leaves of one state."""
        return self.domain.spec

    @property
    def conditions(self) -> dict[str, Any]:
        """Each condition's name and kind (``ClassCondition``, ``VectorCondition`` or ``ArrayCondition``)."""
        return self.domain.conditions

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States ``[B, *spec.shape]`` of the examples at ``indices``, and what is given beside them.

        States are float32, or int64 where all leaves are classes (:meth:`~anydiff.states.StateSpec.dtype`).

        Given are the domain's conditions; beside them there may be ``mask`` (the nodes that are there),
        ``loss_weight``, known ``sources`` of a path, and ``truth``, which metrics may know and no network may.
        """

    def drawn(self, occasion: Occasion) -> tuple[Tensor, Conditioning]:
        """What :meth:`batch` gives, for a place of a training: by default that of the indices there.

        A data set that draws something anew at each step (the start of a bridge) does so here, as a pure function of
        seed and positions, so that a training can be resumed and divided among devices.
        """
        return self.batch(occasion.indices(occasion.positions))

    @property
    def pieces(self) -> tuple[NDArray[np.int64], int] | None:
        """Which examples are read together, and how many such pieces fit into memory; None where all are at hand.

        ``(edges, together)``: piece k holds the examples from ``edges[k]`` up to ``edges[k + 1]``, int64 from 0 to
        ``len``. A training then takes the pieces in an order of each epoch's own, and mixes the examples of
        ``together`` pieces at a time.
        """
        return None

    @property
    def dependence(self) -> int:
        """How many of the following examples depend on an example, as windows of one series that overlap do.

        Intervals of what forecasts reach then count blocks of neighbours instead of cases. 0, the default, says that
        the examples are independent of each other.
        """
        return 0

    def case_labels(self, indices: Sequence[int]) -> list[Any] | None:
        """What tells the examples at ``indices`` apart, as :meth:`NamesCases.labels` does; None where nothing does.

        Samples made elsewhere are then compared with their own example (:meth:`MatchesCases.match`), not by order.
        """
        return None


def overlapping(begins: ArrayLike, ends: ArrayLike) -> int:
    """:attr:`Dataset.dependence` of examples that each use a stretch of time: the farthest rows that share a moment.

    Args:
        begins: of each example's stretch, in any unit ``[N]``.
        ends: likewise; a stretch reaches up to its end, and not to it.
    """
    first, last = np.asarray(begins), np.asarray(ends)
    order = np.argsort(first, kind="stable")
    first, last = first[order], np.maximum.accumulate(last[order])
    farthest = 0
    for shift in range(1, len(order)):
        shared = first[shift:] < last[:-shift]
        if not shared.any():
            break
        farthest = max(farthest, int(np.abs(order[shift:] - order[:-shift])[shared].max()))
    return farthest


class ArrayDataset(Dataset):
    """Arrays in memory as data of a domain; a subclass sets ``name`` and ``domain`` and hands its split's arrays over::

        class Mine(ArrayDataset):
            name, domain = "mine/points", Points()

            def __init__(self, split="train"):
                super().__init__(np.load(f"{split}.npy"), {"label": np.load(f"{split}-labels.npy")})

    Args:
        states: numbers ``[N, *domain.spec.shape]``, NumPy or torch; kept as float32, and classes as int64.
        given: one array ``[N, ...]`` per condition; floats become float32, all else int64 class numbers.
        mask: bool ``[N, nodes]``: which nodes there are, where examples differ in size.
        loss_weight: weights of the entries in the loss ``[N, *spec.shape]``, or broadcastable to that.
        truth: what metrics alone may know, one array ``[N, ...]`` per name.

    Raises:
        AnydiffError: states of another shape than the domain's, or something that has not one row per state.
    """

    def __init__(
        self,
        states: ArrayLike | Tensor,
        given: Mapping[str, ArrayLike | Tensor] | None = None,
        *,
        mask: ArrayLike | Tensor | None = None,
        loss_weight: ArrayLike | Tensor | None = None,
        truth: Mapping[str, ArrayLike | Tensor] | None = None,
    ) -> None:
        self._states = _tensor(states).to(self.spec.dtype())
        self._condition = Conditioning(
            {name: _tensor(value) for name, value in (given or {}).items()},
            mask=None if mask is None else _tensor(mask).bool(),
            loss_weight=None if loss_weight is None else _tensor(loss_weight).float(),
            truth={name: _tensor(value) for name, value in (truth or {}).items()},
        )
        wanted = tuple(self.spec.shape)
        if self._states.ndim == 0 or tuple(self._states.shape[1:]) != wanted:
            raise AnydiffError(
                f"data set {self.name!r} was given states of shape {tuple(self._states.shape)}, but its domain wants "
                f"[N, {', '.join(map(str, wanted))}]; reshape them."
            )
        for name, value in self._condition.tensors():
            if value.shape[:1] != self._states.shape[:1]:
                raise AnydiffError(
                    f"{spoken(name)} of data set {self.name!r} has shape {tuple(value.shape)}, but there are "
                    f"{len(self._states)} states; give one row per state."
                )

    def __len__(self) -> int:
        return len(self._states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """The arrays' rows at ``indices``."""
        rows = torch.as_tensor(list(indices), dtype=torch.int64)
        return self._states[rows], self._condition.rows(rows)


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(np.array(values))
    return tensor.float() if tensor.is_floating_point() else tensor.long()
