"""Faults of paths, solvers and guidances of classes, one per check; see ``faults.py``."""

from __future__ import annotations

_INIT = """
from anydiff.hookspecs import hookimpl

@hookimpl
def register_paths(register):
    register("mutant/masked", "classes become the mask", "anydiff_mutant.parts:Path", states="classes")

@hookimpl
def register_operations(register):
    register("mutant/same", "change nothing", "anydiff_mutant.parts:same")

@hookimpl
def register_solvers(register):
    for name, parts in (("exact", "Exact"), ("leaping", "Leaping")):
        register("mutant/" + name, "draw classes", "anydiff_mutant.parts:" + parts, order=1, kind="classes",
                 calls_per_step=1, stochastic=True, source="Austin et al. 2021", states="classes")

@hookimpl
def register_guidance(register):
    register("mutant/truncated", "nothing is left out", "anydiff_mutant.parts:Whole", states="classes")
"""
_PARTS = """
from dataclasses import dataclass, replace
from typing import ClassVar
from anydiff.denoisers.wrappers.sharpened import OfLogits
from anydiff.paths.categorical import Kernel, Masked
from anydiff.solvers.ancestral import Ancestral
from anydiff.solvers.plan import Apply
from anydiff.solvers.tau_leaping import TauLeaping

def same(x, *, t):
    return x

@dataclass(frozen=True)
class Path(Masked):
    def kernel(self, s, t):
        return super().kernel(s, t)

    def when_lost(self, lost):
        return super().when_lost(lost)

    def noised(self, t, clean, noise, *more):
        return super().noised(t, clean, noise, *more)

@dataclass(frozen=True)
class Exact(Ancestral):
    def steps(self, nfe):
        return super().steps(nfe)

    def compile_classes(self, path, grid, end):
        plan = super().compile_classes(path, grid, end)
        last = Apply("same", "mutant/same", (plan.result,), 0.0)
        return replace(plan, instructions=(*plan.instructions, last), result="same")

@dataclass(frozen=True)
class Leaping(TauLeaping):
    exact_for_one: ClassVar[bool] = False

@dataclass(frozen=True)
class Whole(OfLogits):
    def changed(self, logits):
        return logits / 1
"""
WRITTEN = {"classes": {"__init__": _INIT, "parts": _PARTS}}

FAULTS: list[tuple[str, str, str, list[tuple[str, str, str]]]] = [
    (
        "path.kernels",
        "classes",
        "kernels that do not compose",
        [("parts", "return super().kernel(s, t)", "return super().kernel(s, t) if s == 0 else Kernel(1.0, 0.0, 0.0)")],
    ),
    (
        "path.levels",
        "classes",
        "an inverse of another function",
        [("parts", "return super().when_lost(lost)", "return super().when_lost(lost) / 2")],
    ),
    (
        "path.draws",
        "classes",
        "numbers that are not uniform",
        [("parts", "clean, noise, *more)\n\n@", "clean, noise * noise, *more)\n\n@")],
    ),
    ("classes.one-entry", "classes", "a leap that is called exact", [("parts", "[bool] = False", "[bool] = True")]),
    ("classes.converges", "classes", "one step whatever the budget", [("parts", "super().steps(nfe)", "1")]),
    ("classes.cost", "classes", "a step too many", [("parts", "super().steps(nfe)", "super().steps(nfe) + 1")]),
    (
        "classes.batch",
        "classes",
        "rows that change places",
        [("parts", "    return x\n", "    return x if x.is_floating_point() else x.flip(0)\n")],
    ),
    ("classes.guidance", "classes", "a batch that sharpens", [("parts", "logits / 1", "logits * len(logits)")]),
]
