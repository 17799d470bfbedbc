"""The shape, leaves and symmetries of one sample; packing; per-sample random streams (DESIGN 2 and 6)."""

from anydiff.states.conditions import (
    UNCONDITIONAL,
    ArrayCondition,
    ClassCondition,
    Condition,
    Conditioning,
    Known,
    VectorCondition,
)
from anydiff.states.draws import Draws
from anydiff.states.noise import GaussianNoise, NoiseLaw, NoiseSource, UniformNoise
from anydiff.states.order import Cut, Order, RandomOrder, positions_spec
from anydiff.states.spec import Leaf, StateSpec
from anydiff.states.streams import derived_seed, permutation, standard_normal, uniform
from anydiff.states.student_t import StudentTNoise

__all__ = [
    "UNCONDITIONAL",
    "ArrayCondition",
    "ClassCondition",
    "Condition",
    "Conditioning",
    "Cut",
    "Draws",
    "GaussianNoise",
    "Known",
    "Leaf",
    "NoiseLaw",
    "NoiseSource",
    "Order",
    "RandomOrder",
    "StateSpec",
    "StudentTNoise",
    "UniformNoise",
    "VectorCondition",
    "derived_seed",
    "permutation",
    "positions_spec",
    "standard_normal",
    "uniform",
]
