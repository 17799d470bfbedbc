"""The shape, leaves and symmetries of one sample; packing; per-sample random streams (DESIGN 2 and 6)."""

from anydiff.states.noise import GaussianNoise, NoiseLaw, NoiseSource
from anydiff.states.spec import NODE_MASK, TRUTH, Leaf, StateSpec
from anydiff.states.streams import permutation, standard_normal, uniform

__all__ = [
    "NODE_MASK",
    "TRUTH",
    "GaussianNoise",
    "Leaf",
    "NoiseLaw",
    "NoiseSource",
    "StateSpec",
    "permutation",
    "standard_normal",
    "uniform",
]
