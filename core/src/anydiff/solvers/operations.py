"""The operations that an Apply instruction can name without the caller's help: what is not linear in the state.

An operation is ``f(*registers, t=time, **options) -> Tensor``; its options are plain data, so the plan stays data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import UnknownNameError


def langevin(
    x: Tensor, score: Tensor, noise: Tensor, *, t: float, snr: float, scale: float, noise_scale: float = 1.0
) -> Tensor:
    """One Langevin step x + s ∇log p + noise_scale sqrt(2 s) z with s = 2 scale (snr mean|z|/mean|∇log p|)².

    Song et al., ICLR 2021, algorithms 4 and 5: the means run over the batch, so the result depends on the batch.
    """
    norm = score.flatten(1).norm(dim=1).mean()
    if norm == 0:  # a score of zero sets no length: stay
        return x.clone()
    step = 2 * scale * (snr * noise.flatten(1).norm(dim=1).mean() / norm) ** 2
    moved: Tensor = x + step * score + noise_scale * torch.sqrt(2 * step) * noise
    return moved


def leafwise(
    *inputs: Tensor, t: float, operation: str, sizes: Sequence[int], options: Sequence[Mapping[str, Any]]
) -> Tensor:
    """Another operation on each leaf of packed states ``[B, D]``: leaf i has ``sizes[i]`` entries."""
    if operation not in OPERATIONS:
        raise UnknownNameError("operation", operation, OPERATIONS)
    columns = [torch.split(value.flatten(1), list(sizes), dim=1) for value in inputs]
    parts = [OPERATIONS[operation](*leaf, t=t, **given) for *leaf, given in zip(*columns, options, strict=True)]
    return torch.cat(parts, dim=1).reshape(inputs[0].shape)


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {"langevin": langevin, "leafwise": leafwise}
