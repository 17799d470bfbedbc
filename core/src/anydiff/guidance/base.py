"""The face of guidance: a small object that turns a denoiser into a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError

Scale = float | Tensor | Callable[[float], float]
"""A guidance's strength: a number, a tensor ``[B]`` (one per sample), or a function of the time t."""


class Guidance(ABC):
    """A function from denoiser to denoiser; its options are its fields.

    ``needs_condition`` says that it has no meaning without a condition to guide towards. ``reads_sample_index`` asks
    samplers for the condition ``sample_index`` ``[B]``, the number of each row in its sample set; the guided denoiser
    takes it out before it calls the network. ``reads`` names conditions that are its own and none of the domain's: a
    pipeline lets them pass, one row per sample.
    """

    needs_condition: ClassVar[bool] = False
    reads_sample_index: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The guided denoiser."""


class GuidedDenoiser(Denoiser):
    """A denoiser around another one, on the same path."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner = inner
        self.path = inner.path
        self.sigma_data = inner.sigma_data
        self.spec = inner.spec
        self.native_kind = "data"

    def encode_condition(self, **condition: Tensor) -> dict[str, Tensor]:
        """As the inner denoiser encodes it."""
        return self.inner.encode_condition(**condition)


def scale_at(scale: Scale, t: float | Tensor, rows: int) -> float | Tensor:
    """``scale`` at time ``t`` for a batch of ``rows``: a float, or a tensor without axes or ``[rows]``.

    Raises:
        AnydiffError: a function of time asked for several times at once, or a tensor of another length.
    """
    if callable(scale):
        if isinstance(t, Tensor) and t.ndim:
            raise AnydiffError(
                "scale is a function of time, which needs one time for the whole batch, not one per sample."
            )
        return float(scale(float(t)))
    if not isinstance(scale, Tensor):
        return float(scale)
    if scale.ndim and scale.shape != (rows,):
        raise AnydiffError(
            f"scale has shape {tuple(scale.shape)}, but this batch has {rows} samples; give one scale per sample "
            "and a batch_size that holds them all."
        )
    return scale


def apply_guidance(denoiser: Denoiser, guidance: Guidance | Sequence[Guidance] | None) -> Denoiser:
    """``denoiser`` with each guidance around it, the first one innermost."""
    if guidance is None:
        return denoiser
    for layer in [guidance] if isinstance(guidance, Guidance) else guidance:
        denoiser = layer(denoiser)
    return denoiser
