"""Solvers compile a path and a time grid into a plan; one executor runs every plan (DESIGN 4)."""

from anydiff.solvers.adams import ExponentialAdams
from anydiff.solvers.base import ENDS, Solver, build_plan, compile_plan
from anydiff.solvers.coupled import Coupled, cells
from anydiff.solvers.ddim import DDIM, DDPM, ddim_row
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.dpm_solver_v3 import DPMSolverV3, Statistics
from anydiff.solvers.executor import Step, execute
from anydiff.solvers.exponential import checked_choice, step_size
from anydiff.solvers.interpolant import InterpolantSolver
from anydiff.solvers.plan import Plan
from anydiff.solvers.predictor_corrector import (
    EulerMaruyama,
    Predictor,
    PredictorCorrector,
    langevin_step,
    predicted,
    score_of,
)
from anydiff.solvers.program import LinearForm, Node, Program
from anydiff.solvers.rddm import RDDMSolver
from anydiff.solvers.runge_kutta import EDMHeun, Euler
from anydiff.solvers.snapshots import Snapshot, advance, resume, shared
from anydiff.solvers.start import Fixed, Prior, PriorAt, Start
from anydiff.solvers.usf import USF, Record

__all__ = [
    "DDIM",
    "DDPM",
    "ENDS",
    "USF",
    "Coupled",
    "DPMSolverPP",
    "DPMSolverV3",
    "EDMHeun",
    "Euler",
    "EulerMaruyama",
    "ExponentialAdams",
    "Fixed",
    "InterpolantSolver",
    "LinearForm",
    "Node",
    "Plan",
    "Predictor",
    "PredictorCorrector",
    "Prior",
    "PriorAt",
    "Program",
    "RDDMSolver",
    "Record",
    "Snapshot",
    "Solver",
    "Start",
    "Statistics",
    "Step",
    "advance",
    "build_plan",
    "cells",
    "checked_choice",
    "compile_plan",
    "ddim_row",
    "execute",
    "langevin_step",
    "predicted",
    "resume",
    "score_of",
    "shared",
    "step_size",
]
