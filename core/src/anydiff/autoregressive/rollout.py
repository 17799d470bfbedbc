r"""The outer loop: p(x_1, …, x_L) = Π_b p(x_b | what is known before block b), block by block.

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


@dataclass(frozen=True)
class Rollout:
    """The finished sequences.

    Attributes:
        values: ``[B, L, *shape]``; zero where ``known`` is false.
        known: bool ``[B, L]``: given or drawn.
        drawn: bool ``[B, L]``: drawn by the loop.
    """

    values: Tensor
    known: Tensor
    drawn: Tensor


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
    values, known = _checked(values, known)
    places = _positions(positions, values.shape[1])
    drawn = torch.zeros_like(known)
    for targets in _blocks(places, natural_number("block", block)):
        here = slice(targets.start, targets.stop)
        rows = (~known[:, here]).any(dim=1).nonzero().flatten()
        if not len(rows):
            continue
        visible = known[rows] & _visible(values.shape[1], targets, window, causal).to(known.device)
        shown = torch.where(_like(visible, values), values[rows], 0)
        block_seed = derived_seed(seed, f"autoregressive/{targets.start}")
        made = draw(Context(shown, visible, targets, rows.tolist(), block_seed))
        if made.shape != values[rows][:, here].shape:
            raise AnydiffError(
                f"the inner sampler gave {tuple(made.shape)} for positions {targets.start} to {targets.stop - 1}, but "
                f"they need {tuple(values[rows][:, here].shape)}."
            )
        missing = ~known[rows][:, here]
        values[rows, here] = torch.where(_like(missing, values), made.to(values.dtype), values[rows, here])
        drawn[rows, here] |= missing
        known[rows, here] = True
    return Rollout(values, known, drawn)


def _checked(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of both, with zeros where nothing is known."""
    if values.ndim < 2 or tuple(known.shape) != tuple(values.shape[:2]) or known.dtype != torch.bool:
        raise AnydiffError(
            f"known is {known.dtype} {tuple(known.shape)}, but must be torch.bool with one entry per row and position "
            f"of values, {tuple(values.shape[:2])}."
        )
    return torch.where(_like(known, values), values, 0), known.clone()


def _like(mask: Tensor, values: Tensor) -> Tensor:
    """``mask [B, L]`` with the axes of one element behind it."""
    return mask.reshape(*mask.shape, *[1] * (values.ndim - 2))


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
