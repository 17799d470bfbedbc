"""What stands where in a call of a sequence network, and the one rule of who may look at whom.

Every mask of every method is made here: causal, full, prefix, block-causal and skip-causal are the same function of
other places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CLEAN, NOISED, PREFIX = 0, 1, 2
"""Roles of a token: a finished position, one that is being drawn, and one that all see and that sees its like alone."""


@dataclass(frozen=True)
class Places:
    """One entry per token, each ``[N]`` or ``[B, N]``.

    Attributes:
        turn: in which turn of the order the token's position is drawn.
        role: :data:`CLEAN`, :data:`NOISED` or :data:`PREFIX`.
        position: the token's position in the order of the cut, by which its coordinates are found. Clean and noised
            tokens of one position share it.
        segment: which copy of a packed call a noised token belongs to; copies do not see each other. Clean tokens are
            seen by all of them.
    """

    turn: Tensor
    role: Tensor
    position: Tensor
    segment: Tensor

    @classmethod
    def of(cls, turn: Tensor, role: int, position: Tensor | None = None, segment: int = 0) -> Places:
        """Tokens of one role and segment; positions count from 0 where they are not given."""
        place = torch.arange(turn.shape[-1], device=turn.device).expand(turn.shape) if position is None else position
        return cls(turn, torch.full_like(turn, role), place, torch.full_like(turn, segment))

    def then(self, other: Places) -> Places:
        """These tokens and, behind them, those of ``other``."""
        return Places(*(_joined(one, two) for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


def _joined(one: Tensor, two: Tensor) -> Tensor:
    if one.ndim != two.ndim:
        rows = one.shape[0] if one.ndim > 1 else two.shape[0]
        one, two = (each if each.ndim > 1 else each.expand(rows, -1) for each in (one, two))
    return torch.cat([one, two], dim=-1)


def allowed(query: Places, key: Places, window: int | None = None) -> Tensor:
    """Whether each query may look at each key: bool ``[N, M]``, or ``[B, N, M]``.

    - a prefix is seen by all, and sees prefixes alone;
    - a clean token sees the clean ones of its own turn and of those before;
    - a noised token sees the clean ones of the turns before its own, never the clean copy of itself, and the noised
      ones of its own turn and segment;
    - with a window of w turns, clean tokens that lie more than w turns back are not seen.
    """
    turn, role, segment = (each[..., :, None] for each in (query.turn, query.role, query.segment))
    other, kind, group = (each[..., None, :] for each in (key.turn, key.role, key.segment))
    behind = turn - other
    seen = torch.where(role == CLEAN, behind >= 0, behind > 0) & (kind == CLEAN) & (role != PREFIX)
    if window is not None:
        seen = seen & (behind <= window)
    own = (kind == NOISED) & (role == NOISED) & (behind == 0) & (segment == group)
    return seen | own | (kind == PREFIX)
