"""The network ``token-energy``: the trunk of ``tokens`` reads a noised and a clean state, and gives one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anydiff.networks.layers import in_full_precision
from anydiff.networks.sequence.tokens import Tokens
from anydiff.states import UNCONDITIONAL, Condition, Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable

    from anydiff.states import StateSpec


class TokenEnergy(Tokens):
    """``tokens`` with a head ``energy``: E(x_0, x_t) of whole states (Xu et al. 2024, arXiv:2410.21357).

    Each place reads its noised class and its clean one, by a linear layer of both embeddings; the mean over the places
    of what the trunk makes of them goes through a layer more to a number. It may begin with the weights of a model of
    ``tokens`` (``--from``, ``--partial``), whose embedding and trunk are its own. Called as a denoiser it gives the
    logits of ``tokens``, which its own training does not train.

    Args:
        spec: the state.
        conditions: as for ``tokens``.
        options: of ``tokens``: width, blocks, heads, expansion, dropout, reads_time. It is never causal.

    Raises:
        AnydiffError: an option out of range, or a state that is not one categorical leaf of one or two axes.
    """

    def __init__(
        self, spec: StateSpec, conditions: Mapping[str, Condition] | None = None, *, width: int = 128, blocks: int = 4,
        heads: int = 4, expansion: int = 4, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(
            spec, conditions, width=width, blocks=blocks, heads=heads, expansion=expansion, dropout=dropout
        )
        self.pair = nn.Linear(2 * width, width)
        self.scalar = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1, bias=False))

    @property
    def heads(self) -> Mapping[str, Callable[..., Any]]:
        """``energy``."""
        return {"energy": self.energy}

    def energy(self, candidates: Tensor, x: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E ``[B, k]``, float32, of clean ``candidates [B, k, *shape]`` beside the noised ``x [B, *shape]``."""
        rows, count = candidates.shape[:2]
        noised = self.embedding(self.checked(x).flatten(1)).repeat_interleave(count, dim=0)
        clean = self.embedding(self.checked(candidates.flatten(0, 1)).flatten(1))
        given = condition.rows(torch.arange(rows, device=x.device).repeat_interleave(count))
        features = self.trunk(self.pair(torch.cat([noised, clean], dim=-1)), *self.told(rows * count, given))
        return in_full_precision(self.scalar, features.mean(dim=1)).reshape(rows, count)
