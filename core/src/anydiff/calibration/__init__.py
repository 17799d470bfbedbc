"""Solvers that learn their coefficients: a search whose result must win on fresh noise, and is of one model alone."""

from anydiff.calibration.artefact import Artefact, Entry
from anydiff.calibration.calibrate import Setting, calibrate, framed, guidance_text, plan_of_entry
from anydiff.calibration.dc_solver import DCSolver
from anydiff.calibration.search import Found, Method, Spending, bounded_minimum

__all__ = [
    "METHODS",
    "Artefact",
    "DCSolver",
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

METHODS: dict[str, type[Method]] = {DCSolver.name: DCSolver}
"""The methods by name."""
