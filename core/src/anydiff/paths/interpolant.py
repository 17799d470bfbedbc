"""Stochastic interpolants (Albergo, Boffi, Vanden-Eijnden 2023, arXiv 2303.08797): bridges between two data sets.

With u = 1 - t, from the start (u = 0) to the data (u = 1),

    x_u = a(u) x_start + c(u) x_data + γ(u) z,   a(0) = c(1) = 1, a(1) = c(0) = 0, γ(0) = γ(1) = 0.

The laws of x_u obey the transport equation of the velocity b = E[dx_u/du | x_u], the kind ``flow`` up to its sign, and
for every ε(u) >= 0 the Fokker-Planck equation with drift b + ε s: how much noise sampling adds is chosen after training
(:mod:`anydiff.solvers.interpolant`). Two predictions are needed, of ``flow`` or ``interpolant``, and of ``noise`` or
``score``; where z alone is Gaussian noise at one end, the interpolant is one-sided and an ordinary path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath, LinearPath, _derivative
from anydiff.paths.path import Role, check_range

FAMILIES = ("linear", "trigonometric", "encoder-decoder")
GAMMAS = ("brownian", "quadratic", "sine", "sigmoid", "none")
_STEEPNESS = 10.0


def _sigmoid_bump(u: Tensor) -> Tensor:
    f = _STEEPNESS
    rise = torch.sigmoid(f * (u - 0.5) + 1) - torch.sigmoid(f * (u - 0.5) - 1)
    ends = torch.tensor([-f / 2 + 1, -f / 2 - 1], dtype=u.dtype).sigmoid()
    return rise - ends[0] + ends[1]


_SQUARED: dict[str, Callable[[Tensor], Tensor]] = {
    "brownian": lambda u: u * (1 - u),
    "quadratic": lambda u: (u * (1 - u)) ** 2,
    "sine": lambda u: torch.sin(math.pi * u) ** 4,
    "sigmoid": lambda u: _sigmoid_bump(u) ** 2,
    "none": lambda u: 0.0 * u,
}


@dataclass(frozen=True)
class Interpolant(LinearPath):
    """A bridge from ``start`` to the data, t in [0, 1].

    ``linear``: a = 1 - u, c = u. ``trigonometric``: a, c = sqrt(1 - γ²) (cos, sin)(π u/2), which keeps unit variance.
    ``encoder-decoder``: a = cos²(π u) up to u = 1/2, c = cos²(π u) from there: all content passes through noise, so γ
    must not be ``none``.

    γ² = scale · (``brownian`` u(1-u), ``quadratic`` u²(1-u)², ``sine`` sin⁴(π u), ``sigmoid`` the squared bump of two
    logistic functions of steepness 10, ``none`` 0).

    Args:
        family: the coefficients a and c.
        gamma: the shape of γ.
        scale: factor on γ², positive.
        t_start: where sampling starts; 1 is the start itself.
        t_end: where it ends; 0 is the data.

    Raises:
        UnknownNameError: no such family or gamma.
        AnydiffError: ``scale`` is not positive, or γ vanishes where it must not, or exceeds 1 in ``trigonometric``.
    """

    family: str = "linear"
    gamma: str = "brownian"
    scale: float = 1.0
    t_start: float = 1.0
    t_end: float = 0.0
    sources: ClassVar[Mapping[str, Role]] = {"x0": "clean", "start": "start", "noise": "noise"}
    default_grid: ClassVar[str] = "time"

    def __post_init__(self) -> None:
        check_range(self, latest=1.0)
        if self.family not in FAMILIES:
            raise UnknownNameError("family", self.family, FAMILIES)
        if self.gamma not in GAMMAS:
            raise UnknownNameError("gamma", self.gamma, GAMMAS)
        if not 0 < self.scale < math.inf:
            raise AnydiffError(f"scale is {self.scale}, but must be a positive number; for no noise set gamma: none.")
        if self.family == "encoder-decoder" and self.gamma == "none":
            raise AnydiffError("gamma is 'none', but the family 'encoder-decoder' passes through noise at u = 1/2.")
        if self.family == "trigonometric" and float(self._gamma_squared(torch.tensor(0.5).double())) >= 1:
            raise AnydiffError(f"scale is {self.scale}: γ² reaches 1 at u = 1/2, where nothing of the data is left.")

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]  # a field there
        """Both ends, velocities, and what is said of z where there is noise."""
        return ("data", "start", "flow", "interpolant", *(() if self.gamma == "none" else ("noise", "score")))

    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """c (``x0``), a (``start``) and γ (``noise``)."""
        u = 1 - t.to(torch.float64)
        squared = self._gamma_squared(u)
        data, start = self._ends(u, squared)
        return {"x0": data, "start": start, "noise": squared.clamp(min=0.0).sqrt()}

    def told(self, t: Tensor) -> Tensor:
        """u = 1 - t, mapped from [0, 1] to [-10, 10]: the log-SNR is infinite at both ends and no clock."""
        return 20 * (1 - t.to(torch.float64)) - 10

    def noise_rate(self, t: Tensor) -> Tensor:
        """γ dγ/du at the times ``t``, a function of its own: finite at the ends, where dγ/du is not."""
        return _derivative(lambda u: self._gamma_squared(u) / 2, 1 - t.to(torch.float64))

    def reversed(self) -> Reversed:
        """The same bridge from the data to the start."""
        return Reversed(self)

    def _gamma_squared(self, u: Tensor) -> Tensor:
        return self.scale * _SQUARED[self.gamma](u)

    def _ends(self, u: Tensor, squared: Tensor) -> tuple[Tensor, Tensor]:
        """(c, a)."""
        if self.family == "linear":
            return u * 1.0, 1 - u
        if self.family == "trigonometric":
            room = torch.sqrt(1 - squared)
            return room * torch.sin(math.pi / 2 * u), room * torch.cos(math.pi / 2 * u)
        wave = torch.cos(math.pi * u) ** 2
        return torch.where(u > 0.5, wave, 0.0), torch.where(u > 0.5, 0.0, wave)


@dataclass(frozen=True)
class Reversed(LinearPath):
    """A bridge travelled the other way: its data are the start, and time runs backwards.

    Args:
        path: a path with one clean source and one start, t in [0, 1].
    """

    path: Interpolant
    default_grid: ClassVar[str] = "time"

    @property
    def sources(self) -> Mapping[str, Role]:  # type: ignore[override]  # a field there
        """Those of the path, with clean source and start exchanged."""
        other: dict[Role, Role] = {"clean": "start", "start": "clean"}
        return {name: other.get(role, role) for name, role in self.path.sources.items()}

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]  # a field there
        """Those of the path."""
        return self.path.kinds

    @property
    def t_start(self) -> float:  # type: ignore[override]  # a field there
        """Where the path ends, seen from the other side."""
        return 1 - self.path.t_end

    @property
    def t_end(self) -> float:  # type: ignore[override]  # a field there
        """Where the path starts, seen from the other side."""
        return 1 - self.path.t_start

    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """Those of the path at 1 - t."""
        return self.path.coefficients(1 - t.to(torch.float64))

    def reversed(self) -> Interpolant:
        """The path itself."""
        return self.path


@dataclass(frozen=True)
class OneSided(GaussianPath):
    """The interpolant whose start is Gaussian noise and that adds no other: x_t = c x_data + a z.

    Args:
        family: ``linear`` (a = t, c = 1 - t: flow matching) or ``trigonometric`` (a variance-preserving path).
        t_start: where sampling starts.
        t_end: where it ends.
    """

    family: str = "linear"
    t_start: float = 1.0
    t_end: float = 1e-3
    default_grid: ClassVar[str] = "time"

    def __post_init__(self) -> None:
        check_range(self, latest=1.0)
        if self.family not in FAMILIES[:2]:
            raise UnknownNameError("family", self.family, FAMILIES[:2])

    def _alpha(self, t: Tensor) -> Tensor:
        return 1 - t if self.family == "linear" else torch.cos(math.pi / 2 * t)

    def _sigma(self, t: Tensor) -> Tensor:
        return t * 1.0 if self.family == "linear" else torch.sin(math.pi / 2 * t)
