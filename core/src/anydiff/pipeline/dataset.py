"""What training and metrics ask of a data set: random access to states and conditions, and a hash of what they are."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from anydiff.pipeline.domain import Domain
from anydiff.states import StateSpec


class Dataset(ABC):
    """Training or test data. The same index gives the same example for ever; there is no hidden order and no loader.

    Attributes:
        name: the registered name.
    """

    name: str

    @cached_property
    def hash(self) -> str:
        """Hexadecimal sha256 of every state and condition: two data sets of one hash give the same batches."""
        digest = hashlib.sha256()
        for begin in range(0, len(self), 1024):
            states, condition = self.batch(range(begin, min(begin + 1024, len(self))))
            for name, value in [("", states), *sorted(condition.items())]:
                digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
                digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    @abstractmethod
    def domain(self) -> Domain:
        """The codec of these states."""

    @property
    def spec(self) -> StateSpec:
        """The leaves of one state."""
        return self.domain.spec

    @property
    def conditions(self) -> dict[str, Any]:
        """Each condition's name and kind (``ClassCondition`` or ``VectorCondition``)."""
        return self.domain.conditions

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """States float32 ``[B, *spec.shape]`` and batch-first conditions of the examples at ``indices``."""
