"""AutoDiffusion: which of a thousand times a sampler of few calls visits, searched for the law of its samples.

Li et al., "AutoDiffusion: training-free optimization of time steps and architectures for automated diffusion model
acceleration", ICCV 2023 (arXiv 2309.10438). A candidate is a set of distinct indices c of the times (c + 1)/1000 of the
path's range; sampling begins at the greatest with noise of the prior's scale (:class:`anydiff.solvers.PriorAt`), even
where that is not the law of states there, and ends clean. It is scored by the Fréchet distance of its samples from the
ends of the exact flow (the paper: FID to real images), on the same noises for all candidates. The network is asked at
the times themselves. The search begins with fixed grids, random sets and mutations of the uniform one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anydiff.calibration.objective import compared_laws, frechet
from anydiff.calibration.reference import Trials
from anydiff.calibration.search import Evolution, Found, Method, Space, Spending, evolve, named_solver
from anydiff.errors import AnydiffError, NotApplicableError, natural_number
from anydiff.paths import time_grid
from anydiff.paths.path import Path
from anydiff.solvers import Plan, PriorAt, Solver, Start, build_plan

TIMES = 1000
"""So many times there are to choose from."""
MUTATION, SMALL_MUTATION = 0.25, 0.1
POPULATION, PARENTS = 50, 10
FIXED = ("time", "log-snr", "quadratic", "karras", "learned")

Indices = tuple[int, ...]
"""Distinct indices from 0 to 999, ascending."""


def time_of(path: Path, index: int) -> float:
    """The time of an index."""
    return path.t_start * (index + 1) / TIMES


def nodes_of(path: Path, indices: Sequence[int]) -> list[float]:
    """The decreasing times of a candidate, and the path's end, which is not asked for."""
    times = [time_of(path, index) for index in sorted(indices, reverse=True)]
    last = min(path.t_end, times[-1] / 10)
    return [*times, last]


