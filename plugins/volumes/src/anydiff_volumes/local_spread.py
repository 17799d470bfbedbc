"""How far each voxel of the next frame may lie from its centre, told from the frames before it.

Air stays air and the inside of a tissue stays what it is; what a motion leaves open lies at edges. One spread for the
whole volume lets the air change by as much as an edge. A denoiser about such a law hands the noise of the air on, and
the network beside it has to take that noise away again voxel by voxel, which a short training does only roughly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.networks.layers import zero_initialised

_LARGEST = 5.0
"""The spread of a voxel lies within e^±5 times that of the whole volume."""


class LocalSpread(nn.Module):
    """Two convolutions from what is known of a sequence to a spread per voxel: ``[B, 3, *shape] -> [B, 1, *shape]``.

    The last one starts at zero, so that an untrained network gives every voxel the same spread.

    Args:
        spread: of all voxels before training, positive.
        channels: between the two convolutions.
    """

    def __init__(self, spread: float, channels: int = 8) -> None:
        super().__init__()
        self.spread = spread
        self.entry = nn.Conv3d(3, channels, 3, padding=1)
        self.exit = zero_initialised(nn.Conv3d(channels, 1, 1))

    def forward(self, frames: Tensor, seen: Tensor, latest: Tensor, line: Tensor) -> Tensor:
        """The spread of each voxel, positive.

        Args:
            frames: ``[B, T, *shape]``; whatever stands in frames that are not seen has no influence.
            seen: bool ``[B, T]``.
            latest: the latest frame that is seen ``[B, *shape]``.
            line: the straight line through the two latest ``[B, *shape]``.
        """
        visible = seen[:, :, None, None, None]
        differences = torch.where(visible, frames - latest[:, None], 0)
        moved = differences.square().sum(dim=1).add(1e-6).sqrt()
        known = torch.stack([latest, line - latest, moved], dim=1)
        hidden = functional.silu(self.entry(known))
        made: Tensor = self.exit(hidden).to(latest.dtype).clamp(-_LARGEST, _LARGEST)
        return self.spread * torch.exp(made)
