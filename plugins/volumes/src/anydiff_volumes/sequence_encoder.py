"""The encoder of a sequence with gaps: patches of all frames, and one token more per patch for the target.

What it computes is told in :mod:`anydiff_volumes.networks`, which puts its map beside the state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import natural_number
from anydiff.networks.layers import (
    attention_heads,
    crop,
    depth_to_space,
    pad_to_multiple,
    space_to_depth,
    zero_initialised,
)
from anydiff_volumes.extrapolation import interpolation, last_frame

PATCH = 8
FINE = 4
HEAD_WIDTH = 16
_FREQUENCIES = 8


class TimeEmbedding(nn.Module):
    """Fourier features of a difference of times in [-1, 1], then a linear layer: ``[...] -> [..., width]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * _FREQUENCIES, width)
        frequencies = math.pi * 2 ** torch.linspace(-1, 4, _FREQUENCIES)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, difference: Tensor) -> Tensor:
        """Embed every number of ``difference``."""
        angles = difference[..., None] * self.get_buffer("frequencies")
        embedded: Tensor = self.linear(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return embedded


class MaskedBlock(nn.Module):
    """A transformer block whose attention looks at unmasked tokens alone: ``[B, N, W]`` and bool ``[B, N]``.

    Softmax attention averages; that of its weights without softmax, (q·k)/√d, may be negative, so that a difference of
    two moments is one round of it. Both are added.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.project = nn.Linear(width, 5 * width), nn.Linear(2 * width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """One round of attention and feed-forward, both residual."""
        batch, count, width = tokens.shape
        mixed = self.mix(self.norm_attention(tokens)).reshape(batch, count, 5, self.heads, -1)
        query, key, value, signed_query, signed_key = mixed.permute(2, 0, 3, 1, 4)
        averaged = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None, :])
        seen = visible[:, None, :, None] / visible.sum(dim=1).clamp_min(1)[:, None, None, None]
        signed = signed_query @ ((signed_key * seen).transpose(2, 3) @ value) / (width // self.heads) ** 0.5
        attended = torch.cat([averaged, signed], dim=-1).transpose(1, 2).reshape(batch, count, 2 * width)
        tokens = tokens + self.project(attended)
        return tokens + self.feed(self.norm_feed(tokens))  # type: ignore[no-any-return]


class SequenceEncoder(nn.Module):
    """From frames with gaps to one map: ``[B, T, X, Y, Z] -> [B, changes + channels, X, Y, Z]``; see the module.

    Args:
        frames: T.
        shape: ``(X, Y, Z)``.
        channels: that the target's tokens are spread out to.
        changes: heads of the attention over time, each a change of the latest frame.
        width: of the tokens.
        layers: transformer blocks over (frame, patch) tokens.
        heads: attention heads over tokens.
    """

    def __init__(
        self,
        frames: int,
        shape: Sequence[int],
        *,
        channels: int = 4,
        changes: int = 4,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        attention_heads("heads", natural_number("width", width), heads)
        self.shape = tuple(shape)
        self.frames, self.changes = natural_number("frames", frames), natural_number("changes", changes)
        self.coarse = [-(-size // PATCH) for size in self.shape]
        patches = math.prod(self.coarse)
        # A frame, and how it differs from the latest: a motion is easier to see in a difference.
        self.embed = nn.Linear(2 * PATCH**3, width)
        self.place = nn.Parameter(torch.randn(patches, width) * 0.02)
        self.target = nn.Parameter(torch.randn(width) * 0.02)
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(MaskedBlock(width, heads) for _ in range(natural_number("layers", layers)))
        self.norm = nn.LayerNorm(width)
        # Weights that start at zero: an untrained encoder changes nothing.
        self.query = zero_initialised(nn.Linear(width, changes * HEAD_WIDTH))
        self.key = nn.Linear(width, changes * HEAD_WIDTH)
        self.gate = zero_initialised(nn.Linear(width, changes))
        self.exit = nn.Linear(width, natural_number("channels", channels) * FINE**3)

    def forward(self, frames: Tensor, seen: Tensor, since: Tensor) -> Tensor:
        """The map ``[B, changes + channels, *shape]``.

        Args:
            frames: ``[B, T, *shape]``; whatever stands in frames that are not seen has no influence.
            seen: bool ``[B, T]``.
            since: each frame's time minus the target's ``[B, T]``.
        """
        visible = seen[:, :, None, None, None]
        frames = torch.where(visible, frames, 0)
        latest, line = known_estimates(frames, seen, since)
        differences = torch.where(visible, frames - latest[:, None], 0)
        tokens = self._tokens(frames, differences, seen, self.time(torch.where(seen, since, 0)))
        asked = tokens[:, -1].transpose(1, 2).reshape(len(frames), -1, *self.coarse)
        asked = functional.interpolate(asked, scale_factor=PATCH // FINE, mode="trilinear")
        spread = depth_to_space(self.exit(asked.movedim(1, -1)).movedim(-1, 1), FINE)
        differences = torch.cat([differences, (line - latest)[:, None]], dim=1)
        return torch.cat([self._changes(tokens, differences, seen), crop(spread, self.shape)], dim=1)

    def _tokens(self, frames: Tensor, differences: Tensor, seen: Tensor, moments: Tensor) -> Tensor:
        """What the transformer says of each patch of every frame and, last, of the target: ``[B, T + 1, N, W]``."""
        batch, count = seen.shape[0], len(self.place)
        both = torch.stack([frames, differences], dim=2).flatten(0, 1)
        patches = space_to_depth(pad_to_multiple(both, PATCH), PATCH).flatten(2).transpose(1, 2)
        tokens = self.embed(patches).reshape(batch, self.frames, count, -1) + self.place + moments[:, :, None]
        asked = (self.place + self.target).expand(batch, 1, -1, -1)
        everything = torch.cat([tokens, asked], dim=1).flatten(1, 2)
        visible = functional.pad(seen, (0, 1), value=True).repeat_interleave(count, dim=1)
        for block in self.blocks:
            everything = block(everything, visible)
        normed: Tensor = self.norm(everything)
        return normed.reshape(batch, self.frames + 1, count, -1)

    def _changes(self, tokens: Tensor, differences: Tensor, seen: Tensor) -> Tensor:
        """Σ_t w_t(x) (f_t - f_latest)(x) for every head, ``[B, changes, *shape]``; the last of t is the line."""
        batch, _, count, _ = tokens.shape
        query = self.query(tokens[:, -1]).reshape(batch, 1, count, self.changes, HEAD_WIDTH)
        key = self.key(tokens[:, :-1]).reshape(batch, self.frames, count, self.changes, HEAD_WIDTH)
        weights = (query * key).sum(dim=-1) / math.sqrt(HEAD_WIDTH) * seen[:, :, None, None]
        weights = torch.cat([weights, self.gate(tokens[:, -1])[:, None]], dim=1)
        weights = weights.permute(0, 3, 1, 2).reshape(batch, -1, *self.coarse)
        smooth = _spread(weights, self.shape)
        return (smooth.reshape(batch, self.changes, -1, *self.shape) * differences[:, None]).sum(dim=2)


def _spread(x: Tensor, shape: Sequence[int]) -> Tensor:
    """From patches to voxels by linear interpolation along each axis, ``[B, C, *coarse] -> [B, C, *shape]``.

    As ``functional.interpolate``, but by products with small matrices, which took a CPU a quarter of the time.
    """
    for size in shape:
        count = x.shape[2]
        unit = torch.eye(count, dtype=x.dtype, device=x.device)[None]
        matrix = functional.interpolate(unit, scale_factor=PATCH, mode="linear")[0, :, :size]
        # The first axis goes to the end: after three rounds they stand as they did.
        x = x.movedim(2, -1) @ matrix
    return x


def known_estimates(frames: Tensor, seen: Tensor, since: Tensor) -> tuple[Tensor, Tensor]:
    """What needs no network: the latest frame that is seen, and the straight line, each ``[B, X, Y, Z]``."""
    # Frames that are not seen may hold anything, NaN too.
    frames = torch.where(seen[:, :, None, None, None], frames, 0)
    now = since.new_zeros(len(since), 1)
    return last_frame(frames, seen, since, now), interpolation(frames, seen, since, now)
