"""U-Net for 1, 2 or 3 spatial dimensions, one class.

After Ronneberger et al. 2015 (arXiv:1505.04597) with the residual blocks, FiLM conditioning and attention of Dhariwal &
Nichol 2021 (arXiv:2105.05233), arranged for few cores: the state may enter as patches (space-to-depth), resolution
changes by non-overlapping 2-wide kernels, and skips are merged by a 1-wide convolution, so that 3-wide kernels never
see doubled channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.networks.conditioning import ConditionEmbedding, array_channels, split_conditions
from anydiff.networks.layers import (
    SelfAttention,
    attention_heads,
    check_input,
    crop,
    depth_to_space,
    group_norm,
    in_full_precision,
    pad_to_multiple,
    probability,
    space_to_depth,
    spatial_shape,
    whole_numbers,
    zero_initialised,
)
from anydiff.networks.wavelets import GatedDown, GatedUp, gated_groups
from anydiff.states import UNCONDITIONAL, ArrayCondition, Condition, Conditioning

if TYPE_CHECKING:
    from anydiff.states import StateSpec


RESAMPLING = ("strided", "gated-wavelets")


def _convolution(dimensions: int, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    return kind(inputs, outputs, kernel, stride=stride, padding=kernel // 2 if stride == 1 else 0)


class _Block(nn.Module):
    """x + conv(dropout(silu(FiLM(norm(conv(silu(norm(x)))))))), the second convolution zero at the start."""

    def __init__(self, dimensions: int, channels: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm_entry = group_norm(channels)
        self.entry = _convolution(dimensions, channels, channels, 3)
        self.film = nn.Linear(embedding, 2 * channels)
        self.norm_exit = group_norm(channels)
        self.dropout = nn.Dropout(dropout)
        self.exit = zero_initialised(_convolution(dimensions, channels, channels, 3))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.entry(functional.silu(self.norm_entry(x)))
        film = self.film(embedding)
        scale, shift = film.reshape(*film.shape, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        hidden = functional.silu(torch.addcmul(shift, self.norm_exit(hidden), 1 + scale))
        return x + self.exit(self.dropout(hidden))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """x + attention(norm(x)) over all positions."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attention = SelfAttention(channels, heads)
        zero_initialised(self.attention.project)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens).transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class _Stage(nn.Module):
    """A residual block, attention behind it where the level asks for it; in the decoder a skip is merged first."""

    def __init__(
        self, dimensions: int, channels: int, embedding: int, dropout: float, heads: int | None, merges: bool
    ) -> None:
        super().__init__()
        self.merge = _convolution(dimensions, 2 * channels, channels, 1) if merges else None
        self.block = _Block(dimensions, channels, embedding, dropout)
        self.attention = _Attention(channels, heads) if heads else None

    def forward(self, x: Tensor, embedding: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.merge is not None and skip is not None:
            x = self.merge(torch.cat([x, skip], dim=1))
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x)


def _array_channels(name: str, kind: ArrayCondition, sizes: tuple[int, ...]) -> int:
    """Input channels an array condition takes: its own and one that says where it is present."""
    if len(kind.shape) != len(sizes) + 1 or tuple(kind.shape[1:]) != tuple(sizes):
        raise AnydiffError(
            f"condition {name!r} has shape {kind.shape}, but a U-Net reads arrays of the state's own spatial shape "
            f"(channels, {', '.join(map(str, sizes))}); reshape or resample it."
        )
    return kind.shape[0] + 1


