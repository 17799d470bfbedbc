"""The face of everything that goes around a denoiser: a small object that turns a denoiser into a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.past import Past
from anydiff.states import UNCONDITIONAL, Conditioning, Known, Order


class Wrapper(ABC):
    """A function from denoiser to denoiser; its options are its fields. A subclass gives :meth:`predict`.

    The rows of a call are the samples of a chunk in their order. An outer wrapper may stack several copies of them in
    one call, as classifier-free guidance and windows do; ``condition.index`` says for each row which sample it is of.

    Attributes:
        needs_condition: it has no meaning without a condition.
        keeps_time_free: what it makes of a denoiser that does not depend on the time does not either.
        reads: conditions that are its own and none of the domain's: a pipeline lets them pass, one row per sample.
    """

    needs_condition: ClassVar[bool] = False
    keeps_time_free: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The prediction of ``kind`` ``[B, *shape]`` at the state ``x [B, *shape]``.

        Args:
            denoiser: what is wrapped.
            x: the state.
            t: its time, a number or ``[B]``.
            kind: the kind of prediction that is asked for.
            condition: as the denoiser encoded it.
        """

    def native_kind(self, denoiser: Denoiser) -> PredictionKind:
        """The kind in which the wrapped denoiser predicts without conversion: by default the inner one's."""
        return denoiser.native_kind

    def for_run(self, samples: Sequence[int]) -> Wrapper:
        """The wrapper for one run over the samples with these indices; by default itself.

        A sampler calls it once per chunk, before the first network call. What remembers earlier calls returns a copy
        with an empty memory. What draws numbers keys them by ``condition.index``, so that they do not depend on the
        chunk. Without a run there is no index, and no memory but that of the object itself.
        """
        return self

    def for_seed(self, seed: int) -> Wrapper:
        """The wrapper for samples of ``seed``; by default itself. What draws numbers returns one that keys them so."""
        return self

    @property
    def bends(self) -> bool:
        """Whether it bends the flow as a strong guidance does, so that solvers are asked to take shorter views.

        A sampler then takes what :meth:`anydiff.solvers.Solver.under_guidance` gives; by default no.
        """
        return False

    def hides(self, given: Iterable[str]) -> tuple[str, ...]:
        """Those of the conditions ``given`` without which it also asks for predictions; by default none."""
        return ()

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The wrapped denoiser."""
        return WrappedDenoiser(denoiser, self)


class WrappedDenoiser(Denoiser):
    """A denoiser with a wrapper around it, on the same path, for the same states."""

    def __init__(self, inner: Denoiser, wrapper: Wrapper) -> None:
        self.inner, self.wrapper = inner, wrapper
        self.path, self.sigma_data, self.spec = inner.path, inner.sigma_data, inner.spec
        self.native_kind = wrapper.native_kind(inner)

    @property
    def time_free(self) -> bool:
        """As the inner denoiser, where the wrapper keeps that."""
        return self.wrapper.keeps_time_free and self.inner.time_free

    @property
    def causal(self) -> bool:
        """As the inner denoiser."""
        return self.inner.causal

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """As the inner denoiser encodes it."""
        return self.inner.encode_condition(condition)

    @property
    def order(self) -> Order | None:
        """As the inner denoiser says."""
        return self.inner.order

    def with_past(self, past: Past, positions: Tensor, turn: int) -> Denoiser:
        """The inner denoiser of these positions, with the wrapper around it."""
        return WrappedDenoiser(self.inner.with_past(past, positions, turn), self.wrapper)

    def seen_clean(self, condition: Conditioning) -> Known | None:
        """As the inner denoiser says."""
        return self.inner.seen_clean(condition)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The prediction of kind ``native_kind``."""
        return self.predict(x, t, self.native_kind, condition)

    def predict(
        self, x: Tensor, t: float | Tensor, kind: PredictionKind = "data", condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """The wrapper's prediction; arguments as for :meth:`Denoiser.predict`."""
        return self.wrapper.predict(self.inner, x, t, kind, condition)


def bent(denoiser: Denoiser, layers: Iterable[Wrapper] = ()) -> bool:
    """Whether one of ``layers``, or a wrapper that is around ``denoiser`` already, bends the flow."""
    if any(layer.bends for layer in layers):
        return True
    return isinstance(denoiser, WrappedDenoiser) and bent(denoiser.inner, [denoiser.wrapper])


def wrapped(denoiser: Denoiser, wrappers: Wrapper | Sequence[Wrapper] | None) -> Denoiser:
    """``denoiser`` with each wrapper around it, the first one innermost."""
    if wrappers is None:
        return denoiser
    for layer in [wrappers] if isinstance(wrappers, Wrapper) else wrappers:
        denoiser = layer(denoiser)
    return denoiser
