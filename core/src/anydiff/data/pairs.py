"""Pairs of clean and degraded data: any data set and a degradation give what a restoration is trained on.

The degraded state is the condition ``input``, an array of the state's shape: networks read it beside the noisy state,
and a path with the known source ``input`` (``rddm``, say) leads to it. Degraded example i is a pure function of the
data set, the degradation and a seed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from anydiff.data.dataset import Dataset
from anydiff.domains import Domain
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import ArrayCondition, Conditioning, Draws, StateSpec

NAME = "input"
"""The condition's name, and that of the known source of paths that lead to it."""

D = TypeVar("D", bound=Domain)


class Degradation(ABC):
    """Degraded states of clean ones, of the same shape; a plugin writes a subclass, and hands it to :class:`Pairs`."""

    @abstractmethod
    def __call__(self, states: Tensor, spec: StateSpec, draws: Draws) -> Tensor:
        """Degraded ``[B, *shape]`` of clean ``states [B, *shape]``.

        Row b depends on its own state and on the numbers that ``draws`` gives for it alone.
        """


class BlockAverage(Degradation):
    """The mean over blocks of ``size`` positions along every axis but the first, repeated, times an intensity.

    Intensities count from the lower end of the state's range (black, where states are pictures), or from 0 where it
    has none: u = low + intensity (mean - low).

    Args:
        size: side of the blocks, which divides every axis.
        intensity: the factor, in (0, 1].

    Raises:
        AnydiffError: ``intensity`` outside its range; when it is applied: axes that ``size`` does not divide.
    """

    def __init__(self, size: int = 4, intensity: float = 1.0) -> None:
        self.size = natural_number("size", size)
        if not 0 < intensity <= 1:
            raise AnydiffError(f"intensity is {intensity}, but must lie above 0 and be at most 1, which changes none.")
        self.intensity = float(intensity)

    def __call__(self, states: Tensor, spec: StateSpec, draws: Draws) -> Tensor:
        """Means of blocks, repeated and dimmed; draws nothing."""
        low, size = _low(spec), self.size
        axes = list(range(2, states.ndim)) if states.ndim > 2 else [1]
        means = states
        for axis in axes:
            if states.shape[axis] % size:
                raise AnydiffError(
                    f"blocks of {size} do not divide states of shape {tuple(states.shape[1:])}; choose a size that "
                    f"divides {states.shape[axis]}."
                )
            blocks = means.reshape(*means.shape[:axis], -1, size, *means.shape[axis + 1 :])
            means = blocks.mean(axis + 1).repeat_interleave(size, dim=axis)
        return low + self.intensity * (means - low)


class AddedNoise(Degradation):
    """Gaussian noise: u = x + std ε, not clamped.

    Args:
        std: standard deviation in the units of states, above 0.

    Raises:
        AnydiffError: ``std`` is not above 0.
    """

    def __init__(self, std: float = 0.5) -> None:
        if not 0 < std < math.inf:
            raise AnydiffError(f"std is {std}, but must be above 0 and finite, in the units of states.")
        self.std = float(std)

    def __call__(self, states: Tensor, spec: StateSpec, draws: Draws) -> Tensor:
        """The states with noise of their own."""
        return states + self.std * draws.normal("noise", tuple(states.shape[1:])).to(states)


class Masked(Degradation):
    """Positions taken away: each is kept with one probability, all channels together, else it holds the lower end of
    the state's range (0 where it has none).

    Args:
        keep: the probability, in (0, 1).

    Raises:
        AnydiffError: ``keep`` outside its range.
    """

    def __init__(self, keep: float = 0.5) -> None:
        if not 0 < keep < 1:
            raise AnydiffError(f"keep is {keep}, but must lie between 0 and 1: the share of positions that stay.")
        self.keep = float(keep)

    def __call__(self, states: Tensor, spec: StateSpec, draws: Draws) -> Tensor:
        """The states without the positions that were drawn."""
        shape = (1, *states.shape[2:]) if states.ndim > 2 else tuple(states.shape[1:])
        kept = draws.uniform("mask", shape) < self.keep
        return torch.where(kept.to(states.device), states, _low(spec))


DEGRADATIONS: Mapping[str, type[Degradation]] = {
    "block-average": BlockAverage,
    "noise": AddedNoise,
    "mask": Masked,
}
"""The degradations of the core by name; a plugin's data set may take names from a larger table of its own."""


def degradation_of(
    name: str, options: Mapping[str, Any] | None = None, known: Mapping[str, type[Degradation]] = DEGRADATIONS
) -> Degradation:
    """The degradation called ``name`` of the table ``known``, with its options.

    Raises:
        UnknownNameError: no such degradation.
        AnydiffError: options that it does not have, or wrong values.
    """
    if name not in known:
        raise UnknownNameError("degradation", name, known)
    try:
        return known[name](**(options or {}))
    except TypeError as error:
        raise AnydiffError(f"the degradation {name!r} cannot be made of {dict(options or {})}: {error}.") from error


def input_condition(domain: Domain) -> dict[str, ArrayCondition]:
    """The condition ``input`` of a domain whose states are restored: an array of the state's shape.

    Raises:
        AnydiffError: its samples differ in size, so that a degraded one would have no one shape.
    """
    if domain.spec.masked:
        raise AnydiffError(f"the states of domain {domain.name!r} differ in size, so they cannot be given as {NAME!r}.")
    return {NAME: ArrayCondition(tuple(domain.spec.shape))}


