r"""Sequences filled in by a plain function: a face of the outer loop (:mod:`anydiff.autoregressive.loop`).

An *element* is a frame, a token, a scale, a window: anything with a fixed shape. The loop knows nothing of how a block
is drawn; :class:`~anydiff.autoregressive.Sampled` draws it by diffusion, a test by arithmetic. Elements that are given
stay as they are, bit for bit, and every row may have others given and others missing.

Sample k of a seed depends on (seed, k) and what was given to it alone: each block has a seed of its own, keyed by the
position of its first element, and the rows keep their numbers when only some of them need a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.autoregressive.loop import Drawn, Group, Inner, Rollout, fill, like
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import derived_seed


@dataclass(frozen=True)
class Context:
    """What a block is drawn from.

    Attributes:
        values: ``[B, L, *shape]``, zero wherever ``known`` is false.
        known: bool ``[B, L]``: which elements may be looked at.
        targets: the positions to be drawn now, contiguous.
        rows: the number of each row in the whole sample set (the key of its random stream).
        seed: this block's own.
    """

    values: Tensor
    known: Tensor
    targets: range
    rows: list[int]
    seed: int


Draw = Callable[[Context], Tensor]
"""From a context to the elements at its targets, ``[B, len(targets), *shape]``."""


def rollout(
    draw: Draw,
    values: Tensor,
    known: Tensor,
    *,
    positions: Sequence[int] | None = None,
    block: int = 1,
    window: int | None = None,
    causal: bool = True,
    seed: int = 0,
) -> Rollout:
    """Fill in what is not known, one block after the other, each drawn from what is known by then.

    Args:
        draw: the inner sampler.
        values: ``[B, L, *shape]``; entries that are not known may hold anything, NaN included.
        known: bool ``[B, L]``.
        positions: the positions to be filled, in ascending order; by default all. What is left out stays missing:
            a gap in the past can be filled first, or be left as a gap.
        block: positions drawn by one call; neighbours in ``positions`` only.
        window: how many positions before the block may be looked at; None for all of them.
        causal: look at nothing behind the block. False shows later known elements too (key frames). What is known
            within the block itself is always shown.
        seed: whole number.

    Raises:
        AnydiffError: shapes that do not fit, positions out of range or order, or a draw of another shape.
    """
    places = _positions(positions, values.shape[1]) if values.ndim > 1 else []
    blocks = [torch.tensor(list(targets)) for targets in _blocks(places, natural_number("block", block))]
    if window is not None:
        natural_number("window", window)
    return fill(_Function(draw, window, causal, seed), values, known, blocks)


@dataclass(frozen=True)
class _Function(Inner):
    """A plain function as an inner sampler: it remembers nothing and is shown what is known."""

    function: Draw
    window: int | None
    causal: bool
    seed: int

    def draw(self, group: Group) -> Drawn:
        """Call the function."""
        targets = range(int(group.positions[0]), int(group.positions[-1]) + 1)
        known = group.known[group.rows]
        visible = known & _visible(known.shape[1], targets, self.window, self.causal).to(known.device)
        shown = torch.where(like(visible, group.values), group.values[group.rows], 0)
        seed = derived_seed(self.seed, f"autoregressive/{targets.start}")
        return Drawn(self.function(Context(shown, visible, targets, group.rows.tolist(), seed)))


def _positions(positions: Sequence[int] | None, length: int) -> list[int]:
    if positions is None:
        return list(range(length))
    places = [natural_number("position", position, minimum=0) for position in positions]
    if places != sorted(set(places)) or (places and places[-1] >= length):
        raise AnydiffError(f"positions is {places}, but must ascend without repetition within 0 to {length - 1}.")
    return places


def _blocks(places: list[int], size: int) -> list[range]:
    """Runs of neighbouring positions, cut into blocks of at most ``size``."""
    blocks: list[range] = []
    for place in places:
        if blocks and blocks[-1].stop == place and len(blocks[-1]) < size:
            blocks[-1] = range(blocks[-1].start, place + 1)
        else:
            blocks.append(range(place, place + 1))
    return blocks


def _visible(length: int, targets: range, window: int | None, causal: bool) -> Tensor:
    """Which positions a block may look at: bool ``[L]``."""
    place = torch.arange(length)
    first = 0 if window is None else targets.start - natural_number("window", window)
    return (place >= first) & (place < targets.stop) if causal else place >= first
