"""Token heads: the law of one position's element given a hidden vector of a backbone.

A backbone is called once and says a vector for each position; a head draws the element from it. So the backbone never
sees noise, and what it knows is lossless (MAR, Li et al. 2024, arXiv:2406.11838; MMAR, arXiv:2410.10798). The diffusion
head is an ordinary denoiser of C numbers whose condition is the hidden vector: every solver, guidance and kind of
prediction works in it.

Random numbers of a token are keyed by (sample, position), so that a token is the same whatever is drawn beside it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.autoregressive.paths import DrawnPath, PathLaw
from anydiff.autoregressive.speculative import inverse_cdf
from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError, natural_number
from anydiff.networks import MLP
from anydiff.objectives import Denoising
from anydiff.paths import GaussianPath, VPCosine
from anydiff.samplers import sample
from anydiff.solvers import Plan
from anydiff.states import Conditioning, Draws, NoiseSource, StateSpec, VectorCondition, derived_seed
from anydiff.states.streams import standard_normal, uniform

X = TypeVar("X")

HIDDEN = "hidden"
"""The name of the condition that the hidden vector is to the denoiser of a diffusion head."""
_BOUND = 7.0
"""Of the logarithm of a Gaussian head's deviation."""


@dataclass(frozen=True)
class TokenKeys:
    """Whose numbers a head draws: one row per hidden vector.

    Attributes:
        seed: of the sample set.
        samples: the sample index of each row.
        positions: the position of each row.

    Raises:
        AnydiffError: samples and positions of different lengths.
    """

    seed: int
    samples: Sequence[int]
    positions: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.positions):
            raise AnydiffError(
                f"{len(self.samples)} samples and {len(self.positions)} positions are given; give one of each per row."
            )

    @classmethod
    def of(cls, seed: int, samples: Sequence[int], positions: Tensor) -> TokenKeys:
        """Of the rows of ``hidden [B, m, D]`` flattened: positions int64 ``[m]`` or ``[B, m]``."""
        places = positions.expand(len(samples), -1)
        rows = [sample for sample in samples for _ in range(places.shape[1])]
        return cls(seed, rows, places.flatten().tolist())

    def normal(self, size: int) -> Tensor:
        """Standard normal numbers, float64 ``[rows, size]``."""
        drawn = torch.empty(len(self.samples), size, dtype=torch.float64)
        for place, rows, samples in self.by_position():
            seed = derived_seed(self.seed, f"token/{place}")
            drawn[rows] = torch.from_numpy(standard_normal(seed, samples, 0, "token", (size,)))
        return drawn

    def uniform(self) -> Tensor:
        """Numbers in (0, 1), float64 ``[rows]``."""
        drawn = torch.empty(len(self.samples), dtype=torch.float64)
        for place, rows, samples in self.by_position():
            drawn[rows] = uniform(derived_seed(self.seed, f"token/{place}"), samples, 0, "token")
        return drawn

    def by_position(self) -> list[tuple[int, list[int], list[int]]]:
        """For each position that occurs: its number, the rows it has, and their samples."""
        found: dict[int, list[int]] = {}
        for row, place in enumerate(self.positions):
            found.setdefault(int(place), []).append(row)
        return [(place, rows, [self.samples[row] for row in rows]) for place, rows in sorted(found.items())]


