"""How data becomes noise, and at which times a sampler stops (DESIGN 3)."""

from anydiff.paths.base import GaussianPath, LinearPath, check_range
from anydiff.paths.flow import Flow
from anydiff.paths.grids import GRIDS, power, time_grid
from anydiff.paths.mean_reverting import MeanReverting
from anydiff.paths.ornstein_uhlenbeck import OrnsteinUhlenbeck
from anydiff.paths.product import ProductPath
from anydiff.paths.variance_exploding import EDM, VE, ExponentialVE
from anydiff.paths.variance_preserving import SubVP, VPCosine, VPLinear, VPLogSNR

Path = GaussianPath

__all__ = [
    "EDM",
    "GRIDS",
    "VE",
    "ExponentialVE",
    "Flow",
    "GaussianPath",
    "LinearPath",
    "MeanReverting",
    "OrnsteinUhlenbeck",
    "Path",
    "ProductPath",
    "SubVP",
    "VPCosine",
    "VPLinear",
    "VPLogSNR",
    "check_range",
    "power",
    "time_grid",
]
