"""Invertible normalisers: what is fitted to data, maps numbers to the scale of a state and back, and is plain data.

A normaliser takes tensors (differentiable, on any device) and NumPy arrays. Its statistics are one number for every
value, or one per column (the last axis), or an array that broadcasts against the values. They are computed in float64
and applied in the type of the values where these are a tensor, by NumPy's rules where they are an array. In a recipe a
normaliser is its :meth:`Normaliser.to_json`, ``{"name": "gaussian", "mean": [...], "std": [...]}``.
"""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError

BOUND = 0.999
"""Share of its limit to which :class:`SquashedGaussian` clips (as in the code of policy-guided diffusion)."""
FLAT = 1e-8
"""A column whose deviation or range is not above this never changes, and is not divided by it."""

V = TypeVar("V", Tensor, NDArray[Any])
Statistic = Any
"""A number, one number per column as a tuple, or an array or tensor that broadcasts against the values."""


def _like(statistic: Statistic, values: Any) -> Any:
    """A statistic as something that can be computed with ``values``, in their type where they are a tensor."""
    if isinstance(values, Tensor):
        return statistic if isinstance(statistic, Tensor) else values.new_tensor(statistic)
    return np.asarray(statistic)


def _columns(statistic: Statistic) -> int:
    return len(statistic) if isinstance(statistic, tuple) else 0


def _positive(statistic: Statistic) -> bool:
    """Whether all of it is above zero; a tensor is taken as it is, since looking would wait for its device."""
    return isinstance(statistic, Tensor) or bool((np.asarray(statistic) > 0).all())


def _digits(values: Any, digits: int | None) -> Any:
    """An array ``[size]`` as a tuple, one number as a float, rounded to so many significant digits (None: as it is)."""
    if np.ndim(values):
        return tuple(_digits(value, digits) for value in values)
    return float(values) if digits is None else float(f"{values:.{digits}g}")


class Normaliser(ABC):
    """An invertible map of numbers. ``decode(encode(x))`` is x within rounding, where the class says no otherwise."""

    name: ClassVar[str]

    @property
    def size(self) -> int:
        """The number of columns it has statistics of; 0 where it takes any."""
        return 0

    @abstractmethod
    def encode(self, values: V) -> V:
        """Raw values ``[..., size]`` as those of a state."""

    @abstractmethod
    def decode(self, values: V) -> V:
        """Values of a state ``[..., size]`` as raw ones: the inverse of :meth:`encode`."""

    def to_json(self) -> dict[str, Any]:
        """Name and statistics as plain data, of which :func:`make_normaliser` makes it again; defaults are left out."""
        found: dict[str, Any] = {"name": self.name}
        for each in dataclasses.fields(self):  # type: ignore[arg-type]  # every kind is a dataclass
            value = getattr(self, each.name)
            if each.default is dataclasses.MISSING or value != each.default:
                found[each.name] = value if isinstance(value, bool) else np.asarray(value).tolist()
        return found


@dataclass(frozen=True)
class Gaussian(Normaliser):
    """z = (x - mean) / std.

    Attributes:
        mean: of the data.
        std: their standard deviation, positive.
    """

    mean: Statistic
    std: Statistic
    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        if _columns(self.mean) != _columns(self.std) or not _positive(self.std):
            raise AnydiffError(f"mean {self.mean} and std {self.std} need one entry per dimension, std positive.")

    @property
    def size(self) -> int:
        """Number of columns."""
        return _columns(self.mean)

    def encode(self, values: V) -> V:
        """(x - mean) / std."""
        return (values - _like(self.mean, values)) / _like(self.std, values)  # type: ignore[no-any-return]

    def decode(self, values: V) -> V:
        """mean + std z."""
        return values * _like(self.std, values) + _like(self.mean, values)  # type: ignore[no-any-return]

    @classmethod
    def fit(cls, values: Any, digits: int | None = None) -> Gaussian:
        """To data ``[N]`` or ``[N, size]``; deviations divide by N, and a column that never changes gets 1."""
        array = np.asarray(values, dtype=np.float64)
        std = array.std(axis=0)
        return cls(_digits(array.mean(axis=0), digits), _digits(np.where(std > FLAT, std, 1.0), digits))


