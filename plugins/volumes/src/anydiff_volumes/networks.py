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

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import UNet
from anydiff.states import UNCONDITIONAL, ArrayCondition, Conditioning
from anydiff_volumes.course import Course, weights_given
from anydiff_volumes.local_spread import LocalSpread
from anydiff_volumes.sequence_encoder import SequenceEncoder, known_estimates

if TYPE_CHECKING:
    from anydiff.states import StateSpec

CONDITIONS = ("frames", "seen", "times", "target_time")
ENCODERS = ("attention", "concatenation", "previous", "course")


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
        local_spread: with ``spread``, tell s of each voxel from the frames (:mod:`anydiff_volumes.local_spread`).
        sigma_data: the recipe's, with ``spread``.
        map_channels: channels that the tokens of ``attention`` are spread out to.
        changes: heads of its attention over time.
        width: of the encoder's tokens.
        layers: of the encoder.
        heads: of the encoder.
        options: of :class:`anydiff.networks.UNet`.

    Raises:
        AnydiffError: conditions that are not those of a sequence, or ``course`` or ``local_spread`` without
            ``spread``.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Any],
        *,
        encoder: str = "attention",
        spread: float = 0.0,
        local_spread: bool = False,
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
        if local_spread and not spread:
            raise AnydiffError("local_spread tells the spread of each voxel from that of all; set spread above 0.")
        self.spread, self.sigma_data = float(spread), float(sigma_data)
        self.local = LocalSpread(self.spread) if local_spread else None
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
        spread = self._spreads(parts, known[:, :1])
        return self._around(x, log_snr, known[:, :1], spread, torch.cat([context, shown], dim=1))

    def _along(
        self, x: Tensor, log_snr: Tensor, known: Tensor, parts: Mapping[str, Tensor] | None, present: Tensor
    ) -> Tensor:
        """The prediction about the course of the motion, as far as frames and state tell it."""
        centre = known[:, :1]
        spread = self._spreads(parts, centre)
        if parts is not None:
            noise = torch.exp(-log_snr.expand(x.shape[0]).clamp(-10, 10)).to(x.dtype)
            state = x * torch.sqrt(self.sigma_data**2 + noise**2)[:, None, None, None, None] - centre
            differences = parts["differences"].to(x.dtype)
            # Voxels count by what the state says of each, so that the least certain ones decide least.
            scale = torch.rsqrt(noise[:, None, None, None, None] ** 2 + spread**2)
            one = torch.ones_like(noise)
            weights = weights_given(state * scale, differences * scale, parts["mean"], parts["root"], one)
            moved = (weights[:, :, None, None, None] * differences).sum(dim=1, keepdim=True)
            centre = torch.where(present, centre + moved, centre)
        return self._around(x, log_snr, centre, spread, torch.cat([centre, known[:, 1:]], dim=1))

    def _spreads(self, parts: Mapping[str, Tensor] | None, centre: Tensor) -> Tensor:
        """The spread about the centre, one for each row or, with ``local_spread``, for each of its voxels."""
        known = centre.flatten(1).any(dim=1)[:, None, None, None, None]
        told = self.spread if parts is None or self.local is None else parts["spread"].to(centre.dtype)
        return torch.where(known, told, self.sigma_data).to(centre.dtype)

    def _around(self, x: Tensor, log_snr: Tensor, centre: Tensor, spread: Tensor, context: Tensor) -> Tensor:
        """The prediction of the data about a centre; see ``spread``."""
        noise = torch.exp(-log_snr.expand(x.shape[0]).clamp(-10, 10)).to(x.dtype)[:, None, None, None, None]
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
        makes of the sequence, and with ``local_spread`` the ``spread`` of each voxel.

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
        latest, line = known_estimates(frames, seen, since)
        centre = latest if self.encoder is None else latest + encoded[:, 0]
        known = torch.stack([centre, latest, line], dim=1)
        law = {}
        if self.course is not None:
            law = dict(zip(("differences", "mean", "root"), self.course(frames, seen, since), strict=True))
        if self.local is not None:
            law["spread"] = self.local(frames, seen, latest, line)
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
            return known_estimates(frames, seen, since)[0][:, None]
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
