"""The trunk of all token networks: transformer blocks with rotary positions over one axis or two.

Pre-norm blocks as in RADD (Ou et al. 2024, arXiv:2406.03736) and DiT; positions are rotations of queries and keys (Su
et al. 2021, arXiv:2104.09864), each axis of a grid in its own share of the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks.layers import attention_heads, probability, zero_initialised


def rotations(sizes: Sequence[int], channels: int) -> Tensor:
    """Angles of the rotations at each position: ``[prod(sizes), channels / 2]``, float32, an equal share per axis.

    Frequencies are geometric from 1 to 10^-4 radians per position.
    """
    pairs = channels // 2 // len(sizes)
    frequencies = 10000.0 ** -(torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in sizes), indexing="ij")
    angles = torch.cat([axis.reshape(-1, 1) * frequencies for axis in axes], dim=1)
    return functional.pad(angles, (0, channels // 2 - angles.shape[1])).float()


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``x [B, heads, N, channels]`` with its pairs of channels (c, c + channels/2) turned by the angles ``[N, c]``."""
    one, two = x.chunk(2, dim=-1)
    return torch.cat([one * cosine - two * sine, one * sine + two * cosine], dim=-1)


class Attention(nn.Module):
    """Multi-head attention over tokens ``[B, N, C]`` with rotary positions, or over a context ``[B, M, C]`` without."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, context: Tensor | None = None) -> Tensor:
        """Attend from ``x`` to itself, or to ``context``."""
        seen = x if context is None else context
        query = self._split(self.query(x))
        key, value = (self._split(part) for part in self.key_value(seen).chunk(2, dim=-1))
        if angles is not None:
            query, key = rotated(query, *angles), rotated(key, *angles)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.project(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


@dataclass(frozen=True)
class BlockOptions:
    """What a block is.

    Attributes:
        width: channels per token.
        heads: attention heads; must divide ``width`` into an even number of channels.
        expansion: hidden size of the MLP in units of ``width``.
        dropout: probability in [0, 1).
        causal: whether a token sees only those before it (in order of rows) and itself.
        modulated: whether a vector per sample is read.
        crossed: whether a context is read by cross-attention.

    Raises:
        AnydiffError: an option out of range.
    """

    width: int
    heads: int
    expansion: int = 4
    dropout: float = 0.0
    causal: bool = False
    modulated: bool = False
    crossed: bool = False

    def __post_init__(self) -> None:
        attention_heads("heads", natural_number("width", self.width), self.heads)
        if (self.width // self.heads) % 2:
            raise AnydiffError(
                f"width {self.width} over {self.heads} heads is {self.width // self.heads} channels a head, but rotary "
                "positions need an even number; change width or heads."
            )
        probability("dropout", self.dropout)
        natural_number("expansion", self.expansion)


class Block(nn.Module):
    """Attention, cross-attention where there is a context, and an MLP.

    Where ``modulated``, a vector per sample shifts and scales what each part reads and gates what it adds (adaLN-zero).
    """

    def __init__(self, options: BlockOptions) -> None:
        super().__init__()
        width, modulated, crossed = options.width, options.modulated, options.crossed
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.attention = Attention(width, options.heads, options.causal)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.entry = nn.Linear(width, options.expansion * width)
        self.dropout = nn.Dropout(options.dropout)
        self.exit = nn.Linear(options.expansion * width, width)
        self.modulation = zero_initialised(nn.Linear(width, 6 * width)) if modulated else None
        self.norm_cross = nn.LayerNorm(width) if crossed else None
        self.cross = Attention(width, options.heads) if crossed else None

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], vector: Tensor | None, context: Tensor | None
    ) -> Tensor:
        """Tokens ``[B, N, width]`` after the block."""
        if self.modulation is None or vector is None:
            x = x + self.dropout(self.attention(self.norm_attention(x), angles))
            x = self._crossed(x, context)
            plain: Tensor = x + self._mlp(self.norm_mlp(x))
            return plain
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = self.modulation(vector)[:, None].chunk(6, dim=-1)
        x = x + gate_a * self.attention(self.norm_attention(x) * (1 + scale_a) + shift_a, angles)
        x = self._crossed(x, context)
        out: Tensor = x + gate_m * self._mlp(self.norm_mlp(x) * (1 + scale_m) + shift_m)
        return out

    def _crossed(self, x: Tensor, context: Tensor | None) -> Tensor:
        if self.cross is None or self.norm_cross is None or context is None:
            return x
        crossed: Tensor = self.cross(self.norm_cross(x), None, context)
        return x + crossed

    def _mlp(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.exit(functional.gelu(self.entry(x), approximate="tanh"))
        dropped: Tensor = self.dropout(hidden)
        return dropped


class Trunk(nn.Module):
    """Blocks over tokens ``[B, N, width]``, N = prod(sizes).

    Args:
        sizes: of the axes, one or two.
        blocks: number of blocks.
        options: of each block.

    Raises:
        AnydiffError: ``blocks`` out of range.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, sizes: Sequence[int], blocks: int, options: BlockOptions) -> None:
        super().__init__()
        angles = rotations(sizes, options.width // options.heads)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self.blocks = nn.ModuleList(Block(options) for _ in range(natural_number("blocks", blocks)))
        self.norm = nn.LayerNorm(options.width)

    def forward(self, x: Tensor, vector: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Features ``[B, N, width]``, normalised; ``vector [B, width]`` and ``context [B, M, width]`` where read."""
        count = x.shape[1]
        angles = (self.cosine[:count].to(x.dtype), self.sine[:count].to(x.dtype))
        for block in self.blocks:
            x = block(x, angles, vector, context)
        return self.norm(x)  # type: ignore[no-any-return]
