"""Residual multilayer perceptron with FiLM conditioning (Perez et al. 2017, arXiv:1709.07871), for flat states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import natural_number
from anydiff.networks.conditioning import ConditionEmbedding
from anydiff.networks.layers import check_input, in_full_precision, probability, zero_initialised
from anydiff.states import UNCONDITIONAL, Condition, Conditioning

if TYPE_CHECKING:
    from anydiff.states import StateSpec


class _Block(nn.Module):
    """h + W₂ dropout(silu(W₁ ((1 + scale) ⊙ norm(h) + shift))), W₂ = 0 at the start."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = nn.Linear(embedding, 2 * width)
        self.entry = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.exit = zero_initialised(nn.Linear(width, width))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding).chunk(2, dim=1)
        inner = functional.silu(self.entry(self.norm(hidden) * (1 + scale) + shift))
        return hidden + self.exit(self.dropout(inner))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """MLP over the flattened state: ``[B, *shape] -> [B, *shape]``.

    Args:
        spec: the state; any shape, flattened inside.
        conditions: name -> condition, see :mod:`anydiff.states.conditions`.
        width: hidden size.
        blocks: number of residual blocks.
        dropout: probability inside each block, in [0, 1).
        told: how many numbers the path tells of the time (:attr:`anydiff.paths.LinearPath.told_size`); set by the core.

    The output layer starts at zero, so an untrained network predicts zero.

    Raises:
        AnydiffError: an option out of range.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        width: int = 256,
        blocks: int = 4,
        dropout: float = 0.0,
        told: int = 0,
    ) -> None:
        super().__init__()
        natural_number("width", width)
        natural_number("blocks", blocks)
        probability("dropout", dropout)
        self.shape, self.width = tuple(spec.shape), width
        size = math.prod(self.shape)
        self.conditioning = ConditionEmbedding(conditions or {}, width, told)
        self.entry = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width, width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.exit = zero_initialised(nn.Linear(width, size))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction [B, *shape], in the dtype of ``x``, from the scaled state and λ [B]."""
        return self.read(self.features(x, log_snr, condition), x, self.exit)

    def features(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """What the last layer reads, ``[B, width]``; arguments as for :meth:`forward`."""
        check_input(x, self.shape)
        embedding = self.conditioning(log_snr, x.shape[0], condition)
        hidden = self.entry(x.flatten(1).to(self.entry.weight.dtype))
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return functional.silu(self.norm(hidden))

    def read(self, features: Tensor, x: Tensor, exit: nn.Module) -> Tensor:
        """A prediction like the state ``x`` from the features, by a last layer."""
        return in_full_precision(exit, features).reshape(x.shape).to(x.dtype)

    def pooled(self, features: Tensor) -> Tensor:
        """One vector per sample, ``[B, width]``."""
        return features