def uniform(steps: int) -> Indices:
    """The uniform baseline of the paper: multiples of the least stride that gives so many, from 0 on."""
    stride = -(-TIMES // steps)
    return tuple(range(0, TIMES, stride))[:steps] if steps > 1 else (0,)


@dataclass(frozen=True)
class Grids(Space[Indices]):
    """Sets of so many indices.

    Args:
        path: that is travelled.
        steps: how many.
        seed: of those that the search begins with.

    Raises:
        NotApplicableError: more steps than there are times.
    """

    path: Path
    steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps > TIMES:
            raise NotApplicableError(
                f"{self.steps} steps are asked for, but a grid chooses among {TIMES} times; ask for fewer "
                "network calls."
            )

    def fixed(self) -> dict[str, Indices]:
        """The grids that need no search, as indices."""
        made = {"uniform": uniform(self.steps)}
        made["trailing"] = tuple(round(TIMES * (i + 1) / self.steps) - 1 for i in range(self.steps))
        made["linspace"] = tuple(np.linspace(0, TIMES - 1, self.steps).round().astype(int).tolist())
        for name in FIXED:
            found = [round(TIMES * t / self.path.t_start) - 1 for t in time_grid(self.path, self.steps, name)[:-1]]
            made[name] = tuple(sorted(min(max(each, 0), TIMES - 1) for each in found))
        return {name: each for name, each in made.items() if len(set(each)) == self.steps}

    def first(self) -> Sequence[Indices]:
        """Fixed grids, random sets, and mutations of the uniform one."""
        rng = np.random.default_rng([self.seed, self.steps])
        plain = uniform(self.steps)
        drawn = [self.random(rng) for _ in range(POPULATION // 2 + 1)]
        near = [self.changed(plain, rng, SMALL_MUTATION) for _ in range(POPULATION - len(drawn) - 1)]
        return [*self.fixed().values(), *drawn, *near]

    def random(self, rng: np.random.Generator) -> Indices:
        """Any set."""
        return tuple(sorted(int(each) for each in rng.choice(TIMES, self.steps, replace=False)))

    def changed(self, one: Indices, rng: np.random.Generator, chance: float) -> Indices:
        """Each index replaced with this chance by one that is not there."""
        made = list(one)
        for place in range(len(made)):
            if rng.random() < chance and len(made) < TIMES:
                unused = int(rng.integers(TIMES))
                while unused in made:
                    unused = int(rng.integers(TIMES))
                made[place] = unused
        return tuple(sorted(made))

    def crossed(self, one: Indices, other: Indices, rng: np.random.Generator) -> Indices:
        """Each index from either; a repeated one is replaced by another of theirs."""
        made = {pair[int(rng.integers(2))] for pair in zip(one, other, strict=True)}
        rest = sorted({*one, *other} - made)
        missing = len(one) - len(made)
        made |= {rest[int(k)] for k in rng.choice(len(rest), missing, replace=False)} if missing else set()
        return tuple(sorted(made))

    def mutated(self, one: Indices, rng: np.random.Generator) -> Indices:
        """With the paper's chance for each index, and one of them at least."""
        made = self.changed(one, rng, MUTATION)
        if made != one or self.steps == TIMES:
            return made
        place = int(rng.integers(self.steps))
        own = self.changed(one[place : place + 1], rng, 1.0)[0]
        return one if own in one else tuple(sorted({*one, own} - {one[place]}))

    def key(self, one: Indices) -> Hashable:
        """The indices, which are ascending."""
        return one


def search_grid(
    space: Grids, fitness: Callable[[Indices], float], evaluations: int,
    told: Callable[[int, float], None] | None = None,
) -> list[tuple[float, Indices]]:  # fmt: skip
    """The archive of a search for indices, the best first; see :func:`anydiff.calibration.search.evolve`."""
    return evolve(space, fitness, Evolution(evaluations, PARENTS, seed=space.seed), told)


@dataclass(frozen=True)
class AutoDiffusion(Method):
    """Searched times for a solver; see the module.

    Args:
        base: the solver, and on ``on`` the baseline.
        on: the baseline's grid; None for the base's own or else the path's.
        evaluations: candidates beside the first ones.
        seed: of the search.
    """

    name: ClassVar[str] = "auto"
    count: ClassVar[int] = 256
    fresh: ClassVar[int] = 512
    least: ClassVar[int] = 8  # of covariances
    law: ClassVar[bool] = True
    base: str = "ddim"
    on: str | None = None
    evaluations: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        natural_number("evaluations", self.evaluations)
        natural_number("seed", self.seed, minimum=0)

    @property
    def grid(self) -> str | None:
        """The time grid of the baseline; searched plans have their own times."""
        return self.on

    def solver(self, values: Mapping[str, NDArray[Any]]) -> Solver:
        """The base."""
        return named_solver(self.base)

    def plan(self, values: Mapping[str, NDArray[Any]], path: Path, nfe: int, guided: bool = False) -> Plan:
        """The base on the searched times."""
        if not values:
            return super().plan(values, path, nfe, guided)
        solver = self.solver(values)
        solver = solver.under_guidance() if guided else solver
        return build_plan(solver, path, values["times"].tolist(), budget=nfe)

    def start(self, values: Mapping[str, NDArray[Any]]) -> Start | None:
        """Noise of the prior's scale at the first of the searched times."""
        return PriorAt(float(values["times"][0])) if values else None

    def compared(self, won: Tensor, plain: Tensor, end: Tensor) -> tuple[float, float, tuple[float, float, float]]:
        """Fréchet distances, and their ratio with the interval over resampled samples."""
        return compared_laws(won, plain, end)

    def search(self, trials: Trials, nfe: int, spending: Spending) -> Found:
        """The best set of times on the noises of ``trials``."""
        path = trials.denoiser.gaussian_path
        solver = named_solver(self.base)
        steps = solver.steps(nfe)
        if steps < 1:
            raise AnydiffError(f"nfe is {nfe}, but {self.base} needs {solver.calls_per_step} calls a step; raise it.")
        space = Grids(path, steps, self.seed)
        _, end = trials.reference()
        baseline = frechet(trials.run(self.plan({}, path, nfe, trials.guided)), end)

        def values(indices: Indices) -> dict[str, NDArray[Any]]:
            return {"times": np.array(nodes_of(path, indices)), "indices": np.array(indices, dtype=np.int64)}

        def fitness(indices: Indices) -> float:
            spending.check(trials.calls)
            made = values(indices)
            return frechet(trials.run(self.plan(made, path, nfe, trials.guided), self.start(made)), end)

        def told(done: int, best: float) -> None:
            if done % 50 == 0:
                spending.tell(f"{nfe} calls: best of {done} grids {best:.3g}, baseline {baseline:.3g}")

        found, indices = search_grid(space, fitness, self.evaluations, told)[0]
        return Found(values(indices) if found < baseline else {}, min(found, baseline), baseline)
