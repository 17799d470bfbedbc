r"""SADM's networks: an encoder of a sequence with gaps, and a 3-D U-Net that sees its map beside the state.

The encoder turns the frames before a target into one map at full resolution (Yoon et al. 2023, arXiv:2212.08228):

1. coarse: every frame is cut into patches of 8 voxels a side; the tokens (frame, patch), and one more per patch for the
   target, go through a transformer together, each with the embeddings of its place and of its time relative to the
   target's. Here the course of the motion can be told from several frames;
2. fine: at every position of a grid of cells of 4 voxels a side, the target's token (spread out) asks the frames'
   features at that position, with multi-head attention over time.

Missing frames are no tokens at all: they are masked, not black. So are frames that do not lie before the target. With
nothing to see the map is the same for whatever condition, which is the null of classifier-free guidance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.networks import ArrayCondition, UNet
from anydiff.networks.layers import attention_heads, crop, depth_to_space, pad_to_multiple, space_to_depth
from anydiff_volumes.extrapolation import interpolation, last_frame

if TYPE_CHECKING:
    from anydiff.states import StateSpec

CONDITIONS = ("frames", "seen", "times", "target_time")
ENCODERS = ("attention", "previous")
PATCH = 8
FINE = 4
FINE_HEADS = 4
FINE_WIDTH = 16
FEATURES = 32
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
    """A transformer block whose attention looks at unmasked tokens alone: ``[B, N, W]`` and bool ``[B, N]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """One round of attention and feed-forward, both residual."""
        batch, count, width = tokens.shape
        mixed = self.query_key_value(self.norm_attention(tokens)).reshape(batch, count, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None, :])
        tokens = tokens + self.project(attended.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.feed(self.norm_feed(tokens))  # type: ignore[no-any-return]


class SequenceEncoder(nn.Module):
    """From frames with gaps to one map: ``[B, T, X, Y, Z] -> [B, channels, X, Y, Z]``; see the module.

    Args:
        frames: T.
        shape: ``(X, Y, Z)``.
        channels: of the map.
        width: of the tokens.
        layers: transformer blocks over (frame, patch) tokens.
        heads: attention heads over tokens.
    """

    def __init__(
        self, frames: int, shape: Sequence[int], *, channels: int = 4, width: int = 64, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        attention_heads("heads", natural_number("width", width), heads)
        self.shape = tuple(shape)
        self.frames = natural_number("frames", frames)
        self.coarse = [-(-size // PATCH) for size in self.shape]
        patches = math.prod(self.coarse)
        self.embed = nn.Linear(PATCH**3, width)
        self.place = nn.Parameter(torch.randn(patches, width) * 0.02)
        self.target = nn.Parameter(torch.randn(width) * 0.02)
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(MaskedBlock(width, heads) for _ in range(natural_number("layers", layers)))
        self.norm = nn.LayerNorm(width)
        voxels = FINE**3
        fine = FINE_HEADS * FINE_WIDTH
        self.features = nn.Conv3d(voxels, FEATURES, 3, padding=1)
        self.key, self.key_time = nn.Linear(FEATURES, fine), nn.Linear(width, fine)
        self.value = nn.Linear(FEATURES + voxels, fine)
        self.query = nn.Linear(width, fine)
        self.nothing = nn.Parameter(torch.randn(2, fine) * 0.02)
        self.exit = nn.Linear(fine + width, channels * voxels)

    def forward(self, frames: Tensor, seen: Tensor, since: Tensor) -> Tensor:
        """The map ``[B, channels, *shape]``.

        Args:
            frames: ``[B, T, *shape]``; whatever stands in frames that are not seen has no influence.
            seen: bool ``[B, T]``.
            since: each frame's time minus the target's ``[B, T]``.
        """
        batch = frames.shape[0]
        frames = torch.where(seen[:, :, None, None, None], frames, 0)
        moments = self.time(torch.where(seen, since, 0))
        padded = pad_to_multiple(frames.reshape(batch * self.frames, 1, *self.shape), PATCH)
        summary = self._coarse(space_to_depth(padded, PATCH), seen, moments)
        raw = space_to_depth(padded, FINE)
        asked = functional.interpolate(summary, scale_factor=PATCH // FINE, mode="trilinear")
        asked = asked.flatten(2).transpose(1, 2)
        answer = self._fine(raw, asked, seen, moments)
        grid = [size // FINE for size in padded.shape[2:]]
        mapped = self.exit(torch.cat([answer, asked], dim=-1)).transpose(1, 2).reshape(batch, -1, *grid)
        return crop(depth_to_space(mapped, FINE), self.shape)

    def _coarse(self, patches: Tensor, seen: Tensor, moments: Tensor) -> Tensor:
        """What the transformer says of each patch at the target's time, ``[B, W, *coarse]``."""
        batch = seen.shape[0]
        tokens = self.embed(patches.flatten(2).transpose(1, 2)).reshape(batch, self.frames, len(self.place), -1)
        tokens = tokens + self.place + moments[:, :, None]
        asked = (self.place + self.target).expand(batch, 1, -1, -1)
        everything = torch.cat([tokens, asked], dim=1).flatten(1, 2)
        visible = functional.pad(seen, (0, 1), value=True).repeat_interleave(len(self.place), dim=1)
        for block in self.blocks:
            everything = block(everything, visible)
        summary: Tensor = self.norm(everything[:, -len(self.place) :])
        return summary.transpose(1, 2).reshape(batch, -1, *self.coarse)

    def _fine(self, raw: Tensor, asked: Tensor, seen: Tensor, moments: Tensor) -> Tensor:
        """Attention over time at every fine position: ``[B, N, heads * width]``."""
        batch, positions, _ = asked.shape
        split = (batch, self.frames, positions, FINE_HEADS, FINE_WIDTH)
        features = functional.relu(self.features(raw)).flatten(2).transpose(1, 2)
        values = self.value(torch.cat([features, raw.flatten(2).transpose(1, 2)], dim=-1)).reshape(split)
        query = self.query(asked).reshape(batch, 1, positions, FINE_HEADS, FINE_WIDTH) / math.sqrt(FINE_WIDTH)
        moments = self.key_time(moments).reshape(batch, self.frames, 1, FINE_HEADS, FINE_WIDTH)
        score = (query * (self.key(features).reshape(split) + moments)).sum(dim=-1)
        score = score.masked_fill(~seen[:, :, None, None], -math.inf)
        # One more thing to look at: nothing, so that a position without frames has an answer too.
        nothing = self.nothing.reshape(2, FINE_HEADS, FINE_WIDTH)
        weight = torch.cat([score, (query * nothing[0]).sum(dim=-1)], dim=1).softmax(dim=1)
        answer: Tensor = (weight[:, :-1, ..., None] * values).sum(dim=1) + weight[:, -1, ..., None] * nothing[1]
        return answer.flatten(2)


class SequenceUNet(nn.Module):
    """A U-Net on a volume, conditioned on the volumes before it: ``[B, 1, X, Y, Z] -> [B, 1, X, Y, Z]``.

    Args:
        spec: the state, ``(1, X, Y, Z)``.
        conditions: those of :class:`anydiff_volumes.domain.Volumes` with ``frames``.
        encoder: ``attention`` (SADM) or ``previous``: the latest frame that is seen, concatenated as it is. The latter
            is SADM without attention, and a single-image model.
        spread: with a positive number s, predict the data around the latest frame that is seen, which the U-Net then
            sees too, with ``attention`` beside the straight line through the two latest; 0 for a plain network.
            The prediction is then D = m + s²/(s² + κ²) (y - m) + s κ/√(s² + κ²) F with y = x_t/α, κ = σ/α and m the
            latest frame: the posterior mean for x_0 ~ N(m, s²), which an untrained network gives, and a correction F of
            unit scale (the preconditioning of Karras et al. 2022, arXiv:2206.00364, about m in place of 0). Rows
            without frames take m = 0 and s = sigma_data. Needs ``parametrization: data``.
        sigma_data: the recipe's, with ``spread``.
        map_channels: channels of the encoder's map.
        width: of the encoder's tokens.
        layers: of the encoder.
        heads: of the encoder.
        options: of :class:`anydiff.networks.UNet`.

    Raises:
        AnydiffError: conditions that are not those of a sequence.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Any],
        *,
        encoder: str = "attention",
        spread: float = 0.0,
        sigma_data: float = 1.0,
        map_channels: int = 4,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        **options: Any,
    ) -> None:
        super().__init__()
        if set(conditions) != set(CONDITIONS):
            raise AnydiffError(
                f"the conditions are {sorted(conditions)}, but this network needs {sorted(CONDITIONS)}; set frames of "
                "the domain to the length of its sequences."
            )
        if encoder not in ENCODERS:
            raise UnknownNameError("encoder", str(encoder), ENCODERS)
        self.array_conditions = dict(conditions)
        self.frames = conditions["frames"].shape[0]
        self.shape = tuple(spec.shape[1:])
        channels = map_channels if encoder == "attention" else 1
        self.encoder = (
            SequenceEncoder(self.frames, self.shape, channels=channels, width=width, layers=layers, heads=heads)
            if encoder == "attention"
            else None
        )
        if not (spread >= 0 and sigma_data > 0):
            raise AnydiffError(
                f"spread is {spread} and sigma_data {sigma_data}, but they must be at least 0 and above 0."
            )
        self.spread, self.sigma_data = float(spread), float(sigma_data)
        if self.spread:
            channels += 1 if self.encoder is None else 2
        self.unet = UNet(spec, {"context": ArrayCondition((channels, *self.shape))}, **options)

    def forward(self, x: Tensor, log_snr: Tensor, **condition: Tensor) -> Tensor:
        """Native prediction ``[B, 1, X, Y, Z]``; the condition may be encoded already."""
        rows = x.shape[0]
        encoded = condition if "frames.map" in condition or not condition else self.encode_condition(**condition)
        if not condition:
            context, known = self._nothing(rows), x.new_zeros(rows, 2, *self.shape)
        else:
            present = _present(encoded, rows)[:, None, None, None, None]
            context = torch.where(present, encoded["frames.map"].to(x.dtype), encoded["frames.nothing"].to(x.dtype))
            known = torch.where(present, encoded["frames.known"].to(x.dtype), 0)
        if not self.spread:
            plain: Tensor = self.unet(x, log_snr, context=context)
            return plain
        seen_channels = known if self.encoder is not None else known[:, :1]
        return self._around(x, log_snr, known[:, :1], torch.cat([context, seen_channels], dim=1))

    def _around(self, x: Tensor, log_snr: Tensor, latest: Tensor, context: Tensor) -> Tensor:
        """The prediction of the data about the latest frame; see ``spread``."""
        noise = torch.exp(-log_snr.expand(x.shape[0]).clamp(-10, 10)).to(x.dtype)[:, None, None, None, None]
        known = latest.flatten(1).any(dim=1)[:, None, None, None, None]
        spread = torch.where(known, self.spread, self.sigma_data).to(x.dtype)
        # The network is handed x_t / sqrt(α² σ_data² + σ²), on every path.
        difference = x * torch.sqrt(self.sigma_data**2 + noise**2) - latest
        scale = torch.rsqrt(spread**2 + noise**2)
        correction: Tensor = self.unet(difference * scale, log_snr, context=context)
        return latest + (spread * scale) ** 2 * difference + spread * noise * scale * correction

    def encode_condition(self, **condition: Tensor) -> dict[str, Tensor]:
        """The condition with the map of its sequence, ``frames.map``, that of no sequence, ``frames.nothing``, and
        ``frames.known``: the latest frame that is seen and the straight line through the two latest, zero without any.

        All are ``[B, channels, X, Y, Z]``; a sampler has them made once.

        Raises:
            UnknownNameError: a condition this network does not have.
            AnydiffError: a condition that is missing or of another shape.
        """
        if not condition:
            return {}
        for name in condition:
            if name.removesuffix("_present").partition(".")[0] not in CONDITIONS:
                raise UnknownNameError("condition", name, CONDITIONS)
        missing = [name for name in CONDITIONS if name not in condition]
        if missing:
            raise AnydiffError(
                f"the condition {missing[0]!r} is missing; a sequence is {', '.join(CONDITIONS)} together."
            )
        frames, seen, since = self._visible(condition)
        nothing = self._nothing(1).expand(len(frames), -1, -1, -1, -1)
        made = {"frames.map": self._encode(frames, seen, since), "frames.nothing": nothing}
        latest, line = _known(frames, seen, since)
        return {**condition, **made, "frames.known": torch.stack([latest, line], dim=1)}

    def _nothing(self, rows: int) -> Tensor:
        """The map of a sequence that is not known at all."""
        weight = next(self.parameters())
        frames = weight.new_zeros(1, self.frames, *self.shape)
        unseen = torch.zeros(1, self.frames, dtype=torch.bool, device=weight.device)
        return self._encode(frames, unseen, weight.new_zeros(1, self.frames)).expand(rows, -1, -1, -1, -1)

    def _encode(self, frames: Tensor, seen: Tensor, since: Tensor) -> Tensor:
        if self.encoder is not None:
            encoded: Tensor = self.encoder(frames, seen, since)
            return encoded
        return _known(frames, seen, since)[0][:, None]

    def _visible(self, condition: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, which of them may be looked at, and their times relative to the target's."""
        rows = len(condition["frames"])
        shapes = {"frames": (self.frames, *self.shape), "seen": (self.frames,), "times": (self.frames,)}
        shapes["target_time"] = (1,)
        for name, shape in shapes.items():
            if tuple(condition[name].shape) != (rows, *shape):
                raise AnydiffError(
                    f"condition {name!r} has shape {tuple(condition[name].shape)}, but must be {(rows, *shape)}: one "
                    "entry per frame of the sequence."
                )
        dtype = next(self.parameters()).dtype
        seen = condition["seen"] > 0.5
        times = torch.where(seen, condition["times"].to(dtype), 0)
        since = times - condition["target_time"].to(dtype)
        # What does not lie before the target is not looked at, whoever says it was seen.
        return condition["frames"].to(dtype), seen & (since < 0), since


def _present(condition: Mapping[str, Tensor], rows: int) -> Tensor:
    """Whether all of a row's sequence may be looked at: bool ``[B]``."""
    present = torch.ones(rows, dtype=torch.bool, device=condition["frames.map"].device)
    for name in CONDITIONS:
        present = present & condition.get(f"{name}_present", present).bool()
    return present


def _known(frames: Tensor, seen: Tensor, since: Tensor) -> tuple[Tensor, Tensor]:
    """What needs no network: the latest frame that is seen, and the straight line, each ``[B, X, Y, Z]``."""
    # Frames that are not seen may hold anything, NaN too.
    frames = torch.where(seen[:, :, None, None, None], frames, 0)
    now = since.new_zeros(len(since), 1)
    return last_frame(frames, seen, since, now), interpolation(frames, seen, since, now)
