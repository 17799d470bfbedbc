"""The face of guidance: a small object that turns a denoiser into a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from anydiff.denoisers.base import Denoiser


class Guidance(ABC):
    """A function from denoiser to denoiser; its options are its fields.

    ``needs_condition`` says that it has no meaning without a condition to guide towards.
    """

    needs_condition: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The guided denoiser."""


class GuidedDenoiser(Denoiser):
    """A denoiser around another one, on the same path."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner = inner
        self.path = inner.path
        self.sigma_data = inner.sigma_data
        self.native_kind = "data"


def apply_guidance(denoiser: Denoiser, guidance: Guidance | Sequence[Guidance] | None) -> Denoiser:
    """``denoiser`` with each guidance around it, the first one innermost."""
    if guidance is None:
        return denoiser
    for layer in [guidance] if isinstance(guidance, Guidance) else guidance:
        denoiser = layer(denoiser)
    return denoiser
