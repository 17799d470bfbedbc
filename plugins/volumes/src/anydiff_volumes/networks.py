r"""SADM's networks: an encoder of a sequence with gaps, and a 3-D U-Net that sees its map beside the state.

The encoder turns the frames before a target into one map at full resolution (Yoon et al. 2023, arXiv:2212.08228):

1. every frame is cut into patches of 8 voxels a side; the tokens (frame, patch), and one more per patch for the target,
   go through a transformer together, each with the embeddings of its place and of its time relative to the target's.
   Here the course of the motion is told from several frames;
2. at every voxel the target attends to the frames over time, and to the straight line through the two latest. The
   weights come from the tokens, may be negative, and are spread out from patch to voxel; what is weighed is how each
   differs from the latest frame, f_t - f_latest, so that every head is a change of the latest frame: an interpolation,
   an extrapolation, or none;
3. the target's token itself is spread out beside them.

Missing frames are no tokens at all: they are masked, not black. So are frames that do not lie before the target. With
nothing to see the map is the same for whatever condition, which is the null of classifier-free guidance.

The encoder ``course`` (:mod:`anydiff_volumes.course`) weighs whole frames in place of patches, and lets the noisy state
say which weights are likely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.networks import UNet
from anydiff.networks.layers import (
    attention_heads,
    crop,
    depth_to_space,
    pad_to_multiple,
    space_to_depth,
    zero_initialised,
)
from anydiff.states import UNCONDITIONAL, ArrayCondition, Conditioning
from anydiff_volumes.course import Course, weights_given
from anydiff_volumes.extrapolation import interpolation, last_frame

if TYPE_CHECKING:
    from anydiff.states import StateSpec

CONDITIONS = ("frames", "seen", "times", "target_time")
ENCODERS = ("attention", "concatenation", "previous", "course")
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
        latest, line = _known(frames, seen, since)
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


class SequenceUNet(nn.Module):
    """A U-Net on a volume, conditioned on the volumes before it: ``[B, 1, X, Y, Z] -> [B, 1, X, Y, Z]``.

    Args:
        spec: the state, ``(1, X, Y, Z)``.
        conditions: those of :class:`anydiff_volumes.domain.Volumes` with ``frames``.
        encoder: ``attention`` (SADM); ``concatenation``: all frames as they are, the latest first, each with channels
            for whether it is seen and how long ago, which is SADM without attention; ``previous``: the latest frame
            that is seen alone, a single-image model; ``course``: weights of whole frames, a normal law told from the
            frames and from the noisy state (:mod:`anydiff_volumes.course`), which needs ``spread``.
        spread: with a positive number s, predict the data around a centre m, 0 for a plain network. The prediction is
            then D = m + s²/(s² + κ²) (y - m) + s κ/√(s² + κ²) F with y = x_t/α and κ = σ/α: the posterior mean for
            x_0 ~ N(m, s²), which an untrained network gives, and a correction F of unit scale (the preconditioning of
            Karras et al. 2022, arXiv:2206.00364, about m in place of 0). m is the latest frame that is seen, with
            ``attention`` and the first of its changes, with ``course`` and the weighted differences given the
            state; the U-Net sees the latest frame too, and where whole sequences are encoded the straight line
            through the two latest. Rows without frames take m = 0 and
            s = sigma_data. Needs ``parametrization: data``.
        sigma_data: the recipe's, with ``spread``.
        map_channels: channels that the tokens of ``attention`` are spread out to.
        changes: heads of its attention over time.
        width: of the encoder's tokens.
        layers: of the encoder.
        heads: of the encoder.
        options: of :class:`anydiff.networks.UNet`.

    Raises:
        AnydiffError: conditions that are not those of a sequence, or ``course`` without ``spread``.
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
        changes: int = 4,
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
        self.kind = encoder
        channels = {
            "attention": changes + map_channels,
            "concatenation": 3 * self.frames,
            "previous": 1,
            "course": 1,
        }[encoder]
        self.encoder = None
        self.course = Course(self.frames) if encoder == "course" else None
        if encoder == "attention":
            sizes = {"channels": map_channels, "changes": changes, "width": width}
            self.encoder = SequenceEncoder(self.frames, self.shape, layers=layers, heads=heads, **sizes)
        if not (spread >= 0 and sigma_data > 0):
            raise AnydiffError(
                f"spread is {spread} and sigma_data {sigma_data}, but they must be at least 0 and above 0."
            )
        if encoder == "course" and not spread:
            raise AnydiffError("encoder 'course' predicts about the course of a motion; set spread above 0.")
        self.spread, self.sigma_data = float(spread), float(sigma_data)
        if self.spread:
            channels += 1 if encoder == "previous" else 2
        self.unet = UNet(spec, {"context": ArrayCondition((channels, *self.shape))}, **options)

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction ``[B, 1, X, Y, Z]``; the condition may be encoded already."""
        rows = x.shape[0]
        parts = self.encode_condition(condition).parts.get("frames")
        if parts is None:
            context, known = self._nothing(rows), x.new_zeros(rows, 3, *self.shape)
            present = torch.zeros(rows, 1, 1, 1, 1, dtype=torch.bool, device=x.device)
        else:
            present = _present(condition)[:, None, None, None, None]
            context = torch.where(present, parts["map"].to(x.dtype), parts["nothing"].to(x.dtype))
            known = torch.where(present, parts["known"].to(x.dtype), 0)
        if not self.spread:
            return self._given(x, log_snr, context)
        if self.course is not None:
            return self._along(x, log_snr, known, parts, present)
        shown = known[:, 1:2] if self.kind == "previous" else known[:, 1:]
        return self._around(x, log_snr, known[:, :1], torch.cat([context, shown], dim=1))

    def _along(
        self, x: Tensor, log_snr: Tensor, known: Tensor, parts: Mapping[str, Tensor] | None, present: Tensor
    ) -> Tensor:
        """The prediction about the course of the motion, as far as frames and state tell it."""
        centre = known[:, :1]
        if parts is not None:
            noise = torch.exp(-log_snr.expand(x.shape[0]).clamp(-10, 10)).to(x.dtype)
            state = x * torch.sqrt(self.sigma_data**2 + noise**2)[:, None, None, None, None] - centre
            differences = parts["differences"].to(x.dtype)
            variance = noise**2 + self.spread**2
            weights = weights_given(state, differences, parts["mean"], parts["root"], variance)
            moved = (weights[:, :, None, None, None] * differences).sum(dim=1, keepdim=True)
            centre = torch.where(present, centre + moved, centre)
        return self._around(x, log_snr, centre, torch.cat([centre, known[:, 1:]], dim=1))

    def _around(self, x: Tensor, log_snr: Tensor, centre: Tensor, context: Tensor) -> Tensor:
        """The prediction of the data about a centre; see ``spread``."""
        noise = torch.exp(-log_snr.expand(x.shape[0]).clamp(-10, 10)).to(x.dtype)[:, None, None, None, None]
        known = centre.flatten(1).any(dim=1)[:, None, None, None, None]
        spread = torch.where(known, self.spread, self.sigma_data).to(x.dtype)
        # The network is handed x_t / sqrt(α² σ_data² + σ²), on every path.
        difference = x * torch.sqrt(self.sigma_data**2 + noise**2) - centre
        scale = torch.rsqrt(spread**2 + noise**2)
        correction = self._given(difference * scale, log_snr, context)
        return centre + (spread * scale) ** 2 * difference + spread * noise * scale * correction

    def _given(self, x: Tensor, log_snr: Tensor, context: Tensor) -> Tensor:
        """What the U-Net makes of the state beside the context."""
        made: Tensor = self.unet(x, log_snr, Conditioning({"context": context}))
        return made

    def encode_condition(self, condition: Conditioning = UNCONDITIONAL) -> Conditioning:
        """The condition with parts of ``frames``: ``map``, that of its sequence; ``nothing``, that of no sequence;
        ``known``: the centre of the prediction (see ``spread``), the latest frame that is seen and the straight line
        through the two latest, zero without any; with ``course`` also what :class:`~anydiff_volumes.course.Course`
        makes of the sequence.

        The first three are ``[B, channels, X, Y, Z]``; a sampler has all made once.

        Raises:
            UnknownNameError: a condition this network does not have.
            AnydiffError: a condition that is missing or of another shape.
        """
        names = (*condition.given, *condition.present)
        for name in names:
            if name not in CONDITIONS:
                raise UnknownNameError("condition", name, CONDITIONS)
        missing = [name for name in CONDITIONS if name not in condition.given] if names else []
        if missing:
            raise AnydiffError(
                f"the condition {missing[0]!r} is missing; a sequence is {', '.join(CONDITIONS)} together."
            )
        if not names or "frames" in condition.parts:
            return condition
        frames, seen, since = self._visible(condition)
        nothing = self._nothing(1).expand(len(frames), -1, -1, -1, -1)
        encoded = self._encode(frames, seen, since)
        latest, line = _known(frames, seen, since)
        centre = latest if self.encoder is None else latest + encoded[:, 0]
        known = torch.stack([centre, latest, line], dim=1)
        law = {}
        if self.course is not None:
            law = dict(zip(("differences", "mean", "root"), self.course(frames, seen, since), strict=True))
        return condition.with_parts("frames", map=encoded, nothing=nothing, known=known, **law)

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
        if self.kind in ("previous", "course"):
            return _known(frames, seen, since)[0][:, None]
        return _stacked(frames, seen, since)

    def _visible(self, condition: Conditioning) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, which of them may be looked at, and their times relative to the target's."""
        given = condition.given
        rows = len(given["frames"])
        shapes = {"frames": (self.frames, *self.shape), "seen": (self.frames,), "times": (self.frames,)}
        shapes["target_time"] = (1,)
        for name, shape in shapes.items():
            if tuple(given[name].shape) != (rows, *shape):
                raise AnydiffError(
                    f"condition {name!r} has shape {tuple(given[name].shape)}, but must be {(rows, *shape)}: one "
                    "entry per frame of the sequence."
                )
        dtype = next(self.parameters()).dtype
        seen = given["seen"] > 0.5
        times = torch.where(seen, given["times"].to(dtype), 0)
        since = times - given["target_time"].to(dtype)
        # What does not lie before the target is not looked at, whoever says it was seen.
        return given["frames"].to(dtype), seen & (since < 0), since


