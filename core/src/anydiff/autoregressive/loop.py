r"""The outer loop of every autoregressive model: p(x_1, …, x_L) = Π_g p(x_g | what is finished before group g).

Groups of positions are drawn one after the other. The loop knows nothing of how: an :class:`Inner` draws a group given
what is known, and is told when positions are finished, once each, drawn or given. Positions that are given stay bit for
bit. ``draw`` may say that only the first m of its positions stand; the others are asked for again.

The rows of one call of :func:`fill` are a chunk: a memory belongs to it, and nothing of a row depends on the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError


@dataclass(frozen=True)
class Group:
    """What is to be drawn now.

    Attributes:
        turn: its number in the order.
        positions: int64 ``[m]``, or ``[B, m]`` where each row has positions of its own.
        rows: int64 ``[b]``: the rows of the chunk that lack something here.
        values: ``[B, L, *element]`` of the whole chunk, zero wherever ``known`` is false.
        known: bool ``[B, L]``: given or finished.
    """

    turn: int
    positions: Tensor
    rows: Tensor
    values: Tensor
    known: Tensor

    def here(self, tensor: Tensor) -> Tensor:
        """The entries ``[B, m, ...]`` of ``tensor [B, L, ...]`` at the group's positions."""
        return at(tensor, self.positions)


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a group.

    Attributes:
        values: ``[b, m, *element]``, one row per row of the group.
        stand: how many of the positions stand, from the first on; None for all.
    """

    values: Tensor
    stand: int | None = None


class Inner(ABC):
    """Draws groups. A subclass gives :meth:`draw`; what remembers gives the other two as well."""

    def begin(self, values: Tensor, known: Tensor) -> None:
        """Called once per chunk, with what is given (zero where it is not): forget what was before.

        By default nothing is remembered.
        """
        return

    @abstractmethod
    def draw(self, group: Group) -> Drawn:
        """Draw the positions of a group in the rows that lack some."""

    def commit(self, turn: int, positions: Tensor, values: Tensor) -> None:
        """Positions are finished: ``values [B, m, *element]`` of the whole chunk, drawn or given; once each."""
        return


@dataclass(frozen=True)
class Rollout:
    """The finished chunk.

    Attributes:
        values: ``[B, L, *element]``; zero where ``known`` is false.
        known: bool ``[B, L]``: given or drawn.
        drawn: bool ``[B, L]``: drawn by the loop.
    """

    values: Tensor
    known: Tensor
    drawn: Tensor


def fill(inner: Inner, values: Tensor, known: Tensor, groups: Sequence[Tensor]) -> Rollout:
    """Draw all that is not known, group after group.

    Args:
        inner: draws a group.
        values: ``[B, L, *element]``; entries that are not known may hold anything, NaN included.
        known: bool ``[B, L]``.
        groups: the positions of each turn, ``[m]`` or ``[B, m]``; what none of them holds stays as it is.

    Raises:
        AnydiffError: shapes that do not fit, a value that is known and not finite, or a draw of another shape.
    """
    values, known = checked(values, known)
    drawn = torch.zeros_like(known)
    inner.begin(values, known)
    for turn, places in enumerate(groups):
        left = places.to(values.device)
        while left.shape[-1]:
            missing = ~at(known, left)
            rows = missing.any(dim=1).nonzero().flatten()
            stand = left.shape[-1]
            if len(rows):
                stand = _draw(inner, Group(turn, left, rows, values, known), missing, drawn)
            done, left = left[..., :stand], left[..., stand:]
            inner.commit(turn, done, at(values, done))
    return Rollout(values, known, drawn)


def _draw(inner: Inner, group: Group, missing: Tensor, drawn: Tensor) -> int:
    """Draw and write down what is missing; returns how many positions stand."""
    made = inner.draw(group)
    wanted = (len(group.rows), *group.here(group.values).shape[1:])
    if tuple(made.values.shape) != wanted:
        raise AnydiffError(
            f"the inner sampler gave {tuple(made.values.shape)} for the positions "
            f"{spoken(group.positions)}, but they need {wanted}."
        )
    stand = wanted[1] if made.stand is None else made.stand
    if not 1 <= stand <= wanted[1]:
        raise AnydiffError(
            f"the inner sampler says that {stand} of {wanted[1]} positions stand; give 1 to {wanted[1]}."
        )
    places = group.positions.expand(len(missing), -1)[group.rows, :stand]
    lacking = missing[group.rows, :stand]
    rows = group.rows[:, None].expand_as(places)[lacking]
    where = places[lacking]
    group.values[rows, where] = made.values[:, :stand][lacking].to(group.values)
    group.known[rows, where] = True
    drawn[rows, where] = True
    return stand


def at(tensor: Tensor, positions: Tensor) -> Tensor:
    """``tensor [B, L, ...]`` at ``positions`` (``[m]`` or ``[B, m]``): ``[B, m, ...]``."""
    if positions.ndim == 1:
        return tensor[:, positions]
    return tensor[torch.arange(len(tensor), device=tensor.device)[:, None], positions]


def spoken(positions: Tensor) -> str:
    """Positions as errors name them."""
    first = positions[0] if positions.ndim > 1 else positions
    return f"{int(first[0])} to {int(first[-1])}" if positions.ndim == 1 else f"of {first.tolist()} (first row)"


def checked(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of both, with zeros where nothing is known.

    Raises:
        AnydiffError: shapes that do not fit, or a known value that is not finite.
    """
    if values.ndim < 2 or tuple(known.shape) != tuple(values.shape[:2]) or known.dtype != torch.bool:
        raise AnydiffError(
            f"known is {known.dtype} {tuple(known.shape)}, but must be torch.bool with one entry per row and position "
            f"of values, {tuple(values.shape[:2])}."
        )
    bad = (~torch.isfinite(values)).flatten(2).any(dim=2) if values.ndim > 2 else ~torch.isfinite(values)
    if bool((bad & known).any()):
        row, place = (bad & known).nonzero()[0].tolist()
        raise AnydiffError(
            f"position {place} of row {row} is given, but holds a value that is not finite; repair it or leave it out."
        )
    return torch.where(like(known, values), values, 0), known.clone()


def like(mask: Tensor, values: Tensor) -> Tensor:
    """``mask [B, L]`` with the axes of one element behind it."""
    return mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
