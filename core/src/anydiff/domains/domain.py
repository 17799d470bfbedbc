"""A domain: a plugin's codec between its field's own objects and states, with its pictures and file formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anydiff.domains.measured import Measurement, affine_units, whole_objects
from anydiff.states import Conditioning, StateSpec

Report = Callable[[int, int], None]
"""Told how much is done, and of how much."""


@dataclass(frozen=True)
class LabelledArray:
    """An array whose axes have names, as files for large arrays keep it.

    Attributes:
        values: the numbers.
        dimensions: a name for each axis; for arrays of samples without the sample axis, which comes first.
        attributes: plain data: units, long names.
    """

    values: NDArray[Any]
    dimensions: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_texts(cls, texts: Sequence[str], dimension: str = "case") -> LabelledArray:
        """``texts`` along an axis: places in the list of the attribute ``names``, which every program can read."""
        names = list(dict.fromkeys(texts))
        return cls(np.array([names.index(text) for text in texts], dtype=np.int64), (dimension,), {"names": names})


class Domain(ABC):
    """What a plugin teaches the core about its field. It holds no data and no network.

    ``decode(encode(objects))`` gives the objects back, up to the precision the field's own files have. What only some
    fields have (scaffolds, coordinates, named cases, trials) are the protocols of :mod:`anydiff.domains.protocols`.

    Attributes:
        name: the registered name.
        suffixes: the endings of the file names that :meth:`write` takes, ``(".nii.gz", "")`` say; ``""`` is a folder.
            Each ending names what the file holds, the first one the format that keeps all. Another one is refused
            before anything is sampled.
        condition_help: what a user writes for each condition that :meth:`parse_condition` takes, for errors:
            ``{"frames": "VIDEO"}``. Conditions that follow from others stand in none.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    condition_help: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def spec(self) -> StateSpec:
        """The leaves of one state."""

    @property
    def codec(self) -> Mapping[str, Any]:
        """What decides how objects become numbers and is not to be seen in :attr:`spec`: a vocabulary, a scale.

        A recipe's domain and its data set must agree in it, key by key; a key that one of them lacks is a disagreement.
        Plain data (JSON). Empty where the shape of a state says all.
        """
        return {}

    @property
    def conditions(self) -> dict[str, Any]:
        """Each condition's name and kind (class, vector or array); empty without any.

        See :mod:`anydiff.states.conditions` for the kinds.
        """
        return {}

    @abstractmethod
    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States float32 (int64 of classes) ``[B, *spec.shape]`` of native ``objects``."""

    def encode_asked(self, objects: Sequence[Any], condition: Conditioning) -> Tensor:
        """States of ``objects`` that were made for ``condition``, the inverse of ``decode(states, condition)``.

        By default :meth:`encode`. A domain overrides it where a condition decides what the numbers of a state mean: the
        unit of a window of a series, say.
        """
        return self.encode(objects)

    @abstractmethod
    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Any]:
        """Native objects of ``states [B, *spec.shape]``."""

    @abstractmethod
    def read(self, path: str | Path) -> list[Any]:
        """Native objects from the field's own files."""

    @abstractmethod
    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """Write native objects as the field's own files; what stands there is not overwritten by halves.

        The ending of ``path`` is one of :attr:`suffixes` (:func:`anydiff.files.check_suffix`) and says which format.

        Raises:
            AnydiffError: another ending, or it cannot be written.
        """

    def canonical(self, objects: Sequence[Any]) -> list[Any]:
        """``objects``, each in the one form that all files of :meth:`write` keep; by default as they are.

        Files of the first of :attr:`suffixes` keep every object whole. A format that keeps the thing and not how it was
        written down (SMILES keep a molecule, not the order of its atoms) gives back objects whose canonical forms are
        those of what was written. The form of an object depends on that object alone.
        """
        return list(objects)

    @abstractmethod
    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write the picture (PNG) an expert of the field would look at."""

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """Batch-first conditions for ``count`` samples from what a user wrote, one text per condition name.

        An empty mapping asks for samples without a condition and gives an empty dictionary.

        Raises:
            UnknownNameError: a condition this domain does not have.
            AnydiffError: one that it has, but takes no text for.
        """
        from anydiff.errors import AnydiffError, UnknownNameError

        for name in text:
            if name in self.conditions:
                raise AnydiffError(
                    f"domain {self.name!r} takes no text for its condition {name!r}; give it in Python, by condition=."
                )
            raise UnknownNameError("condition", name, self.conditions)
        return {}

    def units(self, condition: Conditioning) -> tuple[Tensor, Tensor]:
        """(scale, offset): a state x stands for scale ⊙ x + offset in the field's units, ``[1 or C, *spec.shape]``
        each.

        ``condition`` has one row per case: it may decide the units. By default they follow from ``in_units``, where the
        domain has it, which then must be affine in every entry; else states are their own units.

        Raises:
            AnydiffError: the units are no affine function of each entry.
        """
        return affine_units(self, condition)

    def measured_condition(self, values: Tensor) -> dict[str, Tensor]:
        """Conditions that decide the :meth:`units` of cases, by what was measured of them: the level of a series.

        ``values`` are float64 ``[C, *spec.shape]`` in the field's units, NaN where nothing was measured; of means and
        sums, each entry its share. What is given is told to the domain alone, which makes units and objects by it, and
        not to the network. By default nothing.
        """
        return {}

    def read_measurement(self, path: str | Path, output: Sequence[int], mask: str | Path | None = None) -> Measurement:
        """What was measured, from the field's own files: numbers in the field's units, NaN where there is none.

        By default the file holds whole objects, so ``output`` must be the shape of a state.

        Args:
            path: the file.
            output: shape of one measurement, as the operator says.
            mask: another file that says which entries were observed, where the field has such files.

        Raises:
            AnydiffError: the file holds something of another size, or this domain has no files of masks.
        """
        return whole_objects(self, path, output, mask)

    def sample_mask(self, samples: Sequence[int], seed: int) -> Tensor:
        """Which nodes each of ``samples`` has, bool ``[B, N]``, a pure function of (seed, sample); asked for where the
        state has masked leaves and the caller gave no ``mask``. By default every node."""
        import torch

        return torch.ones(len(samples), self.spec.nodes, dtype=torch.bool)

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """One short title per sample; empty without conditions."""
        return []

    def arrays(self, states: Tensor, condition: Conditioning | None = None) -> dict[str, LabelledArray]:
        """``states [B, *spec.shape]`` as named arrays, for sample sets too large to be lists of native objects.

        Each holds ``[B, *its own axes]``, and row b depends on sample b alone. By default one array per leaf, as it is;
        a domain may give the field's own names, units and axes instead.
        """
        views = self.spec.unpack(states.detach().cpu().contiguous())
        return {
            name: LabelledArray(np.asarray(view), tuple(f"{name}_{axis}" for axis in range(view.ndim - 1)))
            for name, view in views.items()
        }
