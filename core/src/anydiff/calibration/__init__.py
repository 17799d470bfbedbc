"""Solvers that learn their coefficients: a search whose result must win on fresh noise, and is of one model alone."""

from anydiff.calibration.artefact import Artefact, Entry
from anydiff.calibration.autodiffusion import AutoDiffusion
from anydiff.calibration.calibrate import Setting, calibrate, framed, guidance_text, plan_of_entry
from anydiff.calibration.dc_solver import DCSolver
from anydiff.calibration.dpm_solver_v3 import DPMSolverV3Statistics
from anydiff.calibration.s3 import S3
from anydiff.calibration.search import Found, Method, Spending, bounded_minimum

__all__ = [
    "METHODS",
    "S3",
    "Artefact",
    "AutoDiffusion",
    "DCSolver",
    "DPMSolverV3Statistics",
    "Entry",
    "Found",
    "Method",
    "Setting",
    "Spending",
    "bounded_minimum",
    "calibrate",
    "framed",
    "guidance_text",
    "plan_of_entry",
]

METHODS: dict[str, type[Method]] = {each.name: each for each in (DCSolver, DPMSolverV3Statistics, S3, AutoDiffusion)}
"""The methods by name."""