def _present(condition: Conditioning) -> Tensor:
    """Whether all of a row's sequence may be looked at: bool ``[B]``."""
    return torch.stack([condition.presence(name) for name in CONDITIONS]).all(dim=0)


def _stacked(frames: Tensor, seen: Tensor, since: Tensor) -> Tensor:
    """Every frame, whether it is seen and its time, the latest first and unseen ones last: ``[B, 3 T, X, Y, Z]``."""
    order = torch.where(seen, since, -torch.inf).argsort(dim=1, descending=True, stable=True)
    seen, since = torch.gather(seen, 1, order), torch.gather(since, 1, order)
    visible = seen[:, :, None, None, None]
    ordered = torch.where(visible, frames[torch.arange(len(frames), device=frames.device)[:, None], order], 0)
    times = torch.where(visible, since[:, :, None, None, None], 0).expand_as(ordered)
    return torch.cat([ordered, visible.expand_as(ordered).to(frames.dtype), times], dim=1)


def _known(frames: Tensor, seen: Tensor, since: Tensor) -> tuple[Tensor, Tensor]:
    """What needs no network: the latest frame that is seen, and the straight line, each ``[B, X, Y, Z]``."""
    # Frames that are not seen may hold anything, NaN too.
    frames = torch.where(seen[:, :, None, None, None], frames, 0)
    now = since.new_zeros(len(since), 1)
    return last_frame(frames, seen, since, now), interpolation(frames, seen, since, now)
