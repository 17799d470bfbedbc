"""Inverse problems: what was measured of a state, and states of which it was measured (docs/inverse.md)."""

from anydiff.inverse.ddnm import DDNM
from anydiff.inverse.ddrm import DDRM
from anydiff.inverse.descent import Adam, descend
from anydiff.inverse.diffusion_mbir import DiffusionMBIR
from anydiff.inverse.dps import DPS
from anydiff.inverse.method import GuidanceMethod, InverseMethod, PlanMethod, Solving
from anydiff.inverse.noise import AsymmetricLaplace, Gaussian, MeasurementNoise, Poisson
from anydiff.inverse.pigdm import MMPS, PiGDM
from anydiff.inverse.problem import Problem
from anydiff.inverse.red_diff import RedDiff
from anydiff.inverse.repaint import RePaint
from anydiff.inverse.symbols import SymbolOracle
from anydiff.inverse.tiramisu import Tiramisu
from anydiff.inverse.tractable import HiddenMarkov, Tree, chow_liu, one_hot

__all__ = [
    "DDNM",
    "DDRM",
    "DPS",
    "MMPS",
    "Adam",
    "AsymmetricLaplace",
    "DiffusionMBIR",
    "Gaussian",
    "GuidanceMethod",
    "HiddenMarkov",
    "InverseMethod",
    "MeasurementNoise",
    "PiGDM",
    "PlanMethod",
    "Poisson",
    "Problem",
    "RePaint",
    "RedDiff",
    "Solving",
    "SymbolOracle",
    "Tiramisu",
    "Tree",
    "chow_liu",
    "descend",
    "one_hot",
]