class UNet(nn.Module):
    """U-Net: ``[B, C, *spatial] -> [B, C, *spatial]`` with 1, 2 or 3 spatial axes, read from the state.

    Sizes that the down-sampling does not divide are padded with zeros inside and cropped.

    Args:
        spec: the state, of shape (C, *spatial).
        conditions: name -> condition, see :mod:`anydiff.states.conditions`. An array condition must have the
            state's spatial shape; it enters as further channels beside the state.
        channels: channels of the first level.
        multipliers: channels of each level, in units of ``channels``; their number is the number of levels.
        blocks: residual blocks per level, on the way down and again on the way up.
        attention_levels: levels (0 is the finest) whose blocks are followed by self-attention.
        heads: attention heads.
        patch_size: side of the patches that become channels at entry (1: none); cost falls with its d-th power.
        dropout: probability inside each block, in [0, 1).
        resampling: ``strided``, or ``gated-wavelets``: sub-bands weighted by what they hold and by the time
            (:mod:`anydiff.networks.wavelets`), for small networks.
        checkpointing: in training keep no activations inside the blocks, but compute them again for the gradient: the
            same numbers for about a third more time and a fraction of the memory.
        told: how many numbers the path tells of the time (:attr:`anydiff.paths.LinearPath.told_size`); set by the core.

    The output layer starts at zero, so an untrained network predicts zero.

    Raises:
        AnydiffError: an option out of range, or a state that is not (C, *spatial).
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        attention_levels: Sequence[int] = (),
        heads: int = 4,
        patch_size: int = 1,
        dropout: float = 0.0,
        resampling: str = "strided",
        checkpointing: bool = False,
        told: int = 0,
    ) -> None:
        super().__init__()
        natural_number("channels", channels)
        if resampling not in RESAMPLING:
            raise UnknownNameError("resampling", resampling, RESAMPLING)
        natural_number("blocks", blocks)
        natural_number("patch_size", patch_size)
        probability("dropout", dropout)
        widths = [channels * factor for factor in whole_numbers("multipliers", multipliers, 1)]
        if not widths:
            raise AnydiffError("multipliers is empty, but must name at least one level.")
        levels = whole_numbers("attention_levels", attention_levels, 0)
        for level in levels:
            if level >= len(widths):
                raise AnydiffError(f"attention_levels names level {level}, but the levels are 0 to {len(widths) - 1}.")
        heads_of = [attention_heads("heads", width, heads) if i in levels else None for i, width in enumerate(widths)]
        state_channels, sizes = spatial_shape("unet", spec)
        dimensions = len(sizes)
        self.shape = (state_channels, *sizes)
        self.patch_size = patch_size
        self.checkpointing = bool(checkpointing)
        self.multiple = patch_size * 2 ** (len(widths) - 1)
        embedding = 4 * channels
        vectors, self.array_conditions = split_conditions(conditions or {})
        self.conditioning = ConditionEmbedding(vectors, embedding, told)
        extra = sum(_array_channels(name, kind, sizes) for name, kind in self.array_conditions.items())

        def stages(level: int, merges: bool) -> nn.ModuleList:
            options = (dimensions, widths[level], embedding, dropout, heads_of[level], merges)
            return nn.ModuleList(_Stage(*options) for _ in range(blocks))

        depth = range(len(widths))
        patched = state_channels * patch_size**dimensions
        self.entry = _convolution(dimensions, patched + extra * patch_size**dimensions, widths[0], 3)
        self.encoder = nn.ModuleList(stages(level, merges=False) for level in depth)
        self.gated = resampling == "gated-wavelets"

        def down(level: int) -> nn.Module:
            if not self.gated:
                return _convolution(dimensions, widths[level], widths[level + 1], 2, stride=2)
            mixing = _convolution(dimensions, widths[level], widths[level + 1], 1)
            return GatedDown(widths[level], embedding, mixing, dimensions)

        def up(level: int) -> nn.Module:
            if not self.gated:
                return _convolution(dimensions, widths[level + 1], widths[level], 1)
            shared = widths[level + 1] // gated_groups(widths[level + 1], dimensions)
            return GatedUp(widths[level + 1], embedding, _convolution(dimensions, shared, widths[level], 1), dimensions)

        self.down = nn.ModuleList(down(level) for level in depth[:-1])
        self.middle = _Stage(dimensions, widths[-1], embedding, dropout, heads_of[-1], merges=False)
        self.decoder = nn.ModuleList(stages(level, merges=True) for level in depth)
        self.up = nn.ModuleList(up(level) for level in depth[:-1])
        self.width = widths[0]
        self.norm = group_norm(widths[0])
        self.exit = zero_initialised(_convolution(dimensions, widths[0], patched, 3))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction [B, C, *spatial], in the dtype of ``x``, from the scaled state and λ [B]."""
        return self.read(self.features(x, log_snr, condition), x, self.exit)

    def features(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """What the last layer reads, ``[B, width, *spatial of the patches]``; arguments as for :meth:`forward`."""
        check_input(x, self.shape)
        arrays = array_channels(self.array_conditions, condition, x)
        embedding = self.conditioning(log_snr, x.shape[0], condition.without(arrays))
        entry = torch.cat([x, *arrays.values()], dim=1) if arrays else x
        patches = space_to_depth(pad_to_multiple(entry, self.multiple), self.patch_size)
        hidden = self.entry(patches.to(self.norm.weight.dtype))
        skips: list[Tensor] = []
        for level, stages_down in enumerate(self.encoder):
            if level:
                hidden = self.down[level - 1](hidden, *[embedding] * self.gated)
            for stage in cast(nn.ModuleList, stages_down):
                hidden = self._run(stage, hidden, embedding)
                skips.append(hidden)
        hidden = self._run(self.middle, hidden, embedding)
        for level in reversed(range(len(self.decoder))):
            if level < len(self.up):
                hidden = self._raised(self.up[level], hidden, embedding)
            for stage in cast(nn.ModuleList, self.decoder[level]):
                hidden = self._run(stage, hidden, embedding, skips.pop())
        return functional.silu(self.norm(hidden))

    def read(self, features: Tensor, x: Tensor, exit: nn.Module) -> Tensor:
        """A prediction like the state ``x`` from the features, by a last layer."""
        prediction = in_full_precision(exit, features)
        return crop(depth_to_space(prediction, self.patch_size), x.shape[2:]).to(x.dtype)

    def pooled(self, features: Tensor) -> Tensor:
        """One vector per sample, ``[B, width]``: the mean over all positions."""
        return features.flatten(2).mean(2)

    def _raised(self, up: nn.Module, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Twice the size, with the channels of the finer level."""
        if self.gated:
            return up(hidden, embedding)  # type: ignore[no-any-return]
        # Channels change before the up-sampling, where there are 2^d times fewer positions.
        return functional.interpolate(up(hidden), scale_factor=2, mode="nearest")

    def _run(self, stage: nn.Module, *inputs: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            hidden: Tensor = checkpoint(stage, *inputs, use_reentrant=False)
        else:
            hidden = stage(*inputs)
        return hidden
