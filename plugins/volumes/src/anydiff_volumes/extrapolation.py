"""The next frame without a model: the latest one, or every voxel on a straight line in time."""

from __future__ import annotations

import torch
from torch import Tensor


def last_frame(frames: Tensor, seen: Tensor, times: Tensor, target_time: Tensor) -> Tensor:
    """The latest frame that was seen, unchanged: ``[B, X, Y, Z]``; zeros where none was.

    Args:
        frames: ``[B, T, X, Y, Z]``.
        seen: bool ``[B, T]``.
        times: ``[B, T]``.
        target_time: ``[B, 1]``.
    """
    latest = torch.where(seen, times, -torch.inf).argmax(dim=1)
    chosen = frames[torch.arange(len(frames), device=frames.device), latest]
    return torch.where(seen.any(dim=1)[:, None, None, None], chosen, 0)


def interpolation(frames: Tensor, seen: Tensor, times: Tensor, target_time: Tensor) -> Tensor:
    """Every voxel on the straight line through its two latest values, at the target's time; arguments as above.

    With one frame seen it is that frame. What leaves the range [-1, 1] is clamped.
    """
    order = torch.where(seen, times, -torch.inf).topk(2, dim=1)
    rows = torch.arange(len(frames), device=frames.device)
    has_two = seen.sum(dim=1) > 1
    last, before = order.values.unbind(dim=1)
    share = torch.where(has_two, (target_time[:, 0] - last) / torch.where(has_two, last - before, 1), 0)
    latest = last_frame(frames, seen, times, target_time)
    earlier = torch.where(has_two[:, None, None, None], frames[rows, order.indices[:, 1]], latest)
    line = latest + share.reshape(-1, 1, 1, 1) * (latest - earlier)
    return line.clamp(-1, 1)