def read_inputs(domain: Domain, text: str, count: int) -> Tensor:
    """States ``[count, *shape]`` of the files ``text``, the field's own: sample i is of object i (cycled)."""
    return cycled(encode_inputs(domain, domain.read(text)), count)


def encode_inputs(domain: Domain, objects: Any) -> Tensor:
    """States ``[N, *shape]`` of native ``objects``, or a tensor as it is.

    Raises:
        AnydiffError: none at all, or a tensor of another shape than the domain's states.
    """
    states = objects if isinstance(objects, Tensor) else domain.encode(list(objects))
    if states.shape[1:] != tuple(domain.spec.shape) or not len(states):
        raise AnydiffError(
            f"{NAME} has shape {tuple(states.shape)}, but must be {('N', *domain.spec.shape)}: at least one degraded "
            "state, of the shape of those that are restored."
        )
    return states


def cycled(states: Tensor, count: int) -> Tensor:
    """Row i of the result is row i % N of ``states``."""
    return states[torch.arange(count) % len(states)]


class TakesInput:
    """What a restoring domain has more than its base, which comes after this class among its bases."""

    @property
    def conditions(self) -> dict[str, Any]:
        """Those of the base, and ``input``."""
        own: dict[str, Any] = super().conditions  # type: ignore[misc]
        return {**own, **input_condition(self)}  # type: ignore[arg-type]

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"input": PATH}``: degraded objects in the field's own files; all else is the base's."""
        rest = {name: value for name, value in text.items() if name != NAME}
        found: dict[str, Tensor] = super().parse_condition(rest, count)  # type: ignore[misc]
        return {**found, NAME: read_inputs(self, text[NAME], count)} if NAME in text else found  # type: ignore[arg-type]

    def labels(self, text: Mapping[str, str]) -> list[Any] | None:
        """Each object that ``{"input": PATH}`` names is a case, by its number; None where it is not named."""
        if NAME not in text:
            base: Any = super()
            return base.labels(text) if text and hasattr(base, "labels") else None
        return list(range(len(self.read(text[NAME]))))  # type: ignore[attr-defined]

    def encode_given(self, name: str, objects: Any) -> Tensor | None:
        """States of native objects given as ``input``; None for other conditions, which are numbers."""
        return encode_inputs(self, objects) if name == NAME else None  # type: ignore[arg-type]


def restoring(domain: D) -> D:
    """``domain`` with one condition more, ``input``: a degraded object, which a user gives as the field's own files.

    A domain that has it already comes back as it is; ``domain`` itself stays as it is.
    """
    if NAME in domain.conditions:
        return domain
    base = type(domain)
    more = {"condition_help": {**base.condition_help, NAME: "FILES"}}
    # A subclass of the domain's own class, so that it keeps whatever protocols that fulfils.
    made: Any = object.__new__(type(f"Restoring{base.__name__}", (TakesInput, base), more))
    made.__dict__.update(vars(domain))
    found: D = made
    return found


class Pairs(Dataset):
    """A data set with the condition ``input``: its examples, degraded; the same for ever.

    Args:
        dataset: of clean examples.
        degradation: what is done to them.
        seed: of what the degradation draws.
        name: the registered name; that of ``dataset`` by default.
    """

    def __init__(self, dataset: Dataset, degradation: Degradation, seed: int = 0, name: str = "") -> None:
        self.inner, self.degradation = dataset, degradation
        self.seed = natural_number("seed", seed, minimum=0)
        self.name = name or dataset.name
        self._domain = restoring(dataset.domain)

    @property
    def domain(self) -> Domain:
        """The data set's own, with the condition ``input``."""
        return self._domain

    @property
    def statistics(self) -> Mapping[str, Any]:
        """Those of the data set."""
        return self.inner.statistics

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """As the data set's, with ``input``, the degraded states ``[B, *shape]``, among what is given."""
        rows = [int(index) for index in indices]
        states, condition = self.inner.batch(rows)
        degraded = self.degradation(states, self.inner.spec, Draws(self.seed, rows, name="degradation"))
        if degraded.shape != states.shape:
            raise AnydiffError(
                f"{type(self.degradation).__name__} gives shape {tuple(degraded.shape)} for states of shape "
                f"{tuple(states.shape)}; a degradation keeps the shape."
            )
        return states, condition.with_given(**{NAME: degraded.to(states.dtype)})

    def case_labels(self, indices: Sequence[int]) -> list[Any] | None:
        """Those of the data set."""
        return self.inner.case_labels(indices)


def _low(spec: StateSpec) -> float:
    """The lower end of a state's range, from which intensities count; 0 where it has none.

    Raises:
        AnydiffError: a state of several leaves, whose positions and ranges differ.
    """
    if len(spec.leaves) > 1:
        raise AnydiffError(
            f"a state of the leaves {', '.join(leaf.name for leaf in spec.leaves)} has no one range; write a "
            "degradation of its own for it."
        )
    bounds = spec.leaves[0].range
    return 0.0 if bounds is None else float(bounds[0])
