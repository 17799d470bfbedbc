"""What tells a network the noise level and the condition: one embedding vector per sample.

The noise level arrives as the log-SNR λ = log(α/σ), never as a step number, so that a network outlives the grid it was
trained on. Each condition owns a learned null embedding and can be absent on its own (Ho & Salimans 2022,
arXiv:2207.12598), which is how classifier-free guidance asks for the unconditional prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import ArrayCondition, ClassCondition, Condition, Conditioning, VectorCondition

LOG_SNR_BOUND = 20.0
"""λ is clamped to [-20, 20]: beyond, α or σ differs from its limit by less than float32 can show."""


def split_conditions(
    conditions: Mapping[str, Condition],
) -> tuple[dict[str, ClassCondition | VectorCondition], dict[str, ArrayCondition]]:
    """Conditions that become one vector (see :class:`ConditionEncoder`), and those that are arrays."""
    arrays = {name: kind for name, kind in conditions.items() if isinstance(kind, ArrayCondition)}
    vectors = {name: kind for name, kind in conditions.items() if not isinstance(kind, ArrayCondition)}
    return vectors, arrays


def array_channels(arrays: Mapping[str, ArrayCondition], condition: Conditioning, x: Tensor) -> dict[str, Tensor]:
    """Each array condition ``(C, *spatial)`` as channels ``[B, C + 1, *spatial]`` in the dtype of ``x [B, ...]``.

    The last channel is 1 where the condition is present. An absent one, not given or not present in
    row b, is all zeros, whatever its values are.

    Raises:
        AnydiffError: an array of another shape.
    """
    channels = {}
    for name, kind in arrays.items():
        value = condition.given.get(name)
        if value is None:
            channels[name] = x.new_zeros(x.shape[0], kind.shape[0] + 1, *kind.shape[1:])
            continue
        if value.shape != (x.shape[0], *kind.shape):
            raise AnydiffError(
                f"condition {name!r} has shape {tuple(value.shape)}, but must be {(x.shape[0], *kind.shape)}."
            )
        present = condition.presence(name).reshape(-1, *([1] * len(kind.shape)))
        flag = present.to(x.dtype).expand(-1, 1, *kind.shape[1:])
        channels[name] = torch.cat([torch.where(present, value.to(x.dtype), 0), flag], dim=1)
    return channels


class LogSNREmbedding(nn.Module):
    """Fourier features of λ: [cos(ω_i λ), sin(ω_i λ)] with ω_i geometric from π/40 to 10 radians per unit of λ.

    The slowest sine is monotone over the whole clamped range [-20, 20]; the fastest resolves steps of about 0.1.
    Shapes: [B] -> [B, features], always float32.
    """

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        if natural_number("features", features, 4) % 2:
            raise AnydiffError(f"features is {features}, but must be even (a cosine and a sine per frequency).")
        frequencies = torch.logspace(math.log10(math.pi / 40), 1.0, features // 2, dtype=torch.float64)
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, log_snr: Tensor) -> Tensor:
        """Map λ [B] (any finite or infinite value) to its features [B, features]."""
        clamped = log_snr.clamp(-LOG_SNR_BOUND, LOG_SNR_BOUND).float()
        angles = clamped[:, None] * self.frequencies.float()
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class ConditionEncoder(nn.Module):
    """Sum of one embedding per condition, each with a learned null embedding for "absent".

    A condition is absent for the whole batch when it is not given, and in the rows where it is not present; whatever
    the absent rows hold (a label of -1, NaN) has no influence.

    Args:
        conditions: name -> :class:`ClassCondition` or :class:`VectorCondition`; may be empty.
            An :class:`ArrayCondition` is refused.
        width: size of the embedding.
    """

    conditions: dict[str, ClassCondition | VectorCondition]

    def __init__(self, conditions: Mapping[str, Condition], width: int) -> None:
        super().__init__()
        natural_number("width", width)
        self.conditions = {}
        self.width = width
        self.embeddings = nn.ModuleDict()
        self.nulls = nn.ParameterDict()
        for name, condition in conditions.items():
            if not name.isidentifier():
                raise AnydiffError(f"condition {name!r} must be a plain identifier; rename it.")
            if isinstance(condition, ArrayCondition):
                raise AnydiffError(
                    f"condition {name!r} is an array of shape {condition.shape}, which this network cannot read; "
                    "choose one that can (unet, where the array has the state's spatial shape), or a VectorCondition."
                )
            size = condition.classes if isinstance(condition, ClassCondition) else condition.size
            self.conditions[name] = condition
            # A class is a one-hot vector, so hard and soft labels share one linear map without bias.
            embedding = nn.Linear(size, width, bias=isinstance(condition, VectorCondition))
            if isinstance(condition, ClassCondition):
                nn.init.normal_(embedding.weight, std=0.5)
            self.embeddings[name] = embedding
            self.nulls[name] = nn.Parameter(torch.zeros(width))
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)

    def forward(self, batch_size: int, condition: Conditioning) -> Tensor:
        """Return [B, width] from what is given.

        Raises:
            UnknownNameError: a name that is no condition of this network.
            AnydiffError: a condition of the wrong shape or a class out of range.
        """
        for name in (*condition.given, *condition.present):
            if name not in self.conditions:
                raise UnknownNameError("condition", name, self.conditions)
        anchor = self.get_buffer("_anchor")
        total = anchor.new_zeros(batch_size, self.width)
        for name, kind in self.conditions.items():
            null = self.nulls[name].expand(batch_size, -1)
            value = condition.given.get(name)
            if value is None:
                total = total + null
                continue
            present = condition.presence(name)
            embedded = self._embed(name, kind, value, present, batch_size)
            # `where` keeps both branches in the graph, so that no parameter is ever unused under DDP.
            total = total + torch.where(present[:, None], embedded, null)
        return total

    def _embed(
        self, name: str, kind: ClassCondition | VectorCondition, value: Tensor, present: Tensor, batch_size: int
    ) -> Tensor:
        embedding = self.embeddings[name]
        assert isinstance(embedding, nn.Linear)
        if present.shape != (batch_size,):
            raise AnydiffError(
                f"the presence of condition {name!r} has shape {tuple(present.shape)}, but must be ({batch_size},)."
            )
        if isinstance(kind, ClassCondition) and not value.is_floating_point():
            if value.shape != (batch_size,):
                raise AnydiffError(
                    f"condition {name!r} has shape {tuple(value.shape)}, but class labels must be ({batch_size},)."
                )
            labels = torch.where(present, value, 0).long()
            # Only on the host: elsewhere the check would force a synchronisation in every call.
            if labels.device.type == "cpu" and bool(((labels < 0) | (labels >= kind.classes)).any()):
                wrong = int(labels[(labels < 0) | (labels >= kind.classes)][0])
                raise AnydiffError(f"condition {name!r} has class {wrong}, but must lie in 0 to {kind.classes - 1}.")
            return functional.embedding(labels, embedding.weight.T)
        if value.shape != (batch_size, embedding.in_features):
            raise AnydiffError(
                f"condition {name!r} has shape {tuple(value.shape)}, "
                f"but must be ({batch_size}, {embedding.in_features})."
            )
        values = torch.where(present[:, None], value, 0).to(embedding.weight.dtype)
        return functional.linear(values, embedding.weight, embedding.bias)


class ConditionEmbedding(nn.Module):
    """What is told of the time and conditions to one vector: Linear(SiLU(Linear(features) + Σ conditions)), then SiLU.

    Computed in float32 even under autocast: it is one row per sample, and λ needs the digits.

    Args:
        conditions: name -> condition.
        width: of the vector.
        told: how many numbers are told (``path.told_size``); 0 for one per sample, the log-SNR.
        per_position: whether times per position, ``[B, n]``, are taken too; then the vector is one per position.
    """

    def __init__(
        self, conditions: Mapping[str, Condition], width: int, told: int = 0, per_position: bool = False
    ) -> None:
        super().__init__()
        self.width = width
        self.told = natural_number("told", told, minimum=0)
        self.per_position = per_position
        self.log_snr_embedding = LogSNREmbedding(features=64)
        self.entry = nn.Linear(64 * max(told, 1), width)
        self.encoder = ConditionEncoder(conditions, width)
        self.exit = nn.Linear(width, width)

    def forward(self, log_snr: Tensor, batch_size: int, condition: Conditioning) -> Tensor:
        """Return [B, width] from λ ([B] or a scalar), or whatever the path tells ([B, told]), and the condition.

        ``[B, n, width]`` from λ ``[B, n]`` (or ``[B, n, told]``) where it is made for times per position.
        """
        if log_snr.ndim == 0:
            log_snr = log_snr.expand(batch_size)
        own = (self.told,) if self.told else ()
        wanted: tuple[int, ...] = (batch_size, *own)
        rows: tuple[int, ...] = (batch_size,)
        if self.per_position and log_snr.ndim == len(wanted) + 1:
            rows = (batch_size, log_snr.shape[1])
        if log_snr.shape != (*rows, *own):
            raise AnydiffError(
                f"log_snr has shape {tuple(log_snr.shape)}, but must be {wanted}: one per sample. This network "
                f"is told {self.told or 1} number(s) of the time; train one on this path."
            )
        with torch.autocast(log_snr.device.type, enabled=False):
            features = self.log_snr_embedding(log_snr.flatten()).reshape(*rows, -1).to(self.entry.weight.dtype)
            told = self.encoder(batch_size, condition)
            hidden = self.entry(features) + (told if len(rows) == 1 else told[:, None])
            return functional.silu(self.exit(functional.silu(hidden)))
