"""How data becomes noise, and at which times a sampler stops (DESIGN 3)."""

from anydiff.paths.base import GaussianPath, LinearPath
from anydiff.paths.categorical import CategoricalPath, Marginal, MaskAndReplace, Masked, Uniform
from anydiff.paths.flow import Flow, ShiftedFlow
from anydiff.paths.foreign import Foreign, Scheduled, foreign
from anydiff.paths.grids import GRIDS, power, time_grid
from anydiff.paths.interpolant import Interpolant, OneSided
from anydiff.paths.known_shift import KnownShift, known_shift
from anydiff.paths.ladder import DiscreteVP, Ladder
from anydiff.paths.mean_reverting import MeanReverting
from anydiff.paths.mean_shift import Aggregated, MeanShift
from anydiff.paths.ornstein_uhlenbeck import OrnsteinUhlenbeck
from anydiff.paths.path import ClockedPath, Path, check_range
from anydiff.paths.pfgm_pp import PFGMPlusPlus
from anydiff.paths.product import ProductPath
from anydiff.paths.rddm import RDDM
from anydiff.paths.variance_exploding import EDM, VE, ExponentialVE
from anydiff.paths.variance_preserving import SubVP, VPCosine, VPLinear, VPLogSNR

__all__ = [
    "EDM",
    "GRIDS",
    "RDDM",
    "VE",
    "Aggregated",
    "CategoricalPath",
    "ClockedPath",
    "DiscreteVP",
    "ExponentialVE",
    "Flow",
    "Foreign",
    "GaussianPath",
    "Interpolant",
    "KnownShift",
    "Ladder",
    "LinearPath",
    "Marginal",
    "MaskAndReplace",
    "Masked",
    "MeanReverting",
    "MeanShift",
    "OneSided",
    "OrnsteinUhlenbeck",
    "PFGMPlusPlus",
    "Path",
    "ProductPath",
    "Scheduled",
    "ShiftedFlow",
    "SubVP",
    "Uniform",
    "VPCosine",
    "VPLinear",
    "VPLogSNR",
    "check_range",
    "foreign",
    "known_shift",
    "power",
    "time_grid",
]
