"""The trunk of all token networks: transformer blocks with rotary positions over one axis or two.

Pre-norm blocks as in RADD (Ou et al. 2024, arXiv:2406.03736) and DiT; positions are rotations of queries and keys (Su
et al. 2021, arXiv:2104.09864), each axis of a grid in its own share of the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks.layers import attention_heads, probability, zero_initialised
from anydiff.networks.sequence.cache import KeyValues


def rotations(sizes: Sequence[int], channels: int, base: float = 10000.0) -> Tensor:
    """Angles of the rotations at each position: ``[prod(sizes), channels / 2]``, float32, an equal share per axis.

    Frequencies are geometric from 1 to 1/``base`` radians per position.
    """
    pairs = channels // 2 // len(sizes)
    frequencies = base ** -(torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in sizes), indexing="ij")
    angles = torch.cat([axis.reshape(-1, 1) * frequencies for axis in axes], dim=1)
    return functional.pad(angles, (0, channels // 2 - angles.shape[1])).float()


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``x [B, heads, N, channels]`` with its pairs of channels (c, c + channels/2) turned by angles ``[N, c]``, or
    ``[B, 1, N, c]`` where each row has positions of its own."""
    one, two = x.chunk(2, dim=-1)
    return torch.cat([one * cosine - two * sine, one * sine + two * cosine], dim=-1)


@dataclass(frozen=True)
class Sight:
    """What the tokens of a call may look at, where that is not simply each other.

    Attributes:
        mask: bool ``[N, M]`` or ``[B, 1, N, M]`` (M: what is remembered, then the tokens themselves); None for all.
        bare: so many tokens at the front are clean: nothing modulates them.
        memory: what is remembered; the layers read it and lay their own keys behind it.
        copies: so many copies of the memory's rows the call holds, one after the other; all read one memory.
    """

    mask: Tensor | None = None
    bare: int = 0
    memory: KeyValues | None = None
    copies: int = 1


