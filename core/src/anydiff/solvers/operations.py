"""The operations that an Apply instruction can name without the caller's help: what is not linear in the state.

An operation is ``f(*registers, t=time, **options) -> Tensor``; its options are plain data, so the plan stays data. It
must treat each sample on its own, or a sample would depend on the batch it is drawn in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def langevin(x: Tensor, score: Tensor, noise: Tensor, *, t: float, snr: float, scale: float) -> Tensor:
    """One Langevin step x + s ∇log p + sqrt(2 s) z with s = 2 scale (snr |z|/|∇log p|)² per sample ``[B, *shape]``.

    Song et al., ICLR 2021, algorithms 4 and 5. They average both norms over the batch; here every sample has its own.
    """
    norm = score.flatten(1).norm(dim=1)
    ratio = noise.flatten(1).norm(dim=1) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    step = (2 * scale * (snr * ratio) ** 2).reshape(-1, *([1] * (x.ndim - 1)))
    # A score of zero sets no length: stay.
    step = torch.where(torch.isfinite(step), step, torch.zeros_like(step))
    return x + step * score + torch.sqrt(2 * step) * noise


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {"langevin": langevin}
