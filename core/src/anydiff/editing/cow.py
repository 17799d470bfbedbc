"""Cyclic one-way diffusion: a seed that stands in a part of a sample decides the rest, and is not decided by it.

Wang et al., "Diffusion in diffusion: cyclic one-way diffusion for text-vision-conditioned generation", ICLR 2024
(arXiv 2306.08247), as a walk of the moves of :mod:`anydiff.solvers.walk`. Level i is the state after i steps of DDIM
inversion, of n in all; a clean sample stands at level 0 as α x_0.

1. *Rise* of the seed to level b by x_s = α_s (x_t - σ_t e)/α_t + σ_s e with e = e(x_t, s), every level f_i kept; rise
   of the canvas to level r.
2. Each cycle: *up* from r to b by the forward process in one move, *paste* f_b; then *down* by DDIM(η of the cycle)
   level by level to r, with f_k pasted at every level k.
3. *Down* to level 0 by DDIM(η of the descent), with f_m pasted once, at level m.

Network calls: b + r for the rises, b - r for each cycle, r for the descent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from anydiff.editing.method import Edit, EditMethod
from anydiff.errors import AnydiffError, natural_number
from anydiff.paths.base import GaussianPath
from anydiff.paths.grids import time_grid
from anydiff.paths.path import Path
from anydiff.paths.product import ProductPath
from anydiff.samplers import PlanSampler
from anydiff.solvers.plan import Plan
from anydiff.solvers.program import LinearForm, Node, Program
from anydiff.solvers.walk import Walk, down, up
from anydiff.states import Conditioning

SEED, REGION = "cow-seed", "cow-region"
"""The plan's constants: the seed's sample, and where it stands."""


@dataclass(frozen=True, eq=False)
class COW(EditMethod):
    """A seed in a region of the samples, with the rest made to fit it on the target's side.

    Args:
        region: which entries are the seed, bool, of the shape of a sample (or one per row).
        seed: the samples whose entries of the region are followed, ``[n, *shape]``; None for those that are edited.
        cycles: how often it goes up and down.
        replace: r, the lower level of the cycles, as a share of all.
        back: b, their upper level.
        middle: m, the last level at which the seed is pasted.
        eta: noise of DDIM within the cycles, in [0, 1].
        eta_descent: of the descent.
        fresh: the seed is noised anew at every level in place of its rise, as RePaint does; for comparison.
    """

    solver: ClassVar[str] = "a walk of its own"
    region: Tensor
    seed: Tensor | None = None
    cycles: int = 10
    replace: float = 0.5
    back: float = 0.7
    middle: float = 0.4
    eta: float = 1.0
    eta_descent: float = 0.1
    fresh: bool = False

    def __post_init__(self) -> None:
        natural_number("cycles", self.cycles, 0)
        if not 0 <= self.middle <= self.replace <= self.back <= 1:
            raise AnydiffError(
                f"middle is {self.middle}, replace is {self.replace} and back is {self.back}, but they must obey "
                "0 <= middle <= replace <= back <= 1."
            )

    def plan(self, path: Path, levels: int, grid: str | None = None) -> Plan:
        """The walk as a plan of ``levels`` steps of the grid, whose start is the canvas.

        Raises:
            AnydiffError: a path without one schedule for all entries.
        """
        if not isinstance(path, GaussianPath) or path.known or isinstance(path, ProductPath):
            raise AnydiffError(
                f"cow walks a path of one schedule from noise to data, which {path!r} is not; use 'edit-friendly'."
            )
        times = time_grid(path, levels, grid)[::-1]  # level 0 first
        r, b, m = (round(share * levels) for share in (self.replace, self.back, self.middle))
        nodes = [Node(path, t) for t in times]
        program = Program(path, begin=times[0])
        walker = _Walker(self, program, nodes)
        kept = walker.risen(nodes[0].alpha * program.constant(SEED), b)
        x = walker.risen(program.start(), r)[r]
        for _ in range(self.cycles):
            x = walker.pasted(up(program, x, nodes[r], nodes[b]), kept, b)
            for level in range(b - 1, r - 1, -1):
                x = walker.pasted(walker.fallen(x, level, self.eta), kept, level)
        for level in range(r - 1, -1, -1):
            x = walker.fallen(x, level, self.eta_descent)
            x = walker.pasted(x, kept, level) if level == m else x
        return program.finish(x / nodes[0].alpha, repr(self), tuple(times[::-1]), None)

    def edited(self, edit: Edit) -> Tensor:
        """See :meth:`EditMethod.edited`.

        Raises:
            AnydiffError: a region of another shape, empty or full, a seed that does not fit, or a solver was named.
        """
        if edit.travel.solver is not None:
            raise AnydiffError(f"solver is {edit.travel.solver!r}, but cow is a walk of its own; leave it out.")
        seed = edit.clean if self.seed is None else self.seed.to(edit.clean)
        if seed.shape != edit.clean.shape:
            raise AnydiffError(
                f"the seed has shape {tuple(seed.shape)}, but the canvas {tuple(edit.clean.shape)}; give one sample of "
                "the canvas's shape for each, with the seed at its place."
            )
        region = self._region(edit)
        path = edit.target.denoiser.path
        grid = edit.travel.grid if isinstance(edit.travel.grid, str) else None
        plan = self.plan(path, edit.travel.nfe, grid)
        told = Conditioning.of(edit.target.condition)
        told = Conditioning(
            told.given, told.present, told.mask, told.known, {**told.sources, SEED: seed, REGION: region}
        )
        start = path.alpha(plan.nodes[-1]) * edit.clean  # type: ignore[attr-defined]
        request = edit.request(edit.target, start=start, condition=told)
        return PlanSampler(plan).sample(request, edit.target.denoiser, edit.spec)

    def _region(self, edit: Edit) -> Tensor:
        shape = tuple(edit.clean.shape)
        if tuple(self.region.shape) not in (shape, shape[1:]):
            raise AnydiffError(
                f"region has the shape {tuple(self.region.shape)}, but a sample has {shape[1:]}; give one truth value "
                "per entry."
            )
        region = self.region.bool()
        if not bool(region.any()) or bool(region.all()):
            word = "no entry" if not bool(region.any()) else "every entry"
            raise AnydiffError(f"region chooses {word}; choose those of the seed and leave others out.")
        return region.to(edit.clean).expand(shape)


@dataclass
class _Walker:
    """Moves between levels, written into a program."""

    cow: COW
    program: Program
    nodes: list[Node]

    def risen(self, x: LinearForm, level: int) -> list[LinearForm]:
        """The states at the levels 0 to ``level``."""
        found = [x]
        for here in range(level):
            # As published: the network is told the level that is risen to, where e is well determined at level 0 too.
            t, s = self.nodes[here], self.nodes[here + 1]
            noise = (x - s.alpha * self.program.evaluate(x, s)) / s.sigma
            x = (s.alpha / t.alpha) * x + (s.sigma - s.alpha / t.alpha * t.sigma) * noise
            self.program.keep(x)
            found.append(LinearForm(x.terms))
        return found

    def fallen(self, x: LinearForm, level: int, eta: float) -> LinearForm:
        """One level down to ``level``."""
        t, s = self.nodes[level + 1], self.nodes[level]
        found = down(self.program, x, self.program.evaluate(x, t), (t, s), Walk(eta=eta))
        self.program.keep(found)
        return found

    def pasted(self, x: LinearForm, kept: list[LinearForm], level: int) -> LinearForm:
        """With the seed as it is at ``level``."""
        node, program = self.nodes[level], self.program
        seed = LinearForm(kept[level].terms)
        if self.cow.fresh:
            seed = node.alpha * program.constant(SEED) + node.sigma * program.noise()
        return program.apply("paste", x, seed, program.constant(REGION), node=node)
