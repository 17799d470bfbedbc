"""Inverse problems: what was measured of a state, and states of which it was measured (docs/inverse.md)."""

from anydiff.inverse.ddnm import DDNM
from anydiff.inverse.method import GuidanceMethod, InverseMethod, PlanMethod, Solving
from anydiff.inverse.noise import AsymmetricLaplace, Gaussian, MeasurementNoise, Poisson
from anydiff.inverse.pigdm import MMPS, PiGDM
from anydiff.inverse.problem import Problem

__all__ = [
    "DDNM",
    "MMPS",
    "AsymmetricLaplace",
    "Gaussian",
    "GuidanceMethod",
    "InverseMethod",
    "MeasurementNoise",
    "PiGDM",
    "PlanMethod",
    "Poisson",
    "Problem",
    "Solving",
]