class TokenHead(nn.Module, ABC, Generic[X]):
    """The law of an element given a hidden vector; ``X`` is what it draws and what has a probability.

    Args:
        hidden: size of the hidden vector.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = natural_number("hidden", hidden)

    @abstractmethod
    def losses(self, hidden: Tensor, target: Tensor, draws: Draws) -> Tensor:
        """Loss of each row ``[N]``; arguments as for :meth:`loss`, checked, one row per token."""

    @abstractmethod
    def sample(self, hidden: Tensor, keys: TokenKeys) -> Tensor:
        """One element for each hidden vector ``[N, D]``: ``[N, C]``, or classes ``[N]``."""

    @abstractmethod
    def log_prob(self, hidden: Tensor, x: X) -> Tensor:
        """log of the density (or probability) of ``x`` given ``hidden [N, D]``: float64 ``[N]``."""

    def loss(self, hidden: Tensor, target: Tensor, weight: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """The mean loss of the tokens.

        Args:
            hidden: ``[N, D]``.
            target: ``[N, C]``, or classes int64 ``[N]``.
            weight: of each token ``[N]``; those of weight 0 give no gradient. A loss of no weight at all is 0.
            draws: random numbers of the rows; by default those of the positions 0 to N - 1.

        Raises:
            AnydiffError: shapes that do not fit.
        """
        rows = self.check_hidden(hidden)
        if len(target) != rows or (weight is not None and tuple(weight.shape) != (rows,)):
            given = "none" if weight is None else str(tuple(weight.shape))
            raise AnydiffError(
                f"hidden has {rows} rows, target the shape {tuple(target.shape)}, weight {given}; give one target and "
                "one weight for each hidden vector."
            )
        losses = self.losses(hidden, target, Draws(0, range(rows)) if draws is None else draws)
        if weight is None:
            return losses.mean()
        # Where a weight is 0 the loss may be anything, NaN included.
        counted = torch.where(weight > 0, losses, 0) * weight
        return counted.sum() / weight.sum().clamp(min=torch.finfo(losses.dtype).tiny)

    def check_hidden(self, hidden: Tensor) -> int:
        """The number of rows of ``hidden``.

        Raises:
            AnydiffError: vectors of another size.
        """
        if hidden.ndim != 2 or hidden.shape[1] != self.hidden:
            raise AnydiffError(
                f"hidden has shape {tuple(hidden.shape)}, but this head reads [N, {self.hidden}]; give it one hidden "
                "vector per token."
            )
        return len(hidden)


class GaussianHead(TokenHead[Tensor]):
    """A normal law with a mean and a deviation for each of C numbers, both linear in the hidden vector.

    Args:
        hidden: size of the hidden vector.
        channels: C.
    """

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__(hidden)
        self.channels = natural_number("channels", channels)
        self.exit = nn.Linear(hidden, 2 * channels)

    def law(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, each float64 ``[N, C]``."""
        self.check_hidden(hidden)
        mean, log_deviation = self.exit(hidden).double().chunk(2, dim=1)
        return mean, log_deviation.clamp(-_BOUND, _BOUND).exp()

    def losses(self, hidden: Tensor, target: Tensor, draws: Draws) -> Tensor:
        """-log p per number."""
        return -self.log_prob(hidden, target).to(hidden.dtype) / self.channels

    def sample(self, hidden: Tensor, keys: TokenKeys) -> Tensor:
        """See :meth:`TokenHead.sample`."""
        mean, deviation = self.law(hidden)
        return (mean + deviation * keys.normal(self.channels).to(mean)).to(hidden.dtype)

    def log_prob(self, hidden: Tensor, x: Tensor) -> Tensor:
        """See :meth:`TokenHead.log_prob`."""
        mean, deviation = self.law(hidden)
        squared = ((x.double() - mean) / deviation).square()
        return (-squared / 2 - deviation.log() - math.log(2 * math.pi) / 2).sum(1)


class SoftmaxHead(TokenHead[Tensor]):
    """Probabilities of K classes, linear in the hidden vector before the softmax.

    Args:
        hidden: size of the hidden vector.
        classes: K.
    """

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__(hidden)
        self.classes = natural_number("classes", classes)
        self.exit = nn.Linear(hidden, classes)

    def table(self, hidden: Tensor) -> Tensor:
        """Log-probabilities, float64 ``[N, K]``."""
        self.check_hidden(hidden)
        return self.exit(hidden).double().log_softmax(-1)  # type: ignore[no-any-return]

    def losses(self, hidden: Tensor, target: Tensor, draws: Draws) -> Tensor:
        """-log p."""
        return functional.cross_entropy(self.exit(hidden), target, reduction="none")

    def sample(self, hidden: Tensor, keys: TokenKeys) -> Tensor:
        """Classes int64 ``[N]``."""
        table = self.table(hidden)
        return inverse_cdf(table, keys.uniform().to(table.device))

    def log_prob(self, hidden: Tensor, x: Tensor) -> Tensor:
        """See :meth:`TokenHead.log_prob`."""
        return self.table(hidden).gather(1, x[:, None])[:, 0]


