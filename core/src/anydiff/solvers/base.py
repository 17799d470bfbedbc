"""The face of a solver, and how a plan ends."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError, natural_number
from anydiff.paths.base import GaussianPath, LinearPath
from anydiff.paths.categorical import CategoricalPath
from anydiff.paths.grids import time_grid
from anydiff.paths.mixed import MixedPath
from anydiff.paths.path import Path
from anydiff.paths.product import ProductPath
from anydiff.solvers.mixed import compile_mixed
from anydiff.solvers.plan import Plan
from anydiff.solvers.product import merged
from anydiff.solvers.program import LinearForm, Node, Program

#: How a plan gets from the last node t_N to the clean sample; see :func:`_end`.
ENDS = ("clean", "denoise", "stop")


Past = tuple[Node, LinearForm]
"""A node and what was predicted there."""


class Solver(ABC):
    """Compiles a path and a time grid into a plan. A frozen dataclass whose fields are its options.

    A subclass gives ``order`` (and ``calls_per_step``) as a class variable, a field or a property.

    Attributes:
        preferred_grid: the time grid it is made for, taken where the caller names none; None for the path's own.
    """

    preferred_grid: ClassVar[str | None] = None
    memory: ClassVar[int] = 0  # so many predictions at least does a multistep method remember
    closes: ClassVar[bool] = False  # whether the last state is corrected, by a call of its own

    @property
    @abstractmethod
    def order(self) -> int:
        """Order of convergence of the deterministic method, weak order of a stochastic one."""

    @property
    def calls_per_step(self) -> int:
        """Network calls that a full step costs."""
        return 1

    def under_guidance(self) -> Solver:
        """The solver to take in its place where a guidance acts; by default itself.

        A guidance bends the flow. Samplers ask where they see one (:attr:`anydiff.denoisers.wrappers.Wrapper.bends`).
        """
        return self

    def revised(self, program: Program, past: Sequence[Past], step: int) -> LinearForm:
        """What a multistep method is to take for its newest prediction in step number ``step``: by default itself.

        ``past`` are its predictions with their nodes, the newest first.
        """
        return past[0][1]

    @abstractmethod
    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Write the steps from ``nodes[0]`` to ``nodes[-1]`` and return the state at the last node."""

    def compile_classes(self, path: CategoricalPath, grid: Sequence[float], end: str) -> Plan:
        """The plan on a path of classes; refused by solvers of real numbers.

        Raises:
            AnydiffError: as said.
        """
        raise NotApplicableError(
            f"{self!r} moves real numbers, but {path!r} replaces classes; take a solver of classes: ancestral, "
            "tau-leaping or unmasking."
        )

    def placed(self, path: Path, grid: Sequence[float]) -> Sequence[float]:
        """The nodes that it takes for those of ``grid``: by default these."""
        return grid

    def steps(self, nfe: int) -> int:
        """How many steps a budget of ``nfe`` network calls buys; at least 1."""
        return nfe // self.calls_per_step


def compile_plan(
    solver: str | Solver,
    path: Path,
    nfe: int,
    grid: str | Sequence[float] | None = None,
    end: str = "clean",
    **options: Any,
) -> Plan:
    """The plan of ``solver`` on ``path`` that spends at most ``nfe`` network calls.

    Args:
        solver: a registered name ("ddim", "dpm-solver++-2m", ...) or a :class:`Solver`.
        path: the path to travel back.
        nfe: the budget, a whole number.
        grid: a grid's name, a list of decreasing times, or None for the solver's own or else the path's.
        end: ``"clean"`` reaches the clean sample at no extra call, ``"denoise"`` spends the last call of the budget on
            a full jump to D, ``"stop"`` stays at the last node; see :func:`_end`.
        options: options of the solver, when it is given by name.

    Raises:
        AnydiffError: the budget is too small, or a name or option is unknown.
    """
    nfe = natural_number("nfe", nfe)
    if end not in ENDS:
        raise UnknownNameError("end rule", end, ENDS)
    if isinstance(solver, str):
        from anydiff.registry import registry

        solver = registry().build("solvers", solver, **options)
    elif options:
        raise AnydiffError(
            f"{next(iter(options))} is an option for a solver given by name, but solver is {solver!r}; set it there."
        )
    if not isinstance(solver, Solver):
        raise AnydiffError(f"solver is {solver!r}, but must be a registered name or a Solver.")
    budget = nfe - 1 if end == "denoise" else nfe
    steps = solver.steps(budget) if budget > 0 else 0
    if steps < 1:
        raise NotApplicableError(
            f"nfe is {nfe}, but {solver!r} with end={end!r} needs at least {_least(solver, end)}; raise nfe or choose "
            "another solver."
        )
    return build_plan(
        solver, path, time_grid(path, steps, solver.preferred_grid if grid is None else grid), end, budget
    )


