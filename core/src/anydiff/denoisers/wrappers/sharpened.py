"""Truncations of predictions of classes: temperature, top-k and nucleus."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, natural_number
from anydiff.paths.categorical import categorical
from anydiff.states import Conditioning


class OfLogits(Wrapper):
    """A change of the logits of x_0, entry by entry: a subclass gives :meth:`changed`."""

    keeps_time_free: ClassVar[bool] = True

    @abstractmethod
    def changed(self, logits: Tensor) -> Tensor:
        """New logits ``[..., K]``."""

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The prediction of ``kind`` of the changed logits."""
        categorical(denoiser.path, f"the wrapper {self!r}")
        logits = self.changed(denoiser.predict(x, t, "logits", condition))
        return convert(denoiser, x, t, logits, "logits", kind, condition)


@dataclass(frozen=True)
class Sharpened(OfLogits):
    """Logits over the temperature; at 0 the most probable class alone.

    Attributes:
        temperature: at least 0; 1 changes nothing.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise AnydiffError(f"temperature is {self.temperature}, but must be a finite number of at least 0.")

    def changed(self, logits: Tensor) -> Tensor:
        """See :meth:`OfLogits.changed`."""
        if self.temperature:
            return logits / self.temperature
        certain = torch.full_like(logits, -torch.inf)
        return certain.scatter(-1, logits.argmax(-1, keepdim=True), 0.0)


@dataclass(frozen=True)
class TopK(OfLogits):
    """Of each entry the ``k`` most probable classes alone.

    Attributes:
        k: whole number of at least 1.
    """

    k: int = 50

    def __post_init__(self) -> None:
        natural_number("k", self.k)

    def changed(self, logits: Tensor) -> Tensor:
        """See :meth:`OfLogits.changed`."""
        if self.k >= logits.shape[-1]:
            return logits
        least = logits.topk(self.k, dim=-1).values[..., -1:]
        return torch.where(logits < least, -torch.inf, logits)


@dataclass(frozen=True)
class Nucleus(OfLogits):
    """Of each entry the most probable classes that together have at least ``share`` (Holtzman et al. 2020).

    Attributes:
        share: in (0, 1]; 1 changes nothing.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise AnydiffError(f"share is {self.share}, but must lie in (0, 1].")

    def changed(self, logits: Tensor) -> Tensor:
        """See :meth:`OfLogits.changed`."""
        if self.share == 1:
            return logits
        ranked = logits.double().sort(dim=-1, descending=True)
        share = torch.softmax(ranked.values, dim=-1)
        # A class is left out where those before it suffice already.
        out = share.cumsum(-1) - share >= self.share
        dropped = torch.zeros_like(out).scatter(-1, ranked.indices, out)
        return torch.where(dropped, -torch.inf, logits)
