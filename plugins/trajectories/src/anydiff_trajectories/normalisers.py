"""Invertible per-dimension normalisers: Gaussian, limits, empirical CDF, and arctanh before a Gaussian for actions.

A normaliser is plain data (a name and lists of numbers), so it stands in the recipe and travels with the weights.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError

BOUND = 0.999
"""Actions are clipped to ±BOUND before arctanh (as in the reference code of policy-guided diffusion)."""


class Normaliser(ABC):
    """An invertible map of the last axis, one function per dimension. Differentiable in torch."""

    size: int

    @abstractmethod
    def normalise(self, values: Tensor) -> Tensor:
        """Raw values ``[..., size]`` to normalised ones."""

    @abstractmethod
    def restore(self, values: Tensor) -> Tensor:
        """Normalised values ``[..., size]`` to raw ones; the inverse of :meth:`normalise`."""


@dataclass(frozen=True)
class Gaussian(Normaliser):
    """z = (x - mean) / std per dimension."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(std > 0 for std in self.std):
            raise AnydiffError(f"mean {self.mean} and std {self.std} need one entry per dimension, std positive.")

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of dimensions."""
        return len(self.mean)

    def normalise(self, values: Tensor) -> Tensor:
        """(x - mean) / std."""
        return (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def restore(self, values: Tensor) -> Tensor:
        """mean + std z."""
        return values * values.new_tensor(self.std) + values.new_tensor(self.mean)


@dataclass(frozen=True)
class Limits(Normaliser):
    """z = 2 (x - low) / (high - low) - 1 per dimension: [low, high] to [-1, 1], extended linearly beyond."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise AnydiffError(f"low {self.low} and high {self.high} need one entry per dimension, low below high.")

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of dimensions."""
        return len(self.low)

    def normalise(self, values: Tensor) -> Tensor:
        """To [-1, 1]."""
        low, high = values.new_tensor(self.low), values.new_tensor(self.high)
        return 2 * (values - low) / (high - low) - 1

    def restore(self, values: Tensor) -> Tensor:
        """From [-1, 1]."""
        low, high = values.new_tensor(self.low), values.new_tensor(self.high)
        return (values + 1) / 2 * (high - low) + low


@dataclass(frozen=True)
class CDF(Normaliser):
    """z = 2 F(x) - 1 with F the empirical distribution function, linear between its knots (Decision Diffuser).

    Beyond the outer knots the end pieces are extended, so the map stays invertible there.

    Attributes:
        knots: per dimension, strictly increasing values at equal steps of probability.
    """

    knots: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if len({len(knots) for knots in self.knots}) != 1 or len(self.knots[0]) < 2:
            raise AnydiffError("knots needs one list per dimension, all of one length of at least 2.")
        if not all(a < b for knots in self.knots for a, b in itertools.pairwise(knots)):
            raise AnydiffError("knots must increase strictly in every dimension; drop repeated values.")

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of dimensions."""
        return len(self.knots)

    def normalise(self, values: Tensor) -> Tensor:
        """To [-1, 1] inside the data."""
        levels = torch.linspace(-1, 1, len(self.knots[0]), dtype=values.dtype, device=values.device)
        return self._map(values, [values.new_tensor(knots) for knots in self.knots], [levels] * self.size)

    def restore(self, values: Tensor) -> Tensor:
        """From [-1, 1]."""
        levels = torch.linspace(-1, 1, len(self.knots[0]), dtype=values.dtype, device=values.device)
        return self._map(values, [levels] * self.size, [values.new_tensor(knots) for knots in self.knots])

    @staticmethod
    def _map(values: Tensor, sources: list[Tensor], targets: list[Tensor]) -> Tensor:
        """Piecewise linear interpolation per dimension, with the end pieces extended."""
        columns = []
        for column, source, target in zip(values.unbind(-1), sources, targets, strict=True):
            index = torch.searchsorted(source, column.contiguous()).clamp(1, len(source) - 1)
            left, right = source[index - 1], source[index]
            share = (column - left) / (right - left)
            columns.append(target[index - 1] + share * (target[index] - target[index - 1]))
        return torch.stack(columns, dim=-1)


