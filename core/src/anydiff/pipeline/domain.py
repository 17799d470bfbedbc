"""A domain: a plugin's codec between its field's own objects and states, with its pictures and file formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from anydiff.states import StateSpec


class Domain(ABC):
    """What a plugin teaches the core about its field. It holds no data and no network.

    ``decode(encode(objects))`` gives the objects back, up to the precision the field's own files have.

    Attributes:
        name: the registered name.
    """

    name: str

    @property
    @abstractmethod
    def spec(self) -> StateSpec:
        """The leaves of one state."""

    @property
    def conditions(self) -> dict[str, Any]:
        """Each condition's name and kind (``ClassCondition`` or ``VectorCondition``); empty without conditions."""
        return {}

    @abstractmethod
    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States float32 ``[B, *spec.shape]`` of native ``objects``."""

    @abstractmethod
    def decode(self, states: Tensor, condition: Mapping[str, Tensor] | None = None) -> list[Any]:
        """Native objects of ``states [B, *spec.shape]``."""

    @abstractmethod
    def read(self, path: str | Path) -> list[Any]:
        """Native objects from the field's own files."""

    @abstractmethod
    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """Write native objects as the field's own files; what stands there is not overwritten by halves."""

    @abstractmethod
    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write the picture (PNG) an expert of the field would look at."""

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """Batch-first conditions for ``count`` samples from what a user wrote, one text per condition name.

        An empty mapping asks for samples without a condition and gives an empty dictionary.

        Raises:
            UnknownNameError: a condition this domain does not have.
        """
        from anydiff.errors import UnknownNameError

        for name in text:
            raise UnknownNameError("condition", name, self.conditions)
        return {}

    def describe_condition(self, condition: Mapping[str, Tensor]) -> list[str]:
        """One short title per sample; empty without conditions."""
        return []
