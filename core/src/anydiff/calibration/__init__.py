"""Solvers that learn their coefficients: a search whose result must win on fresh noise, and is of one model alone."""

from anydiff.calibration.artefact import Artefact, Entry
from anydiff.calibration.autodiffusion import AutoDiffusion, Grids, Indices, nodes_of, search_grid, uniform
from anydiff.calibration.calibrate import Setting, calibrate, framed, guidance_text, plan_of_entry
from anydiff.calibration.dc_solver import DCSolver
from anydiff.calibration.dpm_ot import DPMOT, memorisation_ratio
from anydiff.calibration.dpm_solver_v3 import DPMSolverV3Statistics
from anydiff.calibration.objective import median_distance
from anydiff.calibration.reference import Trials
from anydiff.calibration.s3 import S3
from anydiff.calibration.search import Found, Method, Spending, SpentError, bounded_minimum
from anydiff.calibration.statistics import Sampled, estimate, statistic_times
from anydiff.calibration.transport import Transport, semi_discrete

__all__ = [
    "DPMOT",
    "S3",
    "Artefact",
    "AutoDiffusion",
    "DCSolver",
    "DPMSolverV3Statistics",
    "Entry",
    "Found",
    "Grids",
    "Indices",
    "Method",
    "Sampled",
    "Setting",
    "Spending",
    "SpentError",
    "Transport",
    "Trials",
    "bounded_minimum",
    "calibrate",
    "estimate",
    "framed",
    "guidance_text",
    "median_distance",
    "memorisation_ratio",
    "nodes_of",
    "plan_of_entry",
    "search_grid",
    "semi_discrete",
    "statistic_times",
    "uniform",
]