@dataclass(frozen=True)
class SquashedGaussian(Normaliser):
    """z = (arctanh(x / limit) - mean) / std, so that restored actions lie inside (-limit, limit).

    Values are clipped to ±0.999 limit first, where arctanh is about 3.8; the map is inverse below that.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    limit: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == len(self.limit) or min(*self.std, *self.limit) <= 0:
            raise AnydiffError(
                f"mean {self.mean}, std {self.std} and limit {self.limit} need one entry per dimension, the last two "
                "positive."
            )

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of dimensions."""
        return len(self.mean)

    def normalise(self, values: Tensor) -> Tensor:
        """arctanh, then z-scores."""
        squashed = torch.atanh((values / values.new_tensor(self.limit)).clamp(-BOUND, BOUND))
        return (squashed - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def restore(self, values: Tensor) -> Tensor:
        """limit · tanh(mean + std z)."""
        raw = values * values.new_tensor(self.std) + values.new_tensor(self.mean)
        return torch.tanh(raw) * values.new_tensor(self.limit)


NORMALISERS: dict[str, type[Normaliser]] = {
    "gaussian": Gaussian, "limits": Limits, "cdf": CDF, "squashed-gaussian": SquashedGaussian,
}  # fmt: skip


def _plain(value: Any) -> Any:
    """Nested lists as nested tuples of floats."""
    return tuple(_plain(each) for each in value) if isinstance(value, (list, tuple)) else float(value)


def make_normaliser(settings: Mapping[str, Any]) -> Normaliser:
    """The normaliser of ``{"name": "gaussian", "mean": [...], "std": [...]}``.

    Raises:
        UnknownNameError: no such normaliser.
        AnydiffError: numbers are missing or do not fit.
    """
    options = dict(settings)
    name = str(options.pop("name", ""))
    if name not in NORMALISERS:
        raise UnknownNameError("normaliser", name, NORMALISERS)
    try:
        return NORMALISERS[name](**{key: _plain(value) for key, value in options.items()})
    except (TypeError, ValueError) as error:
        if isinstance(error, AnydiffError):
            raise
        raise AnydiffError(f"normaliser {name!r} was given {sorted(options)}, which does not fit ({error}).") from error


def fit_normaliser(name: str, values: NDArray[np.floating], limit: Any = None) -> dict[str, Any]:
    """Settings of the normaliser ``name`` for data ``values [N, size]``, rounded to 6 digits.

    A dimension that never changes gets standard deviation 1 (or a range of 2).

    Args:
        name: of :data:`NORMALISERS`.
        values: raw data.
        limit: of ``squashed-gaussian``: greatest size of each dimension (or one number).
    """
    values = np.asarray(values, dtype=np.float64)
    size = values.shape[1]
    if name == "squashed-gaussian":
        bound = np.broadcast_to(np.asarray(limit, dtype=np.float64), (size,))
        raw = np.arctanh(np.clip(values / bound, -BOUND, BOUND))
        return {**fit_normaliser("gaussian", raw), "name": name, "limit": _digits(bound)}
    if name == "gaussian":
        std = values.std(axis=0)
        return {"name": name, "mean": _digits(values.mean(axis=0)), "std": _digits(np.where(std > 1e-8, std, 1.0))}
    if name == "limits":
        low, high = values.min(axis=0), values.max(axis=0)
        flat = high - low < 1e-8
        return {
            "name": name,
            "low": _digits(np.where(flat, low - 1, low)),
            "high": _digits(np.where(flat, high + 1, high)),
        }
    if name == "cdf":
        return {"name": name, "knots": [_knots(column) for column in values.T]}
    raise UnknownNameError("normaliser", name, NORMALISERS)


def _knots(column: NDArray[np.float64], count: int = 33) -> list[float]:
    """``count`` quantiles at equal steps of probability, pushed apart where values repeat."""
    knots = np.quantile(column, np.linspace(0, 1, count))
    spread = max(float(knots[-1] - knots[0]), 1e-3 * float(np.abs(knots).max()), 1e-3)
    return [float(f"{knot:.10g}") for knot in np.maximum.accumulate(knots) + np.arange(count) * 1e-4 * spread]


def _digits(values: NDArray[np.floating]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
