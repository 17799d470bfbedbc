"""New models from trained ones: students of a teacher, samplers tuned as a whole, adaptation to a few examples."""

from anydiff.distillation.domain_studio import PairSimilarities, WaveletDetails, details, pair_divergence
from anydiff.distillation.mmd import MMD, kernel_values, squared_mmd
from anydiff.distillation.progressive import Progressive, halved, two_step_target
from anydiff.distillation.spectral import Spectral

__all__ = [
    "MMD",
    "PairSimilarities",
    "Progressive",
    "Spectral",
    "WaveletDetails",
    "details",
    "halved",
    "kernel_values",
    "pair_divergence",
    "squared_mmd",
    "two_step_target",
]