@dataclass(frozen=True)
class Limits(Normaliser):
    """z = (b - a) (x - low) / (high - low) + a: [low, high] to [a, b], extended linearly beyond.

    Attributes:
        low: becomes a.
        high: becomes b; above ``low``.
        onto: (a, b).
        clamp: clip encoded values to [a, b]; what lay beyond does then not come back.
    """

    low: Statistic
    high: Statistic
    onto: tuple[float, float] = (-1.0, 1.0)
    clamp: bool = False
    name: ClassVar[str] = "limits"

    def __post_init__(self) -> None:
        same = _columns(self.low) == _columns(self.high)
        if not same or not _positive(np.asarray(self.high) - np.asarray(self.low)):
            raise AnydiffError(f"low {self.low} and high {self.high} need one entry per dimension, low below high.")
        if len(self.onto) != 2 or not self.onto[0] < self.onto[1]:
            raise AnydiffError(f"onto is {self.onto}, but must be two numbers, the first below the second.")

    @property
    def size(self) -> int:
        """Number of columns."""
        return _columns(self.low)

    def encode(self, values: V) -> V:
        """To [a, b]."""
        low, high = _like(self.low, values), _like(self.high, values)
        (a, b), clamp = self.onto, self.clamp
        mapped: V = (b - a) * (values - low) / (high - low) + a
        if not clamp:
            return mapped
        clipped: V = mapped.clamp(a, b) if isinstance(mapped, Tensor) else np.clip(mapped, a, b)
        return clipped

    def decode(self, values: V) -> V:
        """From [a, b]."""
        low, high = _like(self.low, values), _like(self.high, values)
        a, b = self.onto
        return (values - a) / (b - a) * (high - low) + low  # type: ignore[no-any-return]

    @classmethod
    def fit(cls, values: Any, digits: int | None = None) -> Limits:
        """To data ``[N]`` or ``[N, size]``; a column that never changes gets a range of 2 around it."""
        array = np.asarray(values, dtype=np.float64)
        low, high = array.min(axis=0), array.max(axis=0)
        flat = high - low < FLAT
        return cls(_digits(np.where(flat, low - 1, low), digits), _digits(np.where(flat, high + 1, high), digits))


@dataclass(frozen=True)
class Scale(Normaliser):
    """z = x / unit: zero stays zero, as for amounts, and for series whose level differs.

    Attributes:
        unit: positive.
    """

    unit: Statistic
    name: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        if not _positive(self.unit):
            raise AnydiffError(f"unit is {self.unit}, but must be positive.")

    @property
    def size(self) -> int:
        """Number of columns."""
        return _columns(self.unit)

    def encode(self, values: V) -> V:
        """x / unit."""
        return values / _like(self.unit, values)  # type: ignore[no-any-return]

    def decode(self, values: V) -> V:
        """z unit."""
        return values * _like(self.unit, values)  # type: ignore[no-any-return]

    @classmethod
    def fit(cls, values: Any, digits: int | None = None) -> Scale:
        """To data ``[N]`` or ``[N, size]``, NaN where missing: the mean of their size, 1 where that is 0."""
        array = np.asarray(values, dtype=np.float64)
        counted = np.maximum((~np.isnan(array)).sum(axis=0), 1)
        mean = np.nansum(np.abs(array), axis=0) / counted
        return cls(_digits(np.where(mean > 0, mean, 1.0), digits))


@dataclass(frozen=True)
class Levels(Normaliser):
    """Whole numbers 0 to 255 as float32 of [low, high], and back to the nearest, uint8, exactly.

    Attributes:
        low: what 0 becomes.
        high: what 255 becomes.
    """

    low: float = -1.0
    high: float = 1.0
    name: ClassVar[str] = "levels"

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise AnydiffError(f"low is {self.low} and high {self.high}, but low must be below high.")

    def encode(self, values: Tensor) -> Tensor:  # type: ignore[override]  # no arrays
        """Bytes (a tensor of any shape) as float32."""
        return values.to(torch.float32).mul_((self.high - self.low) / 255).add_(self.low)

    def decode(self, values: Tensor) -> Tensor:  # type: ignore[override]
        """The nearest bytes, uint8 on the host; what lies outside the range is clamped."""
        scaled = (values.detach().to("cpu", torch.float64) - self.low) * (255 / (self.high - self.low))
        return scaled.round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class CDF(Normaliser):
    """z = 2 F(x) - 1 with F the empirical distribution function, linear between its knots (Decision Diffuser).

    Beyond the outer knots the end pieces are extended, so the map stays invertible there.

    Attributes:
        knots: per column, strictly increasing values at equal steps of probability.
    """

    knots: tuple[tuple[float, ...], ...]
    name: ClassVar[str] = "cdf"

    def __post_init__(self) -> None:
        if len({len(knots) for knots in self.knots}) != 1 or len(self.knots[0]) < 2:
            raise AnydiffError("knots needs one list per dimension, all of one length of at least 2.")
        if not all(a < b for knots in self.knots for a, b in itertools.pairwise(knots)):
            raise AnydiffError("knots must increase strictly in every dimension; drop repeated values.")

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.knots)

    def encode(self, values: V) -> V:
        """To [-1, 1] inside the data."""
        encoded: V = self._map(values, inverse=False)
        return encoded

    def decode(self, values: V) -> V:
        """From [-1, 1]."""
        decoded: V = self._map(values, inverse=True)
        return decoded

    def _map(self, values: Any, inverse: bool) -> Any:
        """Piecewise linear interpolation per column, with the end pieces extended."""
        if not isinstance(values, Tensor):
            return self._map(torch.from_numpy(np.asarray(values, dtype=np.float64)), inverse).numpy()
        levels = torch.linspace(-1, 1, len(self.knots[0]), dtype=values.dtype, device=values.device)
        columns = []
        for column, knots in zip(values.unbind(-1), self.knots, strict=True):
            own = values.new_tensor(knots)
            source, target = (levels, own) if inverse else (own, levels)
            index = torch.searchsorted(source, column.contiguous()).clamp(1, len(source) - 1)
            left, right = source[index - 1], source[index]
            share = (column - left) / (right - left)
            columns.append(target[index - 1] + share * (target[index] - target[index - 1]))
        return torch.stack(columns, dim=-1)

    @classmethod
    def fit(cls, values: Any, digits: int | None = None, count: int = 33) -> CDF:
        """To data ``[N, size]``: ``count`` quantiles at equal steps of probability, apart where values repeat."""
        array = np.asarray(values, dtype=np.float64)
        found = []
        for column in array.T:
            knots = np.quantile(column, np.linspace(0, 1, count))
            spread = max(float(knots[-1] - knots[0]), 1e-3 * float(np.abs(knots).max()), 1e-3)
            apart = np.maximum.accumulate(knots) + np.arange(count) * 1e-4 * spread
            found.append(_digits(apart, digits))
        return cls(tuple(found))


