"""Drawing a class from logits, by inverse CDF of one number in (0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.errors import NonFiniteError


def draw_class(logits: Tensor, uniform: Tensor) -> Tensor:
    """One class of each row of ``logits [N, K]`` by inverse CDF of ``uniform [N]`` in (0, 1): int64 ``[N]``.

    Raises:
        NonFiniteError: a row holds a NaN or +inf, or -inf alone.
    """
    weights = logits.double()
    weights = torch.exp(weights - weights.amax(dim=-1, keepdim=True))
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1]
    if not bool(torch.isfinite(total).all()):
        raise bad_logits(int((~torch.isfinite(total)).nonzero()[0, 0]))
    # The greatest number below the total, so that a class of weight 0 is never reached at either end.
    level = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, level[:, None].contiguous(), right=True)[:, 0]


def bad_logits(row: int) -> NonFiniteError:
    """What to say of logits from which nothing can be drawn."""
    return NonFiniteError(
        f"the prediction of classes holds a NaN, +inf, or -inf for every class (first in entry {row} of those that are "
        "drawn), so no class can be drawn; check the network, or sample in float32."
    )
