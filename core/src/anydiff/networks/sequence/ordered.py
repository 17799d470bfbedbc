"""What every network with an order shares: tokens of positions, who sees whom, and the memory of finished positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError
from anydiff.networks.sequence.cache import KeyValues, Layout
from anydiff.networks.sequence.places import CLEAN, NOISED, Places, allowed
from anydiff.networks.sequence.trunk import BlockOptions, Sight, Trunk
from anydiff.states import Cut, Order


def cut_of(shape: Sequence[int], patch: int | Sequence[int]) -> Cut:
    """The cut of a state of ``shape`` by ``patch``.

    Args:
        shape: (n,) or (C, *spatial), or any other where ``patch`` has a size for each axis.
        patch: one size for all spatial axes, one for each, or one for each axis of the state.
    """
    axes = tuple(shape)
    sizes = (patch,) if isinstance(patch, int) else tuple(patch)
    if len(sizes) == len(axes):
        return Cut(axes, sizes)
    return Cut.patches(axes, sizes[0] if isinstance(patch, int) else sizes)


def rotary_base(axes: Sequence[int]) -> float:
    """ACDiT's base of the rotary positions: 100 (⌊8 n / 100 π⌋ + 1) for n positions along the longest axis."""
    return 100.0 * (math.floor(8 * max(axes) / (100 * math.pi)) + 1)


class OrderedTrunk(nn.Module):
    """A trunk over clean and noised tokens of the positions of an order.

    In training both copies of all positions stand in one call; in sampling the clean ones are remembered. Both give the
    same numbers, since both ask :func:`~anydiff.networks.sequence.places.allowed` who sees whom.

    Args:
        order: of the positions; shared by all samples.
        blocks: transformer blocks.
        options: of each block.

    Raises:
        AnydiffError: an order that differs between samples.
    """

    turns: Tensor

    def __init__(self, order: Order, blocks: int, options: BlockOptions) -> None:
        super().__init__()
        if not order.shared:
            raise AnydiffError("the order differs between samples, but this network is trained in one; share it.")
        self.order, self.options = order, options
        axes = order.cut.axes
        self.trunk = Trunk(axes, blocks, options, rotary_base(axes))
        self.register_buffer("turns", torch.tensor(order.turns), persistent=False)
        noised = Places.of(self.turns, NOISED)
        both = Places.of(self.turns, CLEAN).then(noised)
        self.register_buffer("_alone", allowed(noised, noised), persistent=False)
        self.register_buffer("_both", allowed(both, both, order.window), persistent=False)

    def forward(self, noised: Tensor, vector: Tensor, clean: Tensor | None = None) -> Tensor:
        """Features ``[B, L, width]`` of the noised tokens of all positions, in one call.

        Args:
            noised: ``[B, L, width]``.
            vector: what modulates them, ``[B, L, width]``.
            clean: the clean tokens beside them; without any each turn is seen alone.
        """
        length = noised.shape[1]
        if clean is None:
            mask = self.get_buffer("_alone") if self.order.count > 1 else None
            return self.trunk(noised, vector, None, Sight(mask), torch.arange(length, device=noised.device))  # type: ignore[no-any-return]
        sight = Sight(self.get_buffer("_both"), bare=length)
        places = torch.arange(length, device=noised.device).repeat(2)
        features: Tensor = self.trunk(torch.cat([clean, noised], dim=1), vector, None, sight, places)
        return features[:, length:]

    def recall(self, noised: Tensor, vector: Tensor, memory: KeyValues, positions: Tensor, turn: int) -> Tensor:
        """Features ``[copies B, m, width]`` of the noised tokens at ``positions``, given what is remembered.

        Raises:
            AnydiffError: a memory of another number of rows or another type.
        """
        copies, rest = divmod(len(noised), memory.rows)
        if rest or memory.keys.dtype != noised.dtype or memory.layout != self._layout:
            raise AnydiffError(
                f"the call has {len(noised)} rows of {noised.dtype}, but the memory was made for {memory.rows} rows of "
                f"{memory.keys.dtype} and perhaps another network; make one by this network's new_memory."
            )
        tokens = noised.shape[1]
        most = max(memory.layout.lent // tokens, 1)
        if copies > most:  # more copies than slots are lent to: some of them at a time
            parts = [slice(at * memory.rows, (at + most) * memory.rows) for at in range(0, copies, most)]
            made = [self.recall(noised[part], vector[part], memory, positions, turn) for part in parts]
            return torch.cat(made)
        memory.room(copies * tokens)
        mask = self._mask(memory, positions, turn, copies)
        places = positions if positions.ndim == 1 else positions.repeat(copies, 1)
        return self.trunk(noised, vector, None, Sight(mask, 0, memory, copies), places)  # type: ignore[no-any-return]

    def remember(self, clean: Tensor, memory: KeyValues, positions: Tensor, turn: int) -> None:
        """Write finished tokens ``[B, m, width]`` into ``memory``; nothing modulates them."""
        memory.room(clean.shape[1])
        mask = self._mask(memory, positions, turn, 1, CLEAN)
        self.trunk(clean, None, None, Sight(mask, clean.shape[1], memory), positions)
        memory.count(self.turns[positions])

    def new_memory(self, rows: int, like: Tensor) -> KeyValues:
        """An empty memory, of the type of the network's weights."""
        weight = next(self.trunk.parameters())
        return KeyValues(self._layout, rows, like.new_empty(0, dtype=weight.dtype))

    @property
    def _layout(self) -> Layout:
        order, options = self.order, self.options
        together = max(order.sizes)
        kept = order.length if order.window is None else min(order.window * together, order.length)
        return Layout(len(self.trunk.blocks), options.heads, options.width // options.heads, kept, 2 * together)

    def _mask(self, memory: KeyValues, positions: Tensor, turn: int, copies: int, role: int = NOISED) -> Tensor | None:
        """Who may look at whom in a call on a memory; None where all may."""
        count, kept = positions.shape[-1], memory.kept
        own = torch.full((copies * count,), turn, device=positions.device)
        segment = torch.arange(copies, device=positions.device).repeat_interleave(count)
        place = torch.zeros_like(own)
        query = Places(own, torch.full_like(own, role), place, segment)
        if copies == 1 and self.order.window is None:
            return None  # all that is remembered lies before this turn
        past = Places.of(memory.turns[0, kept], CLEAN)
        return allowed(query, past.then(query), self.order.window)
