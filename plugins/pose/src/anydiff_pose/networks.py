"""DiffPose's network: a video encoder that runs once per clip, and a heatmap decoder that runs at every step.

Feng et al., "DiffPose: SpatioTemporal diffusion model for video-based human pose estimation", ICCV 2023
(arXiv:2307.16687), at small scale. Encoder (spatio-temporal representation learner): convolutions per frame, a
transformer layer within each frame, then transformer layers across all frames; the keyframe's tokens are kept. Decoder
(lookup-based multi-scale feature interaction): each joint's noisy heatmap, as a softmax over positions, looks up the
features at three scales; the joints' tokens attend to one another and to the whole picture; heatmaps are the joints'
match with the fused features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks import ConditionEmbedding
from anydiff.networks.layers import SelfAttention, attention_heads, check_input, group_norm
from anydiff.states import UNCONDITIONAL, ArrayCondition, Conditioning

if TYPE_CHECKING:
    from anydiff.states import StateSpec

SCALES = (1, 2, 4)
"""Cells of the heatmap per feature position, finest first."""


class _Convolutions(nn.Module):
    """x + conv(silu(FiLM(norm(conv(silu(norm(x))))))); without an embedding there is no FiLM."""

    def __init__(self, channels: int, embedding: int = 0) -> None:
        super().__init__()
        self.norm_entry, self.norm_exit = group_norm(channels), group_norm(channels)
        self.entry = nn.Conv2d(channels, channels, 3, padding=1)
        self.exit = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels) if embedding else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        hidden = self.norm_exit(self.entry(functional.silu(self.norm_entry(x))))
        if self.film is not None and embedding is not None:
            scale, shift = self.film(embedding)[..., None, None].chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        return x + self.exit(functional.silu(hidden))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """A transformer layer: self-attention, then (if ``reads``) attention to a memory, then a perceptron."""

    def __init__(self, width: int, heads: int, reads: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm_query = nn.LayerNorm(width) if reads else None
        self.query = nn.Linear(width, width) if reads else None
        self.key_value = nn.Linear(width, 2 * width) if reads else None
        self.read = nn.Linear(width, width) if reads else None
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        tokens = tokens + self.attention(self.norm(tokens))
        if memory is not None and self.norm_query and self.query and self.key_value and self.read:
            query = self._split(self.query(self.norm_query(tokens)))
            key, value = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))
            found = functional.scaled_dot_product_attention(query, key, value)
            tokens = tokens + self.read(found.transpose(1, 2).flatten(2))
        return tokens + self.perceptron(tokens)  # type: ignore[no-any-return]

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:-1], self.heads, -1).transpose(1, 2)


class _Encoder(nn.Module):
    """Spatio-temporal representation learner: frames ``[B, T, 3, H, W]`` to the keyframe's features at three scales."""

    def __init__(
        self,
        frames: int,
        cells: tuple[int, int],
        stride: int,
        channels: int,
        width: int,
        heads: int,
    ) -> None:
        super().__init__()
        half = channels // 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=stride // 2, padding=1), group_norm(half), nn.SiLU(),
            nn.Conv2d(half, channels, 3, stride=2, padding=1), _Convolutions(channels),
        )  # fmt: skip
        self.down = nn.Conv2d(channels, width, 2, stride=2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 1, (cells[0] // 2) * (cells[1] // 2), width))
        self.times = nn.Parameter(0.02 * torch.randn(1, frames, 1, width))
        self.within = nn.ModuleList([_Layer(width, heads)])
        self.across = nn.ModuleList([_Layer(width, heads), _Layer(width, heads)])
        self.norm = nn.LayerNorm(width)
        self.up = nn.Conv2d(width, channels, 1)
        # Joints move little from frame to frame. Attention has to find that out, which takes it long; a convolution
        # over the same place of all frames begins with it.
        self.beside = nn.Conv2d(frames * channels, channels, 3, padding=1)
        self.fuse = _Convolutions(channels)
        self.coarse = nn.Conv2d(width, width, 2, stride=2)

    def forward(self, frames: Tensor) -> list[Tensor]:
        batch, count = frames.shape[:2]
        fine = self.stem(frames.flatten(0, 1))
        middle = self.down(fine)
        tokens = middle.flatten(2).transpose(1, 2).unflatten(0, (batch, count)) + self.places + self.times
        for layer in self.within:
            tokens = layer(tokens.flatten(0, 1)).unflatten(0, (batch, count))
        tokens = tokens.flatten(1, 2)
        for layer in self.across:
            tokens = layer(tokens)
        key = self.norm(tokens.unflatten(1, (count, -1))[:, count // 2])
        middle = key.transpose(1, 2).unflatten(2, middle.shape[2:])
        fine = fine.unflatten(0, (batch, count))
        near = fine[:, count // 2] + self.beside(fine.flatten(1, 2))
        fine = self.fuse(near + functional.interpolate(self.up(middle), scale_factor=2, mode="nearest"))
        return [fine, middle, self.coarse(middle)]


class _Decoder(nn.Module):
    """Lookup-based multi-scale feature interaction; see the module."""

    def __init__(self, joints: int, channels: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.conditioning = ConditionEmbedding({}, width)
        self.entry = nn.Conv2d(joints + channels, channels, 3, padding=1)
        self.block = _Convolutions(channels, width)
        self.sharpness = nn.Linear(width, len(SCALES))
        self.looked_up = nn.ModuleList(nn.Linear(size, width) for size in (channels, width, width))
        self.joints = nn.Parameter(0.02 * torch.randn(1, joints, width))
        self.layers = nn.ModuleList(_Layer(width, heads, reads=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.match = nn.Linear(width, channels)
        self.norm_exit = group_norm(channels)
        self.exit = nn.Conv2d(channels, channels + joints, 1)

    def forward(self, x: Tensor, log_snr: Tensor, features: list[Tensor]) -> Tensor:
        embedding = self.conditioning(log_snr, x.shape[0], UNCONDITIONAL)
        fused = self.block(self.entry(torch.cat([x, features[0]], dim=1)), embedding)
        sharpness = functional.softplus(self.sharpness(embedding))
        tokens = self.joints + embedding[:, None]
        for number, (scale, map_) in enumerate(zip(SCALES, features, strict=True)):
            heat = functional.avg_pool2d(x, scale) if scale > 1 else x
            weight = torch.softmax(sharpness[:, number, None, None] * heat.flatten(2), dim=-1)
            found = weight @ map_.flatten(2).transpose(1, 2)
            tokens = tokens + self.looked_up[number](found)
        memory = features[1].flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, memory)
        queries = self.match(self.norm(tokens))
        keys, direct = self.exit(functional.silu(self.norm_exit(fused))).split([queries.shape[-1], x.shape[1]], dim=1)
        matched = torch.einsum("bjc,bchw->bjhw", queries, keys) / math.sqrt(queries.shape[-1])
        heatmaps: Tensor = matched + direct
        return heatmaps


class VideoHeatmaps(nn.Module):
    """``[B, J, h, w] -> [B, J, h, w]`` given ``frames [B, T, 3, H, W]``; see the module.

    Args:
        spec: the state, (joints, rows, columns), both sizes multiples of 4.
        conditions: must hold one array condition ``frames``.
        channels: of the features at the heatmap's resolution.
        width: of the tokens.
        heads: attention heads, a divisor of ``width``.
        layers: of the joints' transformer.
        neighbours: whether the frames beside the keyframe are used; without them this is the single-frame network.
        reads_state: whether the noisy heatmap and the noise level are seen; without them it is a heatmap regression.

    Raises:
        AnydiffError: an option out of range, or states and frames that do not fit.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Any] | None = None,
        *,
        channels: int = 32,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        neighbours: bool = True,
        reads_state: bool = True,
    ) -> None:
        super().__init__()
        natural_number("channels", channels, 2)
        natural_number("layers", layers)
        attention_heads("heads", width, heads)
        kind = (conditions or {}).get("frames")
        if not isinstance(kind, ArrayCondition) or len(kind.shape) != 4:
            raise AnydiffError(f"conditions hold frames={kind!r}, but this network needs frames [T, 3, height, width].")
        self.shape = tuple(spec.shape)
        joints, rows, columns = self.shape
        stride = kind.shape[2] // rows
        if rows % 4 or columns % 4 or kind.shape[2:] != (rows * stride, columns * stride) or stride % 2:
            raise AnydiffError(
                f"heatmaps are {rows}x{columns} and frames {kind.shape[2]}x{kind.shape[3]}, but heatmaps must be "
                "multiples of 4 and frames the same even multiple of them."
            )
        self.array_conditions = {"frames": kind}
        self.neighbours, self.reads_state = neighbours, reads_state
        self.middle = kind.shape[0] // 2
        frames = kind.shape[0] if neighbours else 1
        self.encoder = _Encoder(frames, (rows, columns), stride, channels, width, heads)
        self.decoder = _Decoder(joints, channels, width, heads, layers)
        sizes = [(channels, rows, columns)] + [(width, rows // scale, columns // scale) for scale in SCALES[1:]]
        self.absent = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)

    def encode_condition(self, condition: Conditioning = UNCONDITIONAL) -> Conditioning:
        """``frames`` as features of three scales, the parts ``0`` (finest) to ``2``."""
        frames = condition.given.get("frames")
        if frames is None or "frames" in condition.parts:
            return condition
        if frames.shape[1:] != self.array_conditions["frames"].shape:
            raise AnydiffError(
                f"condition 'frames' has shape {tuple(frames.shape)}, but must be "
                f"(batch, {', '.join(map(str, self.array_conditions['frames'].shape))})."
            )
        if "frames" in condition.present:  # what an absent row holds (NaN, say) must not reach the others' gradients
            frames = torch.where(condition.presence("frames").reshape(-1, 1, 1, 1, 1), frames, 0)
        frames = frames if self.neighbours else frames[:, self.middle : self.middle + 1]
        features = self.encoder(frames.to(self.decoder.joints.dtype))
        return condition.with_parts("frames", **{str(number): each for number, each in enumerate(features)})

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction [B, J, h, w], in the dtype of ``x``, from the scaled state and λ [B]."""
        check_input(x, self.shape)
        condition = self.encode_condition(condition)
        parts = condition.parts.get("frames")
        seen = [absent.expand(x.shape[0], *absent.shape) for absent in self.absent]
        if parts is not None:
            features = [parts[str(number)] for number in range(len(SCALES))]
            if "frames" in condition.present:
                present = condition.presence("frames").reshape(-1, 1, 1, 1)
                features = [torch.where(present, *pair) for pair in zip(features, seen, strict=True)]
            seen = features
        state = x.to(self.decoder.joints.dtype)
        if not self.reads_state:
            state, log_snr = torch.zeros_like(state), torch.zeros_like(log_snr)
        return self.decoder(state, log_snr, seen).to(x.dtype)  # type: ignore[no-any-return]
