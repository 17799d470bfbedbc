"""Laws of a measurement's noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, real_number
from anydiff.inverse.operators.base import HasCases


class MeasurementNoise(HasCases, ABC):
    """The law of a measurement y given what the operator says of a state, m = A(x)."""

    @abstractmethod
    def log_likelihood(self, y: Tensor, m: Tensor, observed: Tensor) -> Tensor:
        """log p(y | m) ``[B]``, up to a constant, summed over the ``observed`` entries; differentiable in ``m``.

        Args:
            y: the measurement ``[B, *output]``.
            m: what the operator says ``[B, *output]``.
            observed: bool, as ``y``.
        """

    @abstractmethod
    def divided(self, factor: Tensor) -> MeasurementNoise | None:
        """The law of y/f for a positive factor ``[1 or C, *output]``; None where it is of another kind."""


@dataclass(frozen=True, eq=False)
class Gaussian(MeasurementNoise):
    """y ~ N(m, s²), independent.

    Args:
        std: s, in the units of the measurement: a number (0: none), or one per entry ``[*output]`` or ``[C, *output]``.
    """

    per_case = ("std",)
    std: Tensor

    def __init__(self, std: Any = 0.0) -> None:
        try:
            found = torch.as_tensor(std, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise AnydiffError(f"noise is {std!r}, which is no number; give a standard deviation.") from error
        if not bool(((found >= 0) & found.isfinite()).all()):
            wrong = found[~((found >= 0) & found.isfinite())].flatten()[0]
            raise AnydiffError(
                f"noise is {float(wrong):g}, but a standard deviation is finite and at least 0, in the measurement's "
                "units."
            )
        object.__setattr__(self, "std", found if found.ndim else found.reshape(1))

    def shaped(self, output: tuple[int, ...]) -> Gaussian:
        """With the deviation as ``[1 or C, *output]``, axes of length 1 where all entries share it.

        Raises:
            AnydiffError: it does not fit measurements of this shape.
        """
        std = self.std
        if std.numel() == 1:
            std = std.reshape(1, *[1] * len(output))
        elif std.ndim == len(output):
            std = std[None]
        fits = std.ndim == len(output) + 1 and all(a in (1, b) for a, b in zip(std.shape[1:], output, strict=True))
        if not fits:
            raise AnydiffError(
                f"noise has shape {tuple(self.std.shape)}, but a measurement has {output}; give one number, or one per "
                "measured entry."
            )
        made = Gaussian(0.0)
        object.__setattr__(made, "std", std)
        return made

    @property
    def zero(self) -> bool:
        """Whether some entry has no noise at all."""
        return bool((self.std == 0).any())

    def log_likelihood(self, y: Tensor, m: Tensor, observed: Tensor) -> Tensor:
        """-Σ (y - m)²/(2 s²); s = 0 counts as 1, so that its gradient has the right direction."""
        std = self.std.to(m)
        weight = 1 / std.where(std > 0, torch.ones_like(std)).square()
        return -(torch.where(observed, y - m, 0.0).square() * weight).flatten(1).sum(1) / 2

    def divided(self, factor: Tensor) -> Gaussian:
        """Of the deviation s/f."""
        made = Gaussian(0.0)
        object.__setattr__(made, "std", self.std / factor)
        return made


@dataclass(frozen=True, eq=False)
class AsymmetricLaplace(MeasurementNoise):
    """log p = -ρ_q(y - m)/b with ρ_q(e) = max(q e, (q - 1) e): the level-q quantile of y is m (TSDiff-Q's energy).

    Args:
        level: q in (0, 1).
        scale: b > 0, in the units of the measurement.
    """

    level: float = 0.5
    scale: Tensor | float = 1.0

    def __post_init__(self) -> None:
        if not 0 < real_number("level", self.level) < 1:
            raise AnydiffError(f"level is {self.level}, but must lie between 0 and 1; 0.5 is the median.")
        scale = torch.as_tensor(self.scale, dtype=torch.float64)
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise AnydiffError(f"scale is {self.scale}, but must be finite and above 0, in the measurement's units.")
        object.__setattr__(self, "scale", scale)

    def log_likelihood(self, y: Tensor, m: Tensor, observed: Tensor) -> Tensor:
        """-Σ ρ_q(y - m)/b."""
        error = torch.where(observed, y - m, 0.0)
        energy = torch.maximum(self.level * error, (self.level - 1) * error)
        return -(energy / torch.as_tensor(self.scale).to(m)).flatten(1).sum(1)

    def divided(self, factor: Tensor) -> AsymmetricLaplace:
        """Of the scale b/f."""
        return AsymmetricLaplace(self.level, torch.as_tensor(self.scale) / factor)


@dataclass(frozen=True, eq=False)
class Poisson(MeasurementNoise):
    """y = k/g with k ~ Poisson(g m): counts of a detector with gain g. What the operator says must be positive.

    Args:
        gain: g > 0, counts per unit of the measurement.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        if not real_number("gain", self.gain) > 0:
            raise AnydiffError(f"gain is {self.gain}, but must be finite and above 0.")

    def log_likelihood(self, y: Tensor, m: Tensor, observed: Tensor) -> Tensor:
        """Σ g (y log m - m), of m not below a thousandth of a count."""
        safe = m.clamp_min(1e-3 / self.gain)
        each = self.gain * (torch.where(observed, y, 0.0) * safe.log() - safe)
        return torch.where(observed, each, 0.0).flatten(1).sum(1)

    def divided(self, factor: Tensor) -> None:
        """Counts are counts in their own units alone."""
        return None


def as_noise(noise: float | Tensor | MeasurementNoise) -> MeasurementNoise:
    """A law; a number or numbers are the standard deviation of Gaussian noise."""
    return noise if isinstance(noise, MeasurementNoise) else Gaussian(noise)
