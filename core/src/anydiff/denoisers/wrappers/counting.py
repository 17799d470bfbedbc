"""Network calls, counted where they are made."""

from __future__ import annotations

from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.given_past import GivenPast
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.network import NetworkDenoiser
from anydiff.denoisers.past import Past
from anydiff.states import UNCONDITIONAL, Conditioning


class CountingDenoiser(NetworkDenoiser):
    """Another denoiser, with its network calls and rows counted. Guidance goes around it, so that its calls count.

    Attributes:
        calls: network calls so far.
        rows: rows of all calls together; a batch doubled for guidance counts twice.
        positions: of a network with an order, the positions of all rows of all calls together.
    """

    def __init__(self, inner: NetworkDenoiser) -> None:
        super().__init__(inner.network, inner.path, inner.native_kinds, inner.sigma_data, inner.spec)
        self.inner = inner
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.calls = 0
        self.rows = 0
        self.positions = 0

    def with_past(self, past: Past, positions: Tensor, turn: int) -> Denoiser:
        """The positions of one turn, whose calls count here."""
        if self.order is None:
            return self.inner.with_past(past, positions, turn)
        return _CountedPast(self, past, positions, turn)

    def count(self, x: Tensor) -> None:
        """A call on states, or positions, ``x``."""
        self.calls += 1
        self.rows += int(x.shape[0])
        self.positions += 0 if self.order is None else int(x.shape[0] * x.shape[1])

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The inner denoiser's prediction."""
        self.count(x)
        return self.inner.native(x, t, condition)

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        """All predictions of the inner denoiser, from one call."""
        self.count(x)
        return self.inner.natives(x, t, condition)

    def exits(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> dict[str, Tensor]:
        """Everything that the inner denoiser gives, from one call."""
        self.count(x)
        return self.inner.exits(x, t, condition)


class _CountedPast(GivenPast):
    """Counts with the denoiser that it is a part of."""

    whole: CountingDenoiser

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        self.whole.count(x)
        return super().natives(x, t, condition)
