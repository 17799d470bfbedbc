"""Solvers compile a path and a time grid into a plan; one executor runs every plan (DESIGN 4)."""

from anydiff.solvers.base import ENDS, Solver, build_plan, compile_plan
from anydiff.solvers.executor import Step, execute
from anydiff.solvers.plan import Plan
from anydiff.solvers.program import LinearForm, Node, Program

__all__ = [
    "ENDS",
    "LinearForm",
    "Node",
    "Plan",
    "Program",
    "Solver",
    "Step",
    "build_plan",
    "compile_plan",
    "execute",
]
