"""Shared backbones, conditioned on the log-SNR: MLP (flat states), U-Net and DiT (1, 2 or 3 spatial dimensions).

Every network is ``network(x[B, *shape], log_snr[B], condition) -> [B, *shape]``; what that prediction means (noise,
data, velocity, ...) is the parametrisation's business, in :mod:`anydiff.denoisers`.
"""

from anydiff.networks.autoencoder import Autoencoder
from anydiff.networks.conditioning import (
    ConditionEmbedding,
    ConditionEncoder,
    LogSNREmbedding,
    split_conditions,
)
from anydiff.networks.dit import DiT
from anydiff.networks.foreign import ForeignNetwork
from anydiff.networks.heads import Heads
from anydiff.networks.memory import MemoryEstimate, counted_memory, estimate_memory
from anydiff.networks.mlp import MLP
from anydiff.networks.unet import UNet

__all__ = [
    "MLP",
    "Autoencoder",
    "ConditionEmbedding",
    "ConditionEncoder",
    "DiT",
    "ForeignNetwork",
    "Heads",
    "LogSNREmbedding",
    "MemoryEstimate",
    "UNet",
    "counted_memory",
    "estimate_memory",
    "split_conditions",
]
