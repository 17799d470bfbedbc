"""Absent nodes: entries that do not exist in a sample are zero, whatever the denoiser makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from anydiff.denoisers.base import Denoiser, PredictionKind
from anydiff.guidance.base import Guidance, GuidedDenoiser
from anydiff.states import NODE_MASK, StateSpec


@dataclass(frozen=True)
class PresentNodes(Guidance):
    """M(x, t) <- p M(p x, t) for every kind of prediction, p = 1 at entries of present nodes and 0 elsewhere.

    Present is what the condition ``mask`` ``[B, N]`` says; a diagonal that must be zero counts as absent. Noise draws
    are masked too, so absent entries are zero at every step of every plan, and cannot influence the others. Samplers
    put it around all other guidance where the state has such entries.
    """

    spec: StateSpec

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The guided denoiser."""
        return _Present(denoiser, self.spec)


class _Present(GuidedDenoiser):
    def __init__(self, inner: Denoiser, spec: StateSpec) -> None:
        super().__init__(inner)
        self.leaves = spec
        self.native_kind = inner.native_kind

    def native(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Tensor:
        return self.predict(x, t, self.native_kind, **condition)

    def predict(self, x: Tensor, t: float | Tensor, kind: PredictionKind = "data", **condition: Tensor) -> Tensor:
        present = self.leaves.present(condition.get(NODE_MASK)).to(x)
        return present * self.inner.predict(present * x, t, kind, **condition)
