"""Absent nodes: entries that do not exist in a sample are zero, whatever the denoiser makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.paths.categorical import CategoricalPath
from anydiff.states import Conditioning, StateSpec


@dataclass(frozen=True)
class PresentNodes(Wrapper):
    """M(x, t) <- p M(p x, t) for every kind of prediction, p = 1 at entries of present nodes and 0 elsewhere.

    Present is what the conditioning's ``mask`` ``[B, N]`` says; a diagonal that must be zero counts as absent. Noise
    draws are masked too, so absent entries are zero at every step of every plan, and cannot influence the others.
    Samplers put it around all other guidance where the state has such entries.
    """

    spec: StateSpec

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The inner prediction at present entries, of a state that is zero elsewhere."""
        present = self.spec.present(condition.mask).to(x)
        if isinstance(denoiser.path, CategoricalPath):  # absent nodes hold class 0, and a sampler puts it back
            return denoiser.predict(present * x, t, kind, condition)
        return present * denoiser.predict(present * x, t, kind, condition)
