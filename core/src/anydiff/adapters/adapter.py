"""What an adapter of another library gives: denoisers of its networks, models of its folders, and an example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.states import UNCONDITIONAL, Conditioning


@dataclass(frozen=True)
class ForeignModel:
    """A model of another library's folder.

    Attributes:
        recipe: the complete experiment as data, of whose parts the model is built (:class:`anydiff.recipes.Recipe`).
        tensors: its weights, by the names of the network that the recipe builds.
        metadata: texts about where the weights come from: licence, commit, origin.
    """

    recipe: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """A small network of the library with what the library itself says of it.

    Attributes:
        network: the foreign network.
        schedule: what goes with it, a scheduler say.
        states: x_t ``[B, *shape]``.
        times: of each state, in the library's own unit; at least two.
        levels: (α, σ) at these times by the library.
        data: (state ``[1, *shape]``, time) -> E[x_0 | x_t] by the library's own formulas.
        condition: one row per state, where the network reads conditions.
        options: for :meth:`Adapter.wrap`.
    """

    network: Any
    schedule: Any
    states: Tensor
    times: tuple[float, ...]
    levels: tuple[tuple[float, float], ...]
    data: Callable[[Tensor, float], Tensor]
    condition: Conditioning = UNCONDITIONAL
    options: Mapping[str, Any] = field(default_factory=dict)


class Adapter(ABC):
    """Makes denoisers of another library's networks. It is built without options, and imports the library when asked.

    Registered with ``packages=["diffusers"]``, the import packages whose networks and schedules it knows.
    """

    @abstractmethod
    def wrap(self, *given: Any, **options: Any) -> NetworkDenoiser:
        """``wrap(network, schedule=None, **options)``: a denoiser with the network's own path, prediction and times.

        An adapter names its options, so that one that it does not have is refused with the nearest.

        Raises:
            AnydiffError: a class or an option that is not modelled; the sentence names it.
        """

    @abstractmethod
    def example(self) -> Example:
        """A small network with the library's own answers, for the conformance kit."""

    def read(self, folder: Path) -> ForeignModel:
        """The model in a folder (or file) that the library wrote; refused by libraries that have no such folders.

        Raises:
            AnydiffError: no model, one of a class that is not known, or with weights that are pickled.
        """
        raise AnydiffError(
            f"{type(self).__name__} reads no folders, and {str(folder)!r} is given; build the network in Python and "
            "call anydiff.wrap(network)."
        )