@dataclass(frozen=True)
class SquashedGaussian(Normaliser):
    """z = (arctanh(x / limit) - mean) / std, so that decoded values lie inside (-limit, limit).

    Values are clipped to ±0.999 limit first, where arctanh is about 3.8; the map is inverse below that. For tensors.
    """

    mean: Statistic
    std: Statistic
    limit: Statistic
    name: ClassVar[str] = "squashed-gaussian"

    def __post_init__(self) -> None:
        sizes = {_columns(self.mean), _columns(self.std), _columns(self.limit)}
        if len(sizes) != 1 or not (_positive(self.std) and _positive(self.limit)):
            raise AnydiffError(
                f"mean {self.mean}, std {self.std} and limit {self.limit} need one entry per dimension, the last two "
                "positive."
            )

    @property
    def size(self) -> int:
        """Number of columns."""
        return _columns(self.mean)

    def encode(self, values: Any) -> Any:
        """arctanh, then z-scores."""
        squashed = torch.atanh((values / values.new_tensor(self.limit)).clamp(-BOUND, BOUND))
        return (squashed - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def decode(self, values: Any) -> Any:
        """limit · tanh(mean + std z)."""
        raw = values * values.new_tensor(self.std) + values.new_tensor(self.mean)
        return torch.tanh(raw) * values.new_tensor(self.limit)

    @classmethod
    def fit(cls, values: Any, digits: int | None = None, limit: Any = None) -> SquashedGaussian:
        """To data ``[N, size]`` of at most ``limit`` in size, one number or one per column."""
        if limit is None:
            raise AnydiffError("limit is missing; give the greatest size that values can have.")
        array = np.asarray(values, dtype=np.float64)
        bound = np.broadcast_to(np.asarray(limit, dtype=np.float64), array.shape[1:])
        inner = Gaussian.fit(np.arctanh(np.clip(array / bound, -BOUND, BOUND)), digits)
        return cls(inner.mean, inner.std, _digits(bound, digits))


NORMALISERS: dict[str, type[Normaliser]] = {
    each.name: each for each in (Gaussian, Limits, Scale, Levels, CDF, SquashedGaussian)
}
"""Kinds by name."""


def _plain(value: Any) -> Any:
    """Nested lists as nested tuples of floats."""
    if isinstance(value, bool):
        return value
    return tuple(_plain(each) for each in value) if isinstance(value, (list, tuple)) else float(value)


def make_normaliser(settings: Mapping[str, Any]) -> Normaliser:
    """The normaliser of :meth:`Normaliser.to_json`, ``{"name": "gaussian", "mean": [...], "std": [...]}``.

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


def fit_normaliser(name: str, values: Any, digits: int | None = None, **options: Any) -> Normaliser:
    """The normaliser called ``name``, fitted to data ``values [N, size]``.

    Args:
        name: of a kind that has something to fit.
        values: raw data.
        digits: significant digits of the statistics, for recipes that people read; None keeps float64 as it is.
        options: of the kind's ``fit``: ``limit`` of ``squashed-gaussian``, ``count`` of ``cdf``.

    Raises:
        UnknownNameError: no such normaliser.
    """
    fits = {kind: each for kind, each in NORMALISERS.items() if hasattr(each, "fit")}
    if name not in fits:
        raise UnknownNameError("normaliser", name, fits)
    found: Normaliser = fits[name].fit(values, digits, **options)
    return found
