"""Where sampling begins: an object that makes the states at a plan's first node from the samples' own streams.

So sample k of a seed stays sample k wherever it begins: in the prior (:class:`Prior`), at a later node from noise of
the scale that states have there (:class:`PriorAt`), or at one state that all samples share (:class:`Fixed`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.paths.base import gaussian
from anydiff.paths.path import Path
from anydiff.solvers.executor import DrawsNoise
from anydiff.solvers.plan import Plan
from anydiff.states import Conditioning


@runtime_checkable
class MadeForPlan(DrawsNoise, Protocol):
    """A noise source whose draws mean something for one plan alone."""

    def check_plan(self, plan: Plan) -> None:
        """Refuse any other ``plan``.

        Raises:
            AnydiffError: it is another.
        """
        ...


class Start(ABC):
    """Makes the states at the first node. A frozen dataclass whose fields are its options.

    Attributes:
        time: of the first node; None for the path's ``t_start``.
    """

    time: float | None = None

    @abstractmethod
    def states(
        self, path: Path, samples: Sequence[int], noise: DrawsNoise, condition: Conditioning, like: Tensor
    ) -> Tensor:
        """The states ``[len(samples), *shape]``; row b depends on sample b alone.

        Args:
            path: that is travelled.
            samples: the index of each row.
            noise: the samples' own streams; draw 0 is the prior's.
            condition: one row per sample.
            like: an empty tensor ``[0, *shape]`` of the dtype, shape and device of the states.
        """


@dataclass(frozen=True)
class Prior(Start):
    """The path's own prior, as where nothing is said."""

    def states(
        self, path: Path, samples: Sequence[int], noise: DrawsNoise, condition: Conditioning, like: Tensor
    ) -> Tensor:
        """x_T."""
        return path.first(noise.draw(samples, 0, like.dtype, like.device), condition)


@dataclass(frozen=True)
class PriorAt(Start):
    """Noise at a later node, of the scale sqrt(α² s² + σ²) that states of data with deviation s have there.

    It stands for the states' law, which is not Gaussian there: a deliberate mismatch that searched grids use
    (AutoDiffusion, Li et al., ICCV 2023, arXiv 2309.10438). On a VP path with s = 1 it is noise of unit scale.
    """

    time: float
    deviation: float = 1.0

    def states(
        self, path: Path, samples: Sequence[int], noise: DrawsNoise, condition: Conditioning, like: Tensor
    ) -> Tensor:
        """The scaled prior draw."""
        known = gaussian(path, "a start at a later node")
        if not 0 < self.time <= path.t_start:
            raise AnydiffError(f"time is {self.time:g}, but sampling begins between 0 and {path.t_start:g}.")
        scale = math.hypot(known.alpha(self.time) * self.deviation, known.sigma(self.time))
        return noise.draw(samples, 0, like.dtype, like.device) * scale


@dataclass(frozen=True, eq=False)
class Fixed(Start):
    """One state ``[*shape]`` with which every sample begins; what differs between samples is the noise on the way."""

    state: Tensor
    time: float | None = None

    def states(
        self, path: Path, samples: Sequence[int], noise: DrawsNoise, condition: Conditioning, like: Tensor
    ) -> Tensor:
        """The state, once per sample."""
        if tuple(self.state.shape) != tuple(like.shape[1:]):
            raise AnydiffError(
                f"the state to begin with has shape {tuple(self.state.shape)}, but one sample has "
                f"{tuple(like.shape[1:])}; give one state without an axis of samples."
            )
        if not bool(torch.isfinite(self.state).all()):
            raise AnydiffError("the state to begin with is not finite in all entries; check it where it was made.")
        return self.state.to(like).expand(len(samples), *self.state.shape).clone()
