"""ACDiT (Hu et al. 2024, arXiv:2412.07720): blocks of positions, each diffused given the clean ones before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks.conditioning import ConditionEmbedding
from anydiff.networks.layers import in_full_precision, zero_initialised
from anydiff.networks.sequence.cache import KeyValues
from anydiff.networks.sequence.ordered import OrderedTrunk, cut_of
from anydiff.networks.sequence.trunk import BlockOptions
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, Order

if TYPE_CHECKING:
    from anydiff.states import StateSpec


class ACDiT(nn.Module):
    """Transformer over clean and noised copies of the positions of a state.

    A noised position sees the clean ones of the blocks before and the noised ones of its own block. Noise level and
    conditions modulate noised tokens alone (adaLN-zero), so what is remembered of clean ones depends on neither, and
    the two halves of a guided call read one memory. One block is a plain diffusion transformer, blocks of one position
    are an autoregressive model with a diffusion for each.

    Args:
        spec: the state, of shape (n,) or (C, *spatial) with 1 to 3 spatial axes.
        conditions: name -> condition, see :mod:`anydiff.states.conditions`.
        patch: side of the patches that become positions, or one size per axis.
        block: positions that are drawn together, a run in order of rows.
        window: how many blocks back a position looks; None for all.
        width: channels per token.
        blocks: number of transformer blocks.
        heads: attention heads; must divide ``width``.
        expansion: hidden size of the MLP in units of ``width``.
        dropout: probability inside each block's MLP, in [0, 1).
        told: how many numbers the path tells of the time; set by the core.

    Attributes:
        order: in which blocks the positions are drawn.

    The output layer starts at zero, so an untrained network predicts zero.

    Raises:
        AnydiffError: an option out of range, a patch or block that does not divide, or a state of several leaves.
    """

    remembered_conditions: tuple[str, ...] = ()

    def __init__(
        self, spec: StateSpec, conditions: Mapping[str, Condition] | None = None, *, patch: int | Sequence[int] = 1,
        block: int = 1, window: int | None = None, width: int = 128, blocks: int = 4, heads: int = 4,
        expansion: int = 4, dropout: float = 0.0, told: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        spec.require_continuous("the network 'acdit'")
        if len(spec.leaves) > 1:
            raise AnydiffError(
                f"the network 'acdit' cuts one leaf into positions, but the state has {', '.join(spec.names)}; choose "
                "another network."
            )
        cut = cut_of(spec.shape, patch)
        self.order = Order.blocks(cut, block, window)
        self.shape = tuple(spec.shape)
        size = int(torch.Size(cut.element).numel())
        self.conditioning = ConditionEmbedding(conditions or {}, natural_number("width", width), told, True)
        self.entry = nn.Linear(size, width)
        options = BlockOptions(width, heads, expansion, dropout, modulated=True, normed=True)
        self.trunk = OrderedTrunk(self.order, blocks, options)
        self.modulation = zero_initialised(nn.Linear(width, 2 * width))
        self.exit = zero_initialised(nn.Linear(width, size))

    def forward(
        self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL, *,
        memory: KeyValues | None = None, positions: Tensor | None = None, turn: int = 0,
    ) -> Tensor:  # fmt: skip
        """The native prediction, of the shape of ``x``.

        Args:
            x: scaled noised positions ``[B, L, *element]``, or the state ``[B, *shape]`` that they are cut from; with a
                memory the positions of one turn, ``[B, m, *element]``.
            log_snr: what is told of the time, ``[B]`` or ``[B, L]``.
            condition: its ``context`` holds the clean positions, which those of later blocks see.
            memory: what is remembered, in place of a context.
            positions: int64 ``[m]``, which ones ``x`` holds, where there is a memory.
            turn: the block they belong to.

        Raises:
            AnydiffError: a state of another shape.
        """
        cut, whole = self.order.cut, tuple(x.shape[1:]) == self.shape
        if memory is None and whole:
            return cut.join(self.forward(cut.split(x), log_snr, condition))
        count = cut.length if memory is None or positions is None else positions.shape[-1]
        if tuple(x.shape[1:]) != (count, *cut.element):
            raise AnydiffError(
                f"the state has shape {tuple(x.shape)}, but the network expects {count} positions [B, {count}, "
                f"{', '.join(map(str, cut.element))}]."
            )
        vector = self.conditioning(log_snr, len(x), condition)
        vector = vector if vector.ndim > 2 else vector[:, None].expand(-1, count, -1)
        tokens = self._tokens(x)
        if memory is None or positions is None:
            clean = None if condition.context is None else self._tokens(condition.context)
            features = self.trunk(tokens, vector, clean)
        else:
            features = self.trunk.recall(tokens, vector, memory, positions, turn)
        scale, shift = self.modulation(vector).chunk(2, dim=-1)
        return in_full_precision(self.exit, features * (1 + scale) + shift).reshape(x.shape).to(x.dtype)

    def new_memory(self, rows: int, like: Tensor) -> KeyValues:
        """An empty memory for so many rows, on the device of ``like``."""
        return self.trunk.new_memory(rows, like)

    def remember(
        self, memory: KeyValues, values: Tensor, positions: Tensor, turn: int, condition: Conditioning
    ) -> None:
        """Write finished positions ``[B, m, *element]`` (at unit deviation) into ``memory``."""
        self.trunk.remember(self._tokens(values), memory, positions, turn)

    def _tokens(self, positions: Tensor) -> Tensor:
        tokens: Tensor = self.entry(positions.flatten(2).to(self.entry.weight.dtype))
        return tokens
