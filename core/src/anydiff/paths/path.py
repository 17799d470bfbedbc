"""The face of every path: how data becomes noise, whatever the data are, and the clock that most paths have.

:class:`~anydiff.paths.LinearPath` adds noise to real numbers; :mod:`anydiff.paths.categorical` replaces classes by
others. A clock is a log-SNR that falls with the time: log(α/σ) of real numbers, the log-odds of keeping a class. Time
grids, laws of training times and what networks are told ask for the clock and for nothing else.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.states.conditions import UNCONDITIONAL, Conditioning
from anydiff.states.noise import GaussianNoise, NoiseLaw
from anydiff.states.spec import StateSpec

Time = TypeVar("Time", bound=float | Tensor)

Role = Literal["clean", "noise", "known", "start"]
"""What a source of a path is: data, noise of the path's law, a tensor of the condition, or where sampling begins."""

#: |λ| beyond which a time grid does not look: e^±9 is past every signal that float32 data can carry.
LOG_SNR_LIMIT = 9.0


@functools.lru_cache(maxsize=65536)
def _scalar(path: Path, name: str, argument: float) -> float:
    return float(getattr(path, name)(torch.tensor(argument, dtype=torch.float64)))


class Path(ABC):
    """How data becomes noise; sampling runs t from ``t_start`` down to ``t_end``.

    Attributes:
        sources: name of what x_t is made of -> its role, in order. ``clean``: the data. ``noise``: drawn by
            :attr:`noise_law`. ``known``: given beside the data (a degraded observation), in training and in sampling,
            by its name in :attr:`anydiff.states.Conditioning.sources`, or as a condition of that name, which networks
            read too. ``start``: the other end of a bridge: given in training as a known source is; sampling begins
            there.
        kinds: the kinds of prediction that have a meaning on this path (see :mod:`anydiff.denoisers.kinds`).
        t_start: the greatest time T, where x_T is drawn from the prior, or is the start.
        t_end: the least time a sampler visits.
        default_grid: the time grid that suits this path (see :mod:`anydiff.paths.grids`).
        default_solver: the solver where nobody names one; None for the samplers' own default.
        shows_clean: networks of this path always see clean entries beside noised ones, so that known entries are shown
            clean (:class:`~anydiff.denoisers.wrappers.KnownEntries`).
        told_size: how many numbers a network is told of the time; 0 where it is one number per sample, ``[B]``.
        reroutes: options that may be changed under a trained network, since what it is told says all that they decide
            (see :func:`anydiff.denoisers.rerouted`).
    """

    sources: ClassVar[Mapping[str, Role]]
    kinds: tuple[str, ...]
    default_grid: ClassVar[str] = "log-snr"
    default_solver: ClassVar[str | None] = None
    noise_law: NoiseLaw = GaussianNoise()
    shows_clean: ClassVar[bool] = False
    told_size: ClassVar[int] = 0
    reroutes: ClassVar[tuple[str, ...]] = ()
    t_start: float
    t_end: float

    @abstractmethod
    def told(self, t: Tensor) -> Tensor:
        """What a network is told of the times ``t [B]``, float64: ``[B]``, or ``[B, told_size]``."""

    @abstractmethod
    def seen(self, x: Tensor, t: Tensor, sigma_data: float) -> Tensor:
        """What a network sees of the states ``x [B, *shape]`` at times ``[B]`` or ``[1]``."""

    @abstractmethod
    def bind(self, spec: StateSpec) -> Path:
        """This path for states of ``spec``.

        Raises:
            AnydiffError: the path does not carry such states.
        """

    @abstractmethod
    def noised(self, t: Tensor, clean: Tensor, noise: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """x_t ``[B, *shape]`` for training: the clean data, noise, and of ``condition`` all that the path leads to.

        Args:
            t: times ``[B]``.
            clean: x_0 ``[B, *shape]``.
            noise: a draw of :attr:`noise_law`, of the same shape.
            condition: what is given beside the states.
        """

    @abstractmethod
    def first(self, noise: Tensor, condition: Conditioning) -> Tensor:
        """x_T ``[B, *shape]`` from which sampling begins, of a draw of :attr:`noise_law` and of what is known."""

    def spaced(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nodes of the grid ``time`` for evenly spaced ``times``: these, unless a path places them elsewhere."""
        return times

    def prediction_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of a prediction for states of ``shape``; the same unless a path says otherwise."""
        return tuple(shape)

    def named(self, *roles: Role) -> tuple[str, ...]:
        """The names of the sources with one of these roles, in order."""
        return tuple(name for name, role in self.sources.items() if role in roles)

    @property
    def known(self) -> tuple[str, ...]:
        """The names of the known sources."""
        return self.named("known")

    def given(self, condition: Conditioning, *roles: Role, like: Tensor | None = None) -> dict[str, Tensor]:
        """The known sources of a batch (or those of ``roles``): of its ``sources``, else the condition of that name.

        Raises:
            AnydiffError: the condition lacks one, or one does not have the shape of the states ``like``.
        """
        names = self.named(*(roles or ("known",)))
        found = {**condition.given, **condition.sources} if names else {}
        for name in names:
            if name not in found:
                raise AnydiffError(
                    f"{self!r} leads to a {self.sources[name]} {name!r}, which is not given; pass "
                    f"Conditioning(sources={{{name!r}: tensor}}), choose a data set with it, or another path."
                )
            if like is not None and found[name].shape != like.shape:
                raise AnydiffError(
                    f"the source {name!r} has shape {tuple(found[name].shape)}, but the data have {tuple(like.shape)}; "
                    f"give one {name} for every example, of the shape of the data."
                )
        return {name: found[name] for name in names}


class ClockedPath(Path):
    """A path with a log-SNR λ_t that falls with t: what grids, laws of training times and networks go by.

    A subclass gives :meth:`_log_snr`, and :meth:`_time` where a closed form is more accurate than bisection.
    """

    @abstractmethod
    def _log_snr(self, t: Tensor) -> Tensor: ...

    def _time(self, log_snr: Tensor) -> Tensor:
        """Inverse of the log-SNR by bisection to the last bit; λ must decrease in t."""
        low = torch.zeros_like(log_snr)
        # The first middle is t_start; later times are reached by samplers that add noise at the first node.
        high = torch.full_like(log_snr, 2 * self.t_start)
        for _ in range(81):
            middle = (low + high) / 2
            above = self._log_snr(middle) > log_snr
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

    def log_snr(self, t: Time) -> Time:
        """λ_t, decreasing in t; ±inf where there is no noise or no signal."""
        return self._evaluate("_log_snr", t)

    def time(self, log_snr: Time) -> Time:
        """The time at which the log-SNR is ``log_snr``: the inverse of :meth:`log_snr`."""
        return self._evaluate("_time", log_snr)

    def log_snr_range(self) -> tuple[float, float]:
        """λ at ``t_start`` and at ``t_end``, cut to ±``LOG_SNR_LIMIT`` where it is infinite or beyond."""
        first, last = self.log_snr(self.t_start), self.log_snr(self.t_end)
        return max(first, -LOG_SNR_LIMIT), min(last, LOG_SNR_LIMIT)

    def told(self, t: Tensor) -> Tensor:
        """The log-SNR λ_t, so that a network outlives path and grid."""
        return self.log_snr(t)

    def _evaluate(self, name: str, argument: Time) -> Time:
        if isinstance(argument, Tensor):
            value = getattr(self, name)(argument.to(torch.float64))
            if torch.is_grad_enabled() and argument.requires_grad and not value.requires_grad:
                value = value + 0.0 * argument  # a constant (α = 1) still belongs to its time
            return cast(Time, value)
        return cast(Time, _scalar(self, name, float(argument)))


def clocked(path: Path, what: str) -> ClockedPath:
    """``path`` itself, if it has a log-SNR.

    Raises:
        AnydiffError: it has none, so ``what`` has no meaning on it.
    """
    if not isinstance(path, ClockedPath):
        raise NotApplicableError(
            f"{what} needs a path of data and noise with a log-SNR, which {path!r} is not; use the solver "
            "'interpolant' there, or train on another path."
        )
    return path


def check_range(path: Path, latest: float = math.inf) -> None:
    """Raise an :class:`~anydiff.errors.AnydiffError` unless 0 <= t_end < t_start <= latest."""
    if not 0 <= path.t_end < path.t_start:
        raise AnydiffError(
            f"t_end is {path.t_end} and t_start is {path.t_start}, but a path needs 0 <= t_end < t_start; change t_end."
        )
    if path.t_start > latest or math.isinf(path.t_start):
        raise AnydiffError(f"t_start is {path.t_start}, but must be finite and at most {latest:g} on this path.")
