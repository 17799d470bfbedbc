"""Solvers that choose their steps while they solve: they have no plan, and their cost follows from tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.solvers import AdaptiveDPMSolver, AdaptiveODE, Solver

Adaptive = AdaptiveODE | AdaptiveDPMSolver
NAMES: Mapping[str, type[Adaptive]] = {"adaptive-ode": AdaptiveODE, "adaptive-dpm-solver": AdaptiveDPMSolver}
"""What they are called where a solver is given by name."""


def is_adaptive(solver: object) -> bool:
    """Whether ``solver`` is such a solver, or the name of one."""
    return isinstance(solver, (AdaptiveODE, AdaptiveDPMSolver)) or (isinstance(solver, str) and solver in NAMES)


def planned(solver: str | Solver | Adaptive | None) -> str | Solver | None:
    """``solver``, which compiles a plan.

    Raises:
        AnydiffError: it chooses its own steps.
    """
    if isinstance(solver, (AdaptiveODE, AdaptiveDPMSolver)) or is_adaptive(solver):
        raise AnydiffError(
            f"{solver!r} chooses its steps while it solves, so there is no plan of it; sample with it "
            "(pipeline.sample(..., solver=...), `anydiff sample --solver`), at a cost that follows from rtol and atol."
        )
    return solver


def adaptive_solver(solver: Any, nfe: int | None, options: Mapping[str, Any]) -> tuple[Adaptive, str]:
    """(the solver, its end rule) from a name or an object, and ``options``: ``end``, and the solver's own for a name.

    Raises:
        AnydiffError: a budget or a time grid, which these solvers do not take, or options beside an object.
        UnknownNameError: an option it does not have.
    """
    own = {name: value for name, value in options.items() if name != "end"}
    for name, value in (("nfe", nfe), ("grid", own.pop("grid", None))):
        if value is not None:
            raise AnydiffError(
                f"{name} is {value!r}, but an adaptive solver chooses its own steps; leave it out, and set rtol and "
                "atol instead."
            )
    end = options.get("end") or "clean"
    if not isinstance(solver, str):
        if own:
            raise AnydiffError(
                f"{next(iter(own))} is an option of a solver given by name, but solver is {solver!r}; set it there."
            )
        return solver, end
    made = NAMES[solver]
    known = [name for name, field in made.__dataclass_fields__.items() if field.init]
    for name in own:
        if name not in known:
            raise UnknownNameError(f"option of {solver}", name, known)
    return made(**own), end