class DiffusionHead(TokenHead[DrawnPath]):
    """A small diffusion of C numbers whose condition is the hidden vector.

    What it draws has no density of its own: a probability is that of a whole path (:meth:`path`, :meth:`log_prob`).

    Args:
        hidden: size of the hidden vector.
        channels: C.
        width: of the network.
        blocks: of the network.
        times: noise levels at which each hidden vector is used in training.
        path: from data to noise.
        kind: what the network predicts.
        sigma_data: deviation of the elements.

    Attributes:
        denoiser: an ordinary one; its network's weights are the head's.
    """

    def __init__(
        self, hidden: int, channels: int, *, width: int = 128, blocks: int = 3, times: int = 4,
        path: GaussianPath | None = None, kind: PredictionKind = "velocity", sigma_data: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(hidden)
        self.channels, self.times = natural_number("channels", channels), natural_number("times", times)
        self.spec, route = StateSpec.single((channels,)), path or VPCosine()
        conditions = {HIDDEN: VectorCondition(hidden)}
        network = MLP(self.spec, conditions, width=width, blocks=blocks, told=route.told_size)
        self.denoiser = NetworkDenoiser(network, route, kind, sigma_data, self.spec)
        self.objective = Denoising("edm", times="uniform")  # of velocities at unit deviation: their plain squared error

    def losses(self, hidden: Tensor, target: Tensor, draws: Draws) -> Tensor:
        """The squared error of the prediction, a mean over ``times`` noise levels of each token."""
        many = [draws.named(f"time {number}") for number in range(self.times)]
        numbers = torch.cat([each.uniform("time") for each in many]).to(hidden.device)
        noise = torch.cat([each.normal("noise", (self.channels,)) for each in many]).to(target)
        clean, told = target.repeat(self.times, 1), hidden.repeat(self.times, 1)
        made = self.objective(self.denoiser, clean, noise, numbers, Conditioning({HIDDEN: told}))
        return made.reshape(self.times, -1).mean(0)

    def sample(self, hidden: Tensor, keys: TokenKeys, **options: Any) -> Tensor:
        """See :meth:`TokenHead.sample`.

        ``options`` are those of :func:`anydiff.samplers.sample`: nfe, solver, grid, guidance. The hidden vector is the
        condition, so a guidance may hide it.
        """
        self.check_hidden(hidden)
        drawn = hidden.new_empty(len(hidden), self.channels)
        for place, rows, samples in keys.by_position():
            told = Conditioning({HIDDEN: hidden[rows]})
            seed = derived_seed(keys.seed, f"token/{place}")
            settings = {"dtype": hidden.dtype, "device": hidden.device, **options}
            drawn[rows] = sample(self.denoiser, self.spec, samples, seed=seed, condition=told, **settings)
        return drawn

    def law(self, hidden: Tensor, plan: Plan) -> PathLaw:
        """The law of paths of a stochastic plan given ``hidden [N, D]``."""
        self.check_hidden(hidden)
        return PathLaw(plan, self.denoiser, Conditioning({HIDDEN: hidden}))

    def path(self, hidden: Tensor, keys: TokenKeys, plan: Plan) -> DrawnPath:
        """What :meth:`sample` draws with ``plan``, with all states on the way."""
        law = self.law(hidden, plan)
        source = _KeyedNoise(self.spec, keys)
        rows = range(len(hidden))
        return law.draw(source.draw(rows, 0, hidden.dtype, hidden.device), source, rows)

    def log_prob(self, hidden: Tensor, x: DrawnPath, plan: Plan | None = None) -> Tensor:
        """log of the density of a path of ``plan`` given its start, up to what all heads share; float64 ``[N]``.

        Raises:
            AnydiffError: there is no plan, or one whose paths have no density.
        """
        if plan is None:
            raise AnydiffError(
                "plan is missing, but only paths of a diffusion head have a density; give the plan that drew the path."
            )
        return self.law(hidden, plan).log_prob(x)


class _KeyedNoise:
    """The noise of tokens: draw m of row r is that of its (sample, position)."""

    def __init__(self, spec: StateSpec, keys: TokenKeys) -> None:
        self.spec, self.keys = spec, keys

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """``[rows, C]``; ``samples`` are the rows of the keys, all of them in their order."""
        drawn = torch.empty(len(samples), *self.spec.shape, dtype=dtype, device=device)
        for place, rows, numbers in self.keys.by_position():
            source = NoiseSource(self.spec, derived_seed(self.keys.seed, f"token/{place}"))
            drawn[rows] = source.draw(numbers, draw, dtype, device)
        return drawn
