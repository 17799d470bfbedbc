"""A bridge travelled the other way: the same predictions, seen from the data."""

from __future__ import annotations

from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError
from anydiff.paths.interpolant import Interpolant, Reversed
from anydiff.paths.path import Path
from anydiff.states import UNCONDITIONAL, Conditioning

_OTHER: dict[PredictionKind, PredictionKind] = {"data": "start", "start": "data"}
_TURNED: tuple[PredictionKind, ...] = ("flow", "interpolant")


def reversed_path(path: Path) -> Reversed:
    """The way back along a bridge.

    Raises:
        AnydiffError: the path has a prior, so there is no way back but by an ODE (``pipeline.encode``).
    """
    if not isinstance(path, Interpolant):
        raise AnydiffError(
            f"reverse travels a bridge from its data to its start, but {path!r} begins at noise; leave reverse out, or "
            "encode objects with pipeline.encode."
        )
    return path.reversed()


class ReversedDenoiser(Denoiser):
    """What ``inner`` predicts at 1 - t: ends exchanged, velocities with the other sign; noise and score stay.

    Args:
        inner: a denoiser of a bridge.

    Raises:
        AnydiffError: its path has a prior, so there is no way back but by an ODE (``pipeline.encode``).
    """

    path: Reversed

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.path = inner, reversed_path(inner.path)
        self.spec, self.sigma_data = inner.spec, inner.sigma_data
        self.native_kind = _OTHER.get(inner.native_kind, inner.native_kind)

    @property
    def native_kinds(self) -> tuple[PredictionKind, ...]:
        """Those of the inner denoiser, from the other side."""
        return tuple(_OTHER.get(kind, kind) for kind in self.inner.native_kinds)

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """As the inner denoiser encodes it."""
        return self.inner.encode_condition(condition)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The prediction of kind ``native_kind``."""
        return self.natives(x, t, condition)[self.native_kind]

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        """All predictions of the inner denoiser's one call, from the other side."""
        made = self.inner.natives(x, 1 - t, condition)
        return {_OTHER.get(kind, kind): -value if kind in _TURNED else value for kind, value in made.items()}
