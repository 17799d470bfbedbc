"""Our deterministic solvers on our grids."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from anydiff.denoisers import FunctionDenoiser
from anydiff.paths.grids import GRIDS, time_grid
from anydiff.registry import registry
from anydiff.solvers import compile_plan, execute
from anydiff_benchmarks.peers.cases import Case, Counted
from anydiff_benchmarks.peers.targets import PATH

#: Beside every registered deterministic solver with its defaults: (name, options).
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("unipc-2", {"prediction": "noise"}),
    ("unipc-3", {"prediction": "noise"}),
    ("unipc-3", {"prediction": "noise", "degree": 4}),
    ("unipc-2", {"variant": "bh1"}),
    ("unipc-3", {"lower_order_final": True}),
    ("adams-2", {"prediction": "data"}),
    ("adams-3", {"prediction": "data"}),
    ("adams-4", {"prediction": "data"}),
    ("adams-4", {"order": 5}),
    ("adams-2", {"variable": "noise-level"}),
    ("adams-3", {"variable": "noise-level"}),
    ("adams-3", {"lower_order_final": True}),
    ("deis-2", {"lower_order_final": True}),
    ("deis-2", {"prediction": "data"}),
    ("deis-3", {"prediction": "data"}),
    ("dpm-solver++-2m", {"form": "taylor"}),
    ("dpm-solver++-2m", {"lower_order_final": True}),
    ("dpm-solver++-3m", {"lower_order_final": True}),
    *(
        ("benchmarks/velocity-adams", {"order": order, **options})
        for order in (2, 3, 4, 5)
        for options in ({}, {"corrector": False}, {"lower_order_final": True})
    ),
)

#: Exponents p of the grids that are uniform in t^(1/p); 1 is "time" and 2 "quadratic", and only the others are new.
POWERS = {"power-1.5": 1.5, "power-2.5": 2.5}


def cases() -> Iterator[Case]:
    """Every deterministic solver of the registry and every variant, on every grid."""
    names = [e.name for e in registry().entries("solvers") if e.plugin == "anydiff" and not e.metadata["stochastic"]]
    for name, options in [*((name, {}) for name in names), *VARIANTS]:
        text = name + "".join(f" {key}={value}" for key, value in options.items())
        for grid in (*GRIDS, *POWERS):
            yield Case("anydiff", text, grid, functools.partial(_run, name, options, grid))


def nodes(grid: str, steps: int) -> list[float]:
    """The times of a grid by its name."""
    if grid not in POWERS:
        return time_grid(PATH, steps, grid)
    power = POWERS[grid]
    inner = np.linspace(PATH.t_start ** (1 / power), PATH.t_end ** (1 / power), steps + 1)[1:-1] ** power
    return [PATH.t_start, *(float(t) for t in inner), PATH.t_end]


def _run(name: str, options: dict[str, Any], grid: str, denoise: Counted, nfe: int) -> Tensor:
    solver = registry().build("solvers", name, **options)
    plan = compile_plan(solver, PATH, nfe, nodes(grid, solver.steps(nfe)))

    def data(x: Tensor, t: float) -> Tensor:
        denoise.calls += 1
        return denoise.target.oracle(x, t)

    return execute(plan, FunctionDenoiser(data, PATH), denoise.target.start)