class Attention(nn.Module):
    """Multi-head attention over tokens ``[B, N, C]`` with rotary positions, or over a context ``[B, M, C]`` without."""

    def __init__(self, width: int, heads: int, causal: bool = False, normed: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.norm_query = nn.RMSNorm(width // heads) if normed else None
        self.norm_key = nn.RMSNorm(width // heads) if normed else None

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, context: Tensor | None = None,
        sight: Sight | None = None, layer: int = 0,
    ) -> Tensor:  # fmt: skip
        """Attend from ``x`` to itself, to ``context``, or to what ``sight`` says; ``layer`` is this layer's number."""
        seen = x if context is None else context
        query = self._split(self.query(x))
        key, value = (self._split(part) for part in self.key_value(seen).chunk(2, dim=-1))
        if self.norm_query is not None and self.norm_key is not None:
            query, key = self.norm_query(query), self.norm_key(key)
        if angles is not None:
            query, key = rotated(query, *angles), rotated(key, *angles)
        if sight is not None:
            return self.project(self._seeing(query, key, value, sight, layer).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.project(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    @staticmethod
    def _seeing(query: Tensor, key: Tensor, value: Tensor, sight: Sight, layer: int) -> Tensor:
        """Copies of a row are laid side by side as more tokens, so that they read the row's memory where it lies."""
        tokens = query.shape[2]
        if sight.copies > 1:
            query, key, value = (_side_by_side(each, sight.copies) for each in (query, key, value))
        if sight.memory is not None:
            key, value = sight.memory.read(layer, key, value)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=sight.mask)
        if sight.copies == 1:
            return mixed
        rows, heads, _, channels = mixed.shape
        apart = mixed.reshape(rows, heads, sight.copies, tokens, channels).permute(2, 0, 1, 3, 4)
        return apart.reshape(-1, heads, tokens, channels)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _side_by_side(x: Tensor, copies: int) -> Tensor:
    """``[copies rows, heads, N, channels]`` as ``[rows, heads, copies N, channels]``."""
    apart = x.reshape(copies, -1, *x.shape[1:]).permute(1, 2, 0, 3, 4)
    return apart.reshape(*apart.shape[:2], -1, x.shape[-1])


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
        normed: whether queries and keys are normalised (RMS, per head).

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
    normed: bool = False

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
        self.attention = Attention(width, options.heads, options.causal, options.normed)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.entry = nn.Linear(width, options.expansion * width)
        self.dropout = nn.Dropout(options.dropout)
        self.exit = nn.Linear(options.expansion * width, width)
        self.modulation = zero_initialised(nn.Linear(width, 6 * width)) if modulated else None
        self.norm_cross = nn.LayerNorm(width) if crossed else None
        self.cross = Attention(width, options.heads) if crossed else None

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], vector: Tensor | None, context: Tensor | None,
        sight: Sight | None = None, layer: int = 0,
    ) -> Tensor:  # fmt: skip
        """Tokens ``[B, N, width]`` after the block; ``vector`` is one per sample or per token that is not bare."""
        if self.modulation is not None and vector is not None and vector.ndim > 2:
            return self._per_token(x, angles, vector, sight, layer)
        if self.modulation is None or vector is None:
            x = x + self.dropout(self.attention(self.norm_attention(x), angles, None, sight, layer))
            x = self._crossed(x, context)
            plain: Tensor = x + self._mlp(self.norm_mlp(x))
            return plain
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = self.modulation(vector)[:, None].chunk(6, dim=-1)
        x = x + gate_a * self.attention(self.norm_attention(x) * (1 + scale_a) + shift_a, angles)
        x = self._crossed(x, context)
        out: Tensor = x + gate_m * self._mlp(self.norm_mlp(x) * (1 + scale_m) + shift_m)
        return out

    def _per_token(
        self, x: Tensor, angles: tuple[Tensor, Tensor], vector: Tensor, sight: Sight | None, layer: int
    ) -> Tensor:
        """As :meth:`forward`, where each token behind the bare ones is modulated by a vector of its own."""
        assert self.modulation is not None
        bare = 0 if sight is None else sight.bare
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = self.modulation(vector).chunk(6, dim=-1)
        read = _from(bare, self.norm_attention(x), lambda told: told * (1 + scale_a) + shift_a)
        x = x + _from(bare, self.attention(read, angles, None, sight, layer), lambda told: gate_a * told)
        read = _from(bare, self.norm_mlp(x), lambda told: told * (1 + scale_m) + shift_m)
        out: Tensor = x + _from(bare, self._mlp(read), lambda told: gate_m * told)
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


def _from(bare: int, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """``x`` with ``change`` applied to the tokens behind the first ``bare`` ones."""
    return torch.cat([x[:, :bare], change(x[:, bare:])], dim=1) if bare else change(x)


class Trunk(nn.Module):
    """Blocks over tokens ``[B, N, width]``, N = prod(sizes).

    Args:
        sizes: of the axes, one or two.
        blocks: number of blocks.
        options: of each block.
        base: of the rotary positions, see :func:`rotations`.

    Raises:
        AnydiffError: ``blocks`` out of range.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, sizes: Sequence[int], blocks: int, options: BlockOptions, base: float = 10000.0) -> None:
        super().__init__()
        angles = rotations(sizes, options.width // options.heads, base)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self.blocks = nn.ModuleList(Block(options) for _ in range(natural_number("blocks", blocks)))
        self.norm = nn.LayerNorm(options.width)

    def forward(
        self, x: Tensor, vector: Tensor | None = None, context: Tensor | None = None,
        sight: Sight | None = None, positions: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Features ``[B, N, width]``, normalised; ``vector [B, width]`` and ``context [B, M, width]`` where read.

        Args:
            x: tokens ``[B, N, width]``.
            vector: what modulates them, ``[B, width]``, or ``[B, n, width]`` for the last n tokens alone.
            context: what is read by cross-attention.
            sight: what tokens may look at; each other where it is None.
            positions: int64 ``[N]`` or ``[B, N]``: where each token stands; 0 to N - 1 where they are not given.
        """
        places = slice(x.shape[1]) if positions is None else positions
        angles = (self.cosine[places].to(x.dtype), self.sine[places].to(x.dtype))
        if positions is not None and positions.ndim > 1:
            angles = (angles[0][:, None], angles[1][:, None])
        for layer, block in enumerate(self.blocks):
            x = block(x, angles, vector, context, sight, layer)
        return self.norm(x)  # type: ignore[no-any-return]
