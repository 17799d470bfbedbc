"""The network ``tokens``: classes on a line or a grid, the mask among them, to logits of the clean classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks.conditioning import ConditionEmbedding, ConditionEncoder, split_conditions
from anydiff.networks.layers import in_full_precision, zero_initialised
from anydiff.networks.sequence.trunk import BlockOptions, Trunk
from anydiff.states import UNCONDITIONAL, Condition, Conditioning

if TYPE_CHECKING:
    from anydiff.states import StateSpec


class Tokens(nn.Module):
    """Transformer over classes: int64 ``[B, *shape]`` with values 0 to K (K the mask) to logits ``[B, *shape, K]``.

    A state has one categorical leaf of one axis (a text) or two (a picture of codes). Positions are rotary, per axis.
    Conditions of one vector modulate every block (adaLN); array conditions ``(M, channels)`` or ``(M,)`` are read by
    cross-attention.

    Args:
        spec: the state.
        conditions: name -> condition, see :mod:`anydiff.states.conditions`.
        width: channels per token.
        blocks: number of transformer blocks.
        heads: attention heads.
        expansion: hidden size of the MLP in units of ``width``.
        dropout: probability in each block, in [0, 1).
        reads_time: whether the network is told λ_t. On a masked path the state says all that the time could (Ou et al.
            2024, arXiv:2406.03736), so it is not by default, and predictions of unchanged rows can be kept.
        causal: whether the prediction of a place sees the places before it alone, in order of rows: autoregression.

    The output layer starts at zero, so an untrained network predicts all classes alike.

    Raises:
        AnydiffError: an option out of range, or a state that is not one categorical leaf of one or two axes.
    """

    def __init__(
        self, spec: StateSpec, conditions: Mapping[str, Condition] | None = None, *, width: int = 128, blocks: int = 4,
        heads: int = 4, expansion: int = 4, dropout: float = 0.0, reads_time: bool = False, causal: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        leaf = spec.leaves[0]
        if len(spec.leaves) != 1 or leaf.classes is None or len(leaf.shape) not in (1, 2):
            raise AnydiffError(
                f"the network 'tokens' reads states of one categorical leaf with one axis or two, but the state has "
                f"{', '.join(f'{each.name} {each.kind} {each.shape}' for each in spec.leaves)}; choose another network."
            )
        vectors, arrays = split_conditions(conditions or {})
        self.shape, self.classes, self.reads_time = leaf.shape, leaf.classes, bool(reads_time)
        self.causal = bool(causal)
        self.embedding = nn.Embedding(leaf.classes + 1, natural_number("width", width))
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.conditioning = ConditionEmbedding(vectors, width) if reads_time else None
        self.encoder = ConditionEncoder(vectors, width) if vectors and not reads_time else None
        self.arrays = nn.ModuleDict(
            {name: nn.Linear(kind.shape[-1] if len(kind.shape) > 1 else 1, width) for name, kind in arrays.items()}
        )
        self.absent = nn.Parameter(torch.zeros(1, 1, width)) if arrays else None
        reads = {"modulated": bool(reads_time or vectors), "crossed": bool(arrays)}
        self.trunk = Trunk(leaf.shape, blocks, BlockOptions(width, heads, expansion, dropout, causal, **reads))
        self.exit = zero_initialised(nn.Linear(width, leaf.classes))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Logits ``[B, *shape, K]`` of the clean classes, from classes ``x [B, *shape]`` and λ ``[B]``.

        Raises:
            AnydiffError: a state of another shape, or a class that is none of 0 to K.
        """
        return self.read(self.features(x, log_snr, condition), self.exit)

    def features(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """What the last layer reads, ``[B, N, width]``; arguments as for :meth:`forward`."""
        seen = self.checked(x).flatten(1)
        if self.causal:  # a place reads what was before it; the first one a mask
            seen = torch.cat([torch.full_like(seen[:, :1], self.classes), seen[:, :-1]], dim=1)
        return self.trunk(self.embedding(seen), *self.told(x.shape[0], condition, log_snr))  # type: ignore[no-any-return]

    def checked(self, x: Tensor) -> Tensor:
        """``x [B, *shape]`` itself; arguments and errors as for :meth:`forward`."""
        if tuple(x.shape[1:]) != self.shape:
            raise AnydiffError(f"the state has shape {tuple(x.shape)}, but the network expects [B, {self.shape}].")
        if x.is_floating_point():
            raise AnydiffError(f"the state is {x.dtype}, but the network reads classes; give int64.")
        if x.is_cpu and x.numel() and (int(x.min()) < 0 or int(x.max()) > self.classes):
            raise AnydiffError(
                f"the state holds classes from {int(x.min())} to {int(x.max())}, but the network knows 0 to "
                f"{self.classes - 1} and the mask {self.classes}; correct the data or the vocabulary."
            )
        return x

    def told(
        self, rows: int, condition: Conditioning, log_snr: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the blocks are told beside the tokens: a vector ``[B, width]`` and a context ``[B, M, width]``."""
        vector = None
        if self.conditioning is not None and log_snr is not None:
            vector = self.conditioning(log_snr, rows, condition.without(self.arrays))
        elif self.encoder is not None:
            vector = self.encoder(rows, condition.without(self.arrays))
        return vector, self._context(rows, condition)

    def read(self, features: Tensor, exit: nn.Module) -> Tensor:
        """Logits from the features, by a last layer."""
        logits = in_full_precision(exit, features)
        return logits.reshape(len(logits), *self.shape, -1)

    def _context(self, rows: int, condition: Conditioning) -> Tensor | None:
        """All array conditions as tokens ``[B, M, width]``; an absent one is its learnt null."""
        if self.absent is None:
            return None
        parts = [self.absent.expand(rows, 1, -1)]
        for name, layer in self.arrays.items():
            value = condition.given.get(name)
            if value is None:
                continue
            there = condition.presence(name)[:, None, None]
            array = torch.where(there, (value if value.ndim > 2 else value[..., None]).flatten(1, -2), 0)
            parts.append(torch.where(there, layer(array.to(self.embedding.weight.dtype)), self.absent))
        return torch.cat(parts, dim=1)
