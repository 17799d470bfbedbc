"""Any path of data and noise, around a share of a known tensor: the second formulation of DiffuseVAE and its like.

x_t = α_t x_0 + c u + σ_t ε with a known u, the same share c of it at every time (Pandey et al. 2022, TMLR,
arXiv:2201.00308, with c = 1 and u what a variational autoencoder made of the code of x_0). So x_t - c u is the ordinary
path, sampling begins about c u, and what a plan ends with is x_0 itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import Role
from anydiff.paths.product import KeptTime, ProductPath
from anydiff.registry import registry
from anydiff.states.noise import NoiseLaw


@dataclass(frozen=True)
class KnownShift(KeptTime, GaussianPath):  # type: ignore[override]  # properties for fields
    """x_t = α_t x_0 + c u + σ_t ε with α and σ of another path and the known source ``input`` u ``[B, *shape]``.

    Args:
        base: the path of data and noise.
        share: c, any finite number.

    Raises:
        AnydiffError: a share that is not finite, or a base that has a known source itself, or a path per leaf.
    """

    base: GaussianPath
    share: float = 1.0
    sources: ClassVar[Mapping[str, Role]] = {"x0": "clean", "input": "known", "noise": "noise"}

    def __post_init__(self) -> None:
        if not isinstance(self.base, GaussianPath) or isinstance(self.base, ProductPath) or self.base.known:
            raise AnydiffError(f"base is {self.base!r}, but must be a path of data and noise alone: vp-cosine, say.")
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)) or not math.isfinite(self.share):
            raise AnydiffError(f"share is {self.share!r}, but must be a finite number: 1, say.")

    @property
    def keeper(self) -> GaussianPath:
        """The base, whose time it is."""
        return self.base

    @property
    def noise_law(self) -> NoiseLaw:  # type: ignore[override]
        """That of the base."""
        return self.base.noise_law

    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """α_t (``x0``), c (``input``) and σ_t (``noise``)."""
        alpha = self._alpha(t)
        return {"x0": alpha, "input": torch.full_like(alpha, self.share) + 0.0 * t, "noise": self._sigma(t)}

    def _alpha(self, t: Tensor) -> Tensor:
        return self.base._alpha(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.base._sigma(t)

    def _log_snr(self, t: Tensor) -> Tensor:
        return self.base._log_snr(t)

    def _time(self, log_snr: Tensor) -> Tensor:
        return self.base._time(log_snr)


def known_shift(base: str | Mapping[str, Any] = "vp-cosine", share: float = 1.0) -> KnownShift:
    """A :class:`KnownShift` from options.

    Args:
        base: a path's name, or its name and options: ``{"name": "vp-linear", "options": {"beta_max": 10.0}}``.
        share: of the known source in every state.
    """
    part: Any = {"name": base} if isinstance(base, str) else base
    if not (isinstance(part, Mapping) and "name" in part and set(part) <= {"name", "options"}):
        raise AnydiffError(f"base is {base!r}, but must be a path's name, or its name and options.")
    return KnownShift(registry().build("paths", part["name"], **part.get("options", {})), share)