def preferred_grid(solver: str | Solver) -> str | None:
    """The time grid that a solver, or a registered name, is made for; None where it leaves the choice to the path."""
    if isinstance(solver, str):
        from anydiff.registry import registry

        made = registry().get("solvers", solver).load()
        return getattr(getattr(made, "func", made), "preferred_grid", None)  # a partial stands for its class
    return solver.preferred_grid


def build_plan(
    solver: Solver, path: Path, grid: Sequence[float], end: str = "clean", budget: int | None = None
) -> Plan:
    """The plan of ``solver`` on the given nodes; without a ``budget`` every step is a full one, whatever it costs.

    Raises:
        AnydiffError: a solver of real numbers on a path of classes, or the reverse; nodes that do not decrease.
    """
    if not all(t < s for s, t in itertools.pairwise(grid)):  # also of what is not a number
        raise AnydiffError(
            f"the nodes {[round(t, 6) for t in grid]} do not strictly decrease; sort them and drop repeated ones, "
            "which make a step singular."
        )
    if isinstance(path, MixedPath):
        return compile_mixed(
            repr(solver), path, grid, end, lambda numbers: build_plan(solver, numbers, grid, end, budget)
        )
    if isinstance(path, CategoricalPath):
        return solver.compile_classes(path, grid, end)
    if not isinstance(path, LinearPath):
        raise AnydiffError(f"{solver!r} knows no path such as {path!r}, which is neither linear nor of classes.")
    grid = solver.placed(path, grid)
    if isinstance(path, ProductPath):
        leaves, offset, plans = dict(path.leaves), 0, {}
        for leaf in path.bound.leaves:
            program = Program(leaves[leaf.name], budget, path.keeper, leaf, offset, grid[0])
            plans[leaf.name], offset = _build(solver, program, grid, end), offset + leaf.size
        return merged(plans, path)
    return _build(solver, Program(path, budget, begin=grid[0]), grid, end)


def _build(solver: Solver, program: Program, grid: Sequence[float], end: str) -> Plan:
    path = program.path
    nodes = [program.node(t) for t in grid]
    try:
        x = _end(program, solver.build(program, nodes), nodes[-1], end)
    except ZeroDivisionError:
        if isinstance(path, GaussianPath) and all(node.alpha and node.sigma for node in nodes):
            raise  # a fault of the solver's own
        raise NotApplicableError(
            f"{solver!r} divides by the signal or the noise of {path!r}, one of which is 0 at a time of its grid; take "
            "another solver ('rddm' removes residual and noise one after the other), or a t_start and t_end that leave "
            "some of both."
        ) from None
    return program.finish(x, repr(solver), tuple(grid), nodes[-1] if end == "stop" else None)


def _least(solver: Solver, end: str) -> int:
    reserved = 1 if end == "denoise" else 0
    return next(nfe for nfe in range(1, 100) if solver.steps(nfe) >= 1) + reserved


def _end(program: Program, x: LinearForm, last: Node, end: str) -> LinearForm:
    """The clean sample from the state x at the last node.

    In y = x/α and κ = σ/α the probability-flow ODE is dy/dκ = E[ε | y], and D = y - κ E[ε | y]. As κ falls,
    E[ε | y] ~ κ^(p-1) with p of the noise law (2 for Gaussian noise, where E[ε | y] = -κ ∇log p_κ(y) and the score has
    a limit). So y(0) = y + (D - y)/p to leading order: half of the jump y -> D for Gaussian noise.

    - ``clean``: that part of the jump, by the last prediction the solver made; no extra call. On a path without a
      log-SNR the solver itself travels to the end.
    - ``denoise``: one more call and the full jump to D, the posterior mean.
    - ``stop``: x itself, at noise level κ.
    """
    if end == "stop" or (end == "clean" and not isinstance(program.path, GaussianPath)):
        return x
    if end == "denoise":
        return program.evaluate(x, last)
    clean: LinearForm = x / last.alpha
    if last.sigma == 0:
        return clean
    if program.last is None:
        raise AnydiffError(
            "end='clean' extrapolates the last data prediction, but this solver made none; use end='stop'."
        )
    state, data, node = program.last
    if node.alpha == 0:
        return clean
    # κ² ∇log p = D - y. From a noise prediction D - y is a multiple of it: y cancels to the last bit.
    p = program.path.noise_law.end_exponent
    jump: LinearForm = data - state / node.alpha
    share: float = (last.noise_level / node.noise_level) ** p / p
    return clean + jump * share
