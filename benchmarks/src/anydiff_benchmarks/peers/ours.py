"""Our deterministic solvers on our grids."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from anydiff.denoisers import FunctionDenoiser
from anydiff.paths import GRIDS, power, time_grid
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
        ("velocity-adams", {"degree": degree, **options})
        for degree in (2, 3, 4, 5)
        for options in ({}, {"corrector": False}, {"lower_order_final": True})
    ),
)

#: Grids uniform in t^(1/p) beside those of the core: "time" (p = 1), "quadratic" (2) and "power-2.5".
EXTRA_GRIDS = {"power-1.5": functools.partial(power, exponent=1.5)}


def cases() -> Iterator[Case]:
    """Every deterministic solver of the registry and every variant, on every grid."""
    names = [
        e.name
        for e in registry().entries("solvers")
        if e.metadata.get("states") == "numbers" and not e.metadata["stochastic"]
    ]
    for name, options in [*((name, {}) for name in names), *VARIANTS]:
        text = name + "".join(f" {key}={value}" for key, value in options.items())
        for grid in (*GRIDS, *EXTRA_GRIDS):
            yield Case("anydiff", text, grid, functools.partial(_run, name, options, grid))


def nodes(grid: str, steps: int) -> list[float]:
    """The times of a grid by its name."""
    return EXTRA_GRIDS[grid](PATH, steps) if grid in EXTRA_GRIDS else time_grid(PATH, steps, grid)


def _run(name: str, options: dict[str, Any], grid: str, denoise: Counted, nfe: int) -> Tensor:
    solver = registry().build("solvers", name, **options)
    plan = compile_plan(solver, PATH, nfe, nodes(grid, solver.steps(nfe)))

    def data(x: Tensor, t: float) -> Tensor:
        denoise.calls += 1
        return denoise.target.oracle(x, t)

    return execute(plan, FunctionDenoiser(data, PATH), denoise.target.start)
