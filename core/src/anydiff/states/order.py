"""How a state is cut into positions, and in which sequence these are drawn.

One object serves training (block times and masks), networks (who may look at whom) and the outer loop of sampling
(:mod:`anydiff.autoregressive`), so that the three cannot disagree. A :class:`Cut` is an exact rearrangement of a state
``[B, *shape]`` into positions ``[B, L, *element]``. An :class:`Order` says for each position in which turn it is drawn:
positions of one turn are drawn together, turn 0 first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number
from anydiff.states.spec import StateSpec
from anydiff.states.streams import check_seed, derived_seed, standard_normal


@dataclass(frozen=True)
class Cut:
    """A state ``[*shape]`` as L patches in order of rows; :meth:`split` and :meth:`join` are exact inverses.

    Attributes:
        shape: of one state.
        patch: size of a patch along each axis of ``shape``; the shape of a position's element. An axis that is not cut
            has the patch of its whole size.

    Raises:
        AnydiffError: a patch of another number of axes, or one that does not divide its axis.
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("shape", "patch"):
            sizes = tuple(natural_number(name, size) for size in getattr(self, name))
            object.__setattr__(self, name, sizes)
        if len(self.patch) != len(self.shape) or not self.shape:
            raise AnydiffError(
                f"patch is {self.patch}, but must have one size for each axis of the state {self.shape}; an axis that "
                "is not cut has its whole size."
            )
        for size, part in zip(self.shape, self.patch, strict=True):
            if size % part:
                raise AnydiffError(
                    f"patch is {self.patch}, but {part} does not divide the {size} of the state {self.shape}; choose a "
                    "patch that does."
                )

    @classmethod
    def patches(cls, shape: Sequence[int], size: int | Sequence[int]) -> Cut:
        """Patches over the spatial axes of a state (C, *spatial), each with all channels.

        Args:
            shape: (C, *spatial), 1 to 3 spatial axes.
            size: of a patch, one number or one per spatial axis.
        """
        spatial = tuple(shape[1:])
        if not 1 <= len(spatial) <= 3:
            raise AnydiffError(
                f"the state has shape {tuple(shape)}, but patches are cut from (channels, *spatial) with 1 to 3 "
                "spatial axes; cut it by Cut(shape, patch)."
            )
        sizes = (size,) * len(spatial) if isinstance(size, int) else tuple(size)
        return cls(tuple(shape), (shape[0], *sizes))

    @classmethod
    def frames(cls, shape: Sequence[int]) -> Cut:
        """One position for each entry of the first axis: frames of a film, steps of a series, tokens of a text."""
        return cls(tuple(shape), (1, *shape[1:]))

    @property
    def grid(self) -> tuple[int, ...]:
        """How many patches there are along each axis."""
        return tuple(size // part for size, part in zip(self.shape, self.patch, strict=True))

    @property
    def length(self) -> int:
        """L, the number of positions."""
        return math.prod(self.grid)

    @property
    def element(self) -> tuple[int, ...]:
        """The shape of one position's element."""
        return self.patch

    @property
    def axes(self) -> tuple[int, ...]:
        """Sizes of the axes along which there is more than one patch; ``(1,)`` where there is one position alone."""
        return tuple(size for size in self.grid if size > 1) or (1,)

    @property
    def coordinates(self) -> Tensor:
        """Where each position lies along :attr:`axes`: int64 ``[L, len(axes)]``."""
        return torch.stack(torch.meshgrid(*map(torch.arange, self.axes), indexing="ij"), dim=-1).flatten(0, -2)

    def split(self, states: Tensor) -> Tensor:
        """Positions ``[B, L, *element]`` of states ``[B, *shape]``.

        Raises:
            AnydiffError: states of another shape.
        """
        self._check(states, self.shape)
        axes = len(self.shape)
        pairs = [each for pair in zip(self.grid, self.patch, strict=True) for each in pair]
        outer, inner = [1 + 2 * axis for axis in range(axes)], [2 + 2 * axis for axis in range(axes)]
        moved = states.reshape(-1, *pairs).permute(0, *outer, *inner)
        return moved.reshape(len(states), self.length, *self.patch)

    def join(self, positions: Tensor) -> Tensor:
        """States ``[B, *shape]`` of positions ``[B, L, *element]``.

        Raises:
            AnydiffError: positions of another shape.
        """
        self._check(positions, (self.length, *self.element))
        axes = len(self.shape)
        back = [each for axis in range(axes) for each in (1 + axis, 1 + axes + axis)]
        apart = positions.reshape(-1, *self.grid, *self.patch).permute(0, *back)
        return apart.reshape(len(positions), *self.shape)

    @staticmethod
    def _check(values: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(values.shape[1:]) != shape:
            raise AnydiffError(f"the values have shape {tuple(values.shape)}, but must be [B, {shape}] for this cut.")


@dataclass(frozen=True)
class Order:
    """In which turn each position is drawn; one order for all samples.

    Attributes:
        cut: how a state becomes positions.
        turns: the turn of each position, whole numbers from 0 on without a gap.
        window: how many turns before its own a position may look back; None for all of them.

    Raises:
        AnydiffError: turns of another length, or with a gap.
    """

    cut: Cut
    turns: tuple[int, ...]
    window: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(natural_number("turn", turn, minimum=0) for turn in self.turns))
        if self.window is not None:
            natural_number("window", self.window)
        if len(self.turns) != self.cut.length:
            raise AnydiffError(
                f"turns has {len(self.turns)} entries, but the state is cut into {self.cut.length} positions; give one "
                "turn for each."
            )
        if set(self.turns) != set(range(max(self.turns) + 1)):
            missing = min(set(range(max(self.turns))) - set(self.turns))
            raise AnydiffError(f"no position is drawn in turn {missing}; number the turns from 0 on without a gap.")

    @classmethod
    def of_groups(cls, cut: Cut, groups: Sequence[Sequence[int]], window: int | None = None) -> Order:
        """The order that draws ``groups`` of positions one after the other.

        Raises:
            AnydiffError: a position is repeated, left out or out of range, or a group is empty.
        """
        turns = [-1] * cut.length
        for number, group in enumerate(groups):
            if not len(group):
                raise AnydiffError(f"group {number} of the order is empty; leave it out.")
            for place in group:
                if not 0 <= natural_number("position", place, minimum=0) < cut.length:
                    raise AnydiffError(f"the order names position {place}, but there are 0 to {cut.length - 1}.")
                if turns[place] >= 0:
                    raise AnydiffError(f"the order names position {place} twice; draw each position once.")
                turns[place] = number
        if -1 in turns:
            raise AnydiffError(f"the order leaves out position {turns.index(-1)}; draw each position once.")
        return cls(cut, tuple(turns), window)

    @classmethod
    def blocks(cls, cut: Cut, size: int, window: int | None = None) -> Order:
        """Runs of ``size`` neighbouring positions; 1 draws one position after the other (raster, frames, tokens).

        Raises:
            AnydiffError: ``size`` does not divide the number of positions.
        """
        if cut.length % natural_number("block", size):
            raise AnydiffError(
                f"block is {size}, but must divide the {cut.length} positions of the state {cut.shape}; choose one of "
                f"{', '.join(str(n) for n in range(1, cut.length + 1) if cut.length % n == 0)}."
            )
        return cls(cut, tuple(place // size for place in range(cut.length)), window)

    @classmethod
    def scales(cls, cut: Cut, sizes: Sequence[int]) -> Order:
        """Runs of different sizes laid end to end: the scales of a pyramid, the longest last.

        Raises:
            AnydiffError: the sizes do not add up to the number of positions.
        """
        whole = [natural_number("scale", size) for size in sizes]
        if sum(whole) != cut.length:
            raise AnydiffError(f"scales are {whole}, {sum(whole)} positions, but the state has {cut.length}.")
        return cls(cut, tuple(turn for turn, size in enumerate(whole) for _ in range(size)))

    @property
    def length(self) -> int:
        """L, the number of positions."""
        return self.cut.length

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many positions are drawn in each turn."""
        return tuple(self.turns.count(turn) for turn in range(max(self.turns) + 1))

    @property
    def count(self) -> int:
        """The number of turns."""
        return len(self.sizes)

    @property
    def shared(self) -> bool:
        """Whether all samples are drawn in this order."""
        return True

    def of_samples(self, seed: int, samples: Sequence[int]) -> Tensor:
        """The turns of the samples: int64 ``[L]`` where they share one order, else ``[len(samples), L]``.

        Args:
            seed: of the sample set.
            samples: the index of each sample in it.
        """
        return torch.tensor(self.turns)

    def groups(self, seed: int = 0, samples: Sequence[int] = (0,)) -> list[Tensor]:
        """The positions of each turn, ascending: int64 ``[m]`` where all share them, else ``[len(samples), m]``.

        Arguments as for :meth:`of_samples`.
        """
        turns = self.of_samples(seed, samples)
        if turns.ndim == 1:
            return [(turns == turn).nonzero().flatten() for turn in range(self.count)]
        places = torch.argsort(turns, dim=1, stable=True)  # by turn, then by place
        return list(torch.split(places, list(self.sizes), dim=1))


def positions_spec(spec: StateSpec, order: Order) -> StateSpec:
    """The spec of the positions ``[L, *element]`` of states of ``spec``: what a model with this order diffuses.

    Raises:
        AnydiffError: states of several leaves or symmetries, or of another shape than the order cuts.
    """
    leaf = spec.leaves[0]
    if len(spec.leaves) > 1 or leaf.symmetric or leaf.zero_diagonal or leaf.mask_axes:
        raise AnydiffError(
            f"the state has the leaves {', '.join(spec.names)}, several, masked or symmetric, but positions are "
            "cut from one plain leaf; choose a network without an order."
        )
    if leaf.shape != order.cut.shape:
        raise AnydiffError(f"the order cuts states of shape {order.cut.shape}, but the state has {leaf.shape}.")
    return StateSpec([replace(leaf, shape=(order.length, *order.cut.element))])


@dataclass(frozen=True)
class RandomOrder(Order):
    """Each sample has an order of its own: all positions shuffled, then dealt out into turns of the given sizes.

    The order of sample k of a seed depends on (seed, k) alone. ``turns`` says how many positions each turn has, and
    nothing of where these lie.
    """

    @classmethod
    def revealed(cls, cut: Cut, steps: int) -> RandomOrder:
        """MAR's groups (Li et al. 2024, arXiv:2406.11838): after step i of n floor(L cos(π i / 2n)) positions are
        left, at least one fewer than before.

        Raises:
            AnydiffError: more steps than positions.
        """
        if natural_number("steps", steps) > cut.length:
            raise AnydiffError(
                f"steps is {steps}, but the state has {cut.length} positions, one of which at least is drawn per step."
            )
        return cls(cut, tuple(turn for turn, size in enumerate(_cosine(cut.length, steps)) for _ in range(size)))

    @property
    def shared(self) -> bool:
        """No."""
        return False

    def of_samples(self, seed: int, samples: Sequence[int]) -> Tensor:
        """int64 ``[len(samples), L]``; see :meth:`Order.of_samples`."""
        keys = torch.from_numpy(standard_normal(self._seed(seed), samples, 0, "order", (self.length,)))
        turns = torch.empty(len(samples), self.length, dtype=torch.int64)
        dealt = torch.tensor(self.turns).expand(len(samples), -1)
        return turns.scatter_(1, torch.argsort(keys, dim=1), dealt)

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def _seed(seed: int) -> int:
        return derived_seed(check_seed(seed), "order of positions")


def _cosine(length: int, steps: int) -> list[int]:
    """How many positions each of ``steps`` steps reveals."""
    sizes, left = [], length
    for step in range(1, steps + 1):
        after = math.floor(length * math.cos(math.pi / 2 * step / steps) + 1e-9)
        after = min(after, left - 1)  # at least one is revealed
        after = max(after, steps - step)  # and one is left for each step to come
        after = 0 if step == steps else after
        sizes.append(left - after)
        left = after
    return sizes
