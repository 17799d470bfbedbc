"""A path under another library's conventions: what its networks are told of the time, and how they see the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath

TIMES: dict[str, Callable[[GaussianPath, Tensor], Tensor]] = {
    "time": lambda path, t: t.to(torch.float64),
    "from-noise": lambda path, t: path.t_start - t.to(torch.float64),
    "sigma": lambda path, t: path.sigma(t),
    "noise-level": lambda path, t: path.sigma(t) / path.alpha(t),
    "log-noise-level": lambda path, t: -path.log_snr(t),
    "log-snr": lambda path, t: path.log_snr(t),
}
"""What a network may be told: t, the time from noise to data, σ, κ = σ/α, log κ or λ; each times the factor."""
SEES = ("state", "scaled", "unit")
"""How a network sees x: as it is, as y = x/α, or in unit scale c_in x."""


@dataclass(frozen=True)
class Foreign(GaussianPath):
    """The path ``inner``, of which a network is told ``factor`` times a time, and sees the state by ``sees``.

    Raises:
        UnknownNameError: no such convention.
        AnydiffError: a factor that is not a positive number.
    """

    inner: GaussianPath
    time_told: str = "time"
    factor: float = 1.0
    sees: str = "state"

    def __post_init__(self) -> None:
        if self.time_told not in TIMES:
            raise UnknownNameError("time that a network is told", self.time_told, TIMES)
        if self.sees not in SEES:
            raise UnknownNameError("way a network sees the state", self.sees, SEES)
        if not 0 < self.factor < float("inf"):
            raise AnydiffError(f"factor is {self.factor}, but must be a positive number: 1000 for times up to 1000.")

    @property
    def t_start(self) -> float:  # type: ignore[override]
        """That of the path."""
        return self.inner.t_start

    @property
    def t_end(self) -> float:  # type: ignore[override]
        """That of the path."""
        return self.inner.t_end

    @property
    def default_grid(self) -> str:  # type: ignore[override]
        """That of the path."""
        return self.inner.default_grid

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the path."""
        return self.inner.kinds

    def spaced(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the path has it."""
        return self.inner.spaced(times)

    def told(self, t: Tensor) -> Tensor:
        """The time as the library has it, float64."""
        return self.factor * TIMES[self.time_told](self.inner, t)

    def input_scale(self, t: Tensor, sigma_data: float) -> Tensor:
        """1, 1/α or the c_in of the path."""
        if self.sees == "unit":
            return self.inner.input_scale(t, sigma_data)
        alpha = self.inner.alpha(t)
        return 1 / alpha if self.sees == "scaled" else torch.ones_like(alpha)

    def _alpha(self, t: Tensor) -> Tensor:
        return self.inner._alpha(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.inner._sigma(t)

    def _log_snr(self, t: Tensor) -> Tensor:
        return self.inner._log_snr(t)

    def _time(self, log_snr: Tensor) -> Tensor:
        return self.inner._time(log_snr)


def foreign(
    path: str | Mapping[str, Any] | GaussianPath = "flow",
    time: str = "time",
    factor: float = 1.0,
    sees: str = "state",
) -> Foreign:
    """A path under another library's conventions.

    Args:
        path: a registered path's name, ``{"name": ..., "options": {...}}``, or a path.
        time: what a network is told: ``time``, ``from-noise`` (t_start - t), ``sigma``, ``noise-level`` (σ/α),
            ``log-noise-level`` or ``log-snr``.
        factor: on that, 1000 say.
        sees: how a network sees the state: ``state``, ``scaled`` (x/α) or ``unit`` (c_in x).

    Raises:
        UnknownNameError: no such path or convention.
        AnydiffError: a path without data and noise alone.
    """
    if not isinstance(path, GaussianPath):
        from anydiff.registry import registry

        part: Mapping[str, Any] = {"name": path} if isinstance(path, str) else path
        path = registry().build("paths", str(part.get("name")), **dict(part.get("options") or {}))
    if not isinstance(path, GaussianPath) or path.known:
        raise AnydiffError(
            f"path is {path!r}, but a foreign path needs one of data and noise alone: flow, edm, ladder."
        )
    return Foreign(path, time, float(factor), sees)


@dataclass(frozen=True)
class Scheduled(GaussianPath):
    """(α_t, σ_t) by another library's function of the time, which autograd can differentiate; λ must fall with t.

    Args:
        schedule: float64 tensor of times -> (α, σ).
        t_start: the time of noise.
        t_end: the least time that is visited.

    Raises:
        AnydiffError: the log-SNR does not fall with the time.
    """

    schedule: Callable[[Tensor], tuple[Tensor, Tensor]]
    t_start: float = 1.0
    t_end: float = 1e-3

    def __post_init__(self) -> None:
        probe = self._log_snr(torch.linspace(self.t_end, self.t_start, 101, dtype=torch.float64)[:-1])
        if not bool((probe.diff() < 0).all()):
            raise AnydiffError(
                f"the log-SNR of {self.schedule!r} does not fall from t={self.t_end:g} to t={self.t_start:g}; "
                "turn its time around, or begin where there is some noise."
            )

    def _alpha(self, t: Tensor) -> Tensor:
        return self.schedule(t)[0].to(torch.float64)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.schedule(t)[1].to(torch.float64)
