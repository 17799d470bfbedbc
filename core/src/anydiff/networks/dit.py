"""Diffusion transformer with adaLN-zero (Peebles & Xie 2022, arXiv:2212.09748), for 1, 2 or 3 spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks.conditioning import ConditionEmbedding
from anydiff.networks.layers import (
    SelfAttention,
    attention_heads,
    check_input,
    crop,
    depth_to_space,
    in_full_precision,
    pad_to_multiple,
    probability,
    space_to_depth,
    spatial_shape,
    zero_initialised,
)
from anydiff.states import UNCONDITIONAL, Condition, Conditioning

if TYPE_CHECKING:
    from anydiff.states import StateSpec


def position_embedding(sizes: Sequence[int], width: int) -> Tensor:
    """Sines and cosines of the coordinates, an equal share of ``width`` per axis: [prod(sizes), width], float32.

    Frequencies are geometric from 1 to 10^-4 (Vaswani et al. 2017, arXiv:1706.03762); columns left over are zero.
    """
    pairs = width // (2 * len(sizes))
    frequencies = 10000.0 ** -(torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in sizes), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in axes]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return functional.pad(table, (0, width - table.shape[1])).float()


def _modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class _Block(nn.Module):
    """Attention and MLP, each x + gate ⊙ f((1 + scale) ⊙ norm(x) + shift); the gates are zero at the start."""

    def __init__(self, width: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.entry = nn.Linear(width, expansion * width)
        self.dropout = nn.Dropout(dropout)
        self.exit = nn.Linear(expansion * width, width)
        self.modulation = zero_initialised(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = self.modulation(embedding).chunk(6, dim=1)
        x = torch.addcmul(x, gate_a[:, None], self.attention(_modulate(self.norm_attention(x), scale_a, shift_a)))
        inner = functional.gelu(self.entry(_modulate(self.norm_mlp(x), scale_m, shift_m)), approximate="tanh")
        return torch.addcmul(x, gate_m[:, None], self.exit(self.dropout(inner)))


class DiT(nn.Module):
    """Transformer over patches: ``[B, C, *spatial] -> [B, C, *spatial]`` with 1, 2 or 3 spatial axes.

    Sizes that ``patch_size`` does not divide are padded with zeros inside and cropped.

    Args:
        spec: the state, of shape (C, *spatial).
        conditions: name -> condition, see :mod:`anydiff.states.conditions`.
        width: channels per token.
        blocks: number of transformer blocks.
        heads: attention heads; must divide ``width``.
        patch_size: side of the patches that become tokens.
        expansion: hidden size of the MLP in units of ``width``.
        dropout: probability inside each block's MLP, in [0, 1).
        told: how many numbers the path tells of the time (:attr:`anydiff.paths.LinearPath.told_size`); set by the core.

    The output layer starts at zero, so an untrained network predicts zero.

    Raises:
        AnydiffError: an option out of range, or a state that is not (C, *spatial).
    """

    positions: Tensor

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        width: int = 128,
        blocks: int = 6,
        heads: int = 4,
        patch_size: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        told: int = 0,
    ) -> None:
        super().__init__()
        attention_heads("heads", natural_number("width", width), heads)
        natural_number("blocks", blocks)
        natural_number("patch_size", patch_size)
        natural_number("expansion", expansion)
        probability("dropout", dropout)
        channels, sizes = spatial_shape("dit", spec)
        if width < 2 * len(sizes):
            raise AnydiffError(f"width is {width}, but must be at least {2 * len(sizes)} to tell positions apart.")
        self.shape, self.width = (channels, *sizes), width
        self.patch_size = patch_size
        self.conditioning = ConditionEmbedding(conditions or {}, width, told)
        patched = channels * patch_size ** len(sizes)
        self.entry = nn.Linear(patched, width)
        self.register_buffer(
            "positions", position_embedding([math.ceil(size / patch_size) for size in sizes], width), persistent=False
        )
        self.blocks = nn.ModuleList(_Block(width, heads, expansion, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = zero_initialised(nn.Linear(width, 2 * width))
        self.exit = zero_initialised(nn.Linear(width, patched))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction [B, C, *spatial], in the dtype of ``x``, from the scaled state and λ [B]."""
        return self.read(self.features(x, log_snr, condition), x, self.exit)

    def features(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """What the last layer reads, ``[B, patches, width]``; arguments as for :meth:`forward`."""
        check_input(x, self.shape)
        embedding = self.conditioning(log_snr, x.shape[0], condition)
        patches = space_to_depth(pad_to_multiple(x, self.patch_size), self.patch_size)
        tokens = self.entry(patches.flatten(2).transpose(1, 2).to(self.entry.weight.dtype)) + self.positions
        for block in self.blocks:
            tokens = block(tokens, embedding)
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        return _modulate(self.norm(tokens), scale, shift)

    def read(self, features: Tensor, x: Tensor, exit: nn.Module) -> Tensor:
        """A prediction like the state ``x`` from the features, by a last layer."""
        predicted = in_full_precision(exit, features)
        patches = [math.ceil(size / self.patch_size) for size in x.shape[2:]]
        grid = predicted.transpose(1, 2).reshape(x.shape[0], predicted.shape[2], *patches)
        return crop(depth_to_space(grid, self.patch_size), x.shape[2:]).to(x.dtype)

    def pooled(self, features: Tensor) -> Tensor:
        """One vector per sample, ``[B, width]``: the mean over all patches."""
        return features.mean(1)
