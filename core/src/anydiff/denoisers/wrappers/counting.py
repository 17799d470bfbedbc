"""Network calls, counted where they are made."""

from __future__ import annotations

from torch import Tensor

from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.network import NetworkDenoiser
from anydiff.states import UNCONDITIONAL, Conditioning


class CountingDenoiser(NetworkDenoiser):
    """Another denoiser, with its network calls and rows counted. Guidance goes around it, so that its calls count.

    Attributes:
        calls: network calls so far.
        rows: rows of all calls together; a batch doubled for guidance counts twice.
    """

    def __init__(self, inner: NetworkDenoiser) -> None:
        super().__init__(inner.network, inner.path, inner.native_kinds, inner.sigma_data, inner.spec)
        self.inner = inner
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.calls = 0
        self.rows = 0

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The inner denoiser's prediction."""
        self._count(x)
        return self.inner.native(x, t, condition)

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        """All predictions of the inner denoiser, from one call."""
        self._count(x)
        return self.inner.natives(x, t, condition)

    def exits(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> dict[str, Tensor]:
        """Everything that the inner denoiser gives, from one call."""
        self._count(x)
        return self.inner.exits(x, t, condition)

    def _count(self, x: Tensor) -> None:
        self.calls += 1
        self.rows += int(x.shape[0])
