"""S³: an evolutionary search over records of decisions, from all known solvers on.

Liu et al., "A unified sampling framework for solver searching of diffusion probabilistic models", ICLR 2024 (arXiv
2312.07243); the space is :mod:`anydiff.solvers.usf`. A candidate is scored by the squared distance of its samples from
the exact ends, on the same noises for all; the paper takes FID. As in the released search a child of the best fifteen
is crossed (whole lists of decisions, or step by step) and mutated: times, orders, kinds of prediction, factors,
correctors, an analytic first output. What the search begins with are the known solvers on five grids, of orders 1 to 5,
with and without corrector, so that it ends no worse than the best of them on its own noises.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anydiff.calibration.objective import OBJECTIVES
from anydiff.calibration.reference import Trials
from anydiff.calibration.search import Evolution, Found, Method, Space, Spending, evolve, named_solver
from anydiff.errors import AnydiffError, natural_number
from anydiff.paths import time_grid
from anydiff.paths.path import Path
from anydiff.solvers import Plan, Solver, build_plan, checked_choice
from anydiff.solvers.adams import step_order
from anydiff.solvers.usf import CORRECTORS, FIRST, KINDS, USF, Record

GRIDS = ("learned", "log-snr", "quadratic", "time", "karras")
SEARCHED = ("data", "noise", "velocity", "data-time")
ORDERS = ((1, 0.2), (2, 0.4), (3, 0.3), (4, 0.1))
"""Orders that a mutation draws, with their shares."""
CHANCE = 0.3
"""The share of steps that a mutation changes, for each decision."""
TIME_SPREAD, RELAX_SPREAD = 0.15, 0.03
FIRST_CHANGES = 0.05
COLUMNS = ("kind", "order", "relax", "low", "corrector")


@dataclass(frozen=True)
class _Schedules(Space[USF]):
    """Schedules of so many calls on a path; λ of the ends stays."""

    path: Path
    nfe: int
    mean: Any

    def first(self) -> Sequence[USF]:
        """The known solvers; an order above what the steps allow is no candidate of its own."""
        made = []
        for grid, kind, order, corrector, final in itertools.product(
            GRIDS, SEARCHED, (1, 2, 3, 5), ("none", "pseudo"), (True, False)
        ):
            records = tuple(
                Record(kind, step_order(order, i, self.nfe, final), corrector=corrector) for i in range(self.nfe)
            )
            made.append(USF(records, tuple(time_grid(self.path, self.nfe, grid))))
        return made

    def key(self, one: USF) -> Hashable:
        """Records and times; of the last step no corrector counts."""
        return (*one.records[:-1], replace(one.records[-1], corrector="none")), one.times, one.first

    def crossed(self, one: USF, other: USF, rng: np.random.Generator) -> USF:
        """Each list of decisions from either, or each step's decisions; times from either."""
        if len(one.records) != len(other.records):
            return one
        pairs = list(zip(one.records, other.records, strict=True))
        times = (one if rng.random() < 0.5 else other).times
        if rng.random() < 0.5:
            return replace(one, times=times, records=tuple(pair[int(rng.integers(2))] for pair in pairs))
        chosen = {name: int(rng.integers(2)) for name in COLUMNS}
        records = tuple(_record({name: getattr(pair[k], name) for name, k in chosen.items()}, i)
                        for i, pair in enumerate(pairs))  # fmt: skip
        return replace(one, times=times, records=records)

    def mutated(self, one: USF, rng: np.random.Generator) -> USF:
        """Each decision of each step changes with a chance of its own."""
        if rng.random() < FIRST_CHANGES:
            one = self._another_first(one, rng)
        records = []
        for i, record in enumerate(one.records):
            made = {name: getattr(record, name) for name in COLUMNS}
            for name, value in (
                ("kind", str(rng.choice(SEARCHED))),
                ("order", int(rng.choice([o for o, _ in ORDERS], p=[p for _, p in ORDERS]))),
                ("relax", record.relax + float(rng.normal(0, RELAX_SPREAD))),
                ("low", int(rng.integers(0, 3))),
                ("corrector", str(rng.choice(CORRECTORS[:2]))),
            ):
                if rng.random() < CHANCE:
                    made[name] = value
            records.append(_record(made, i))
        return replace(one, records=tuple(records), times=self._moved(one.times, rng))

    def _moved(self, times: Sequence[float], rng: np.random.Generator) -> tuple[float, ...]:
        """Inner times moved by a share of the gap between their neighbours, still decreasing."""
        made = list(times)
        for i in range(1, len(made) - 1):
            if rng.random() < CHANCE:
                gap = (made[i - 1] - made[i + 1]) / 2
                low, high = made[i + 1] + 0.05 * gap, made[i - 1] - 0.05 * gap
                made[i] = float(np.clip(made[i] + rng.normal(0, TIME_SPREAD) * gap, low, high))
        return tuple(made)

    def _another_first(self, one: USF, rng: np.random.Generator) -> USF:
        """Another first output; an analytic one pays for one step more."""
        first = str(rng.choice([name for name in FIRST if name != one.first]))
        records, times = list(one.records), list(one.times)
        if one.first == "network":
            at = int(rng.integers(0, len(records)))
            times.insert(at + 1, (times[at] + times[at + 1]) / 2)
            records.insert(at, records[at])
        elif first == "network":
            at = int(rng.integers(1, len(records)))
            del times[at], records[at]
        made = tuple(_record({name: getattr(r, name) for name in COLUMNS}, i) for i, r in enumerate(records))
        return USF(made, tuple(times), first, self.mean if first == "mean" else 0.0)


def _record(made: Mapping[str, Any], index: int) -> Record:
    """A record of step ``index``: order and ``low`` as far as its history allows, the newest nodes."""
    order = min(int(made["order"]), index + 1)
    return Record(made["kind"], order, None, made["relax"], low=min(int(made["low"]), order - 1),
                  corrector=made["corrector"])  # fmt: skip


def nested(value: Any) -> Any:
    """Lists of lists as tuples of tuples."""
    return tuple(nested(each) for each in value) if isinstance(value, list) else value


def as_arrays(schedule: USF) -> dict[str, NDArray[Any]]:
    """A schedule as an artefact keeps it.

    Raises:
        AnydiffError: it names nodes or presets, which no search makes.
    """
    columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in schedule.records] for name in COLUMNS}
    columns["kind"] = [KINDS.index(each) for each in columns["kind"]]
    columns["corrector"] = [CORRECTORS.index(each) for each in columns["corrector"]]
    if any(r.preset != "linear" or r.base or r.points is not None for r in schedule.records):
        raise AnydiffError("a record names its nodes or a preset, which no artefact keeps; leave them out.")
    made = {name: np.array(value, dtype=np.float64 if name == "relax" else np.int64) for name, value in columns.items()}
    return {**made, "times": np.array(schedule.times), "first": np.array(FIRST.index(schedule.first)),
            "mean": np.array(schedule.mean, dtype=np.float64)}  # fmt: skip


def of_arrays(values: Mapping[str, NDArray[Any]]) -> USF:
    """The schedule that :func:`as_arrays` wrote."""
    rows = zip(*(values[name].tolist() for name in COLUMNS), strict=True)
    records = tuple(
        Record(KINDS[kind], order, None, relax, low=low, corrector=CORRECTORS[corrector])
        for kind, order, relax, low, corrector in rows
    )
    return USF(records, tuple(values["times"].tolist()), FIRST[int(values["first"])], nested(values["mean"].tolist()))


@dataclass(frozen=True)
class S3(Method):
    """Decisions for each step, searched; see the module.

    Args:
        base: the solver that is the baseline.
        on: its grid; None for its own or else the path's.
        evaluations: candidates that are scored beside the known solvers.
        parents: the best so many have children.
        objective: ``"mean"`` of the squared distances, or their ``"median"``.
        seed: of the search.
    """

    name: ClassVar[str] = "s3"
    count: ClassVar[int] = 64
    base: str = "by-budget"
    on: str | None = None
    evaluations: int = 400
    parents: int = 15
    objective: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        checked_choice("objective", self.objective, tuple(OBJECTIVES))
        natural_number("evaluations", self.evaluations)
        natural_number("parents", self.parents)
        natural_number("seed", self.seed, minimum=0)

    @property
    def grid(self) -> str | None:
        """As ``on`` says; a schedule has times of its own."""
        return self.on

    @property
    def statistic(self) -> str:
        """What is searched is what decides."""
        return self.objective

    def solver(self, values: Mapping[str, NDArray[Any]]) -> Solver:
        """The schedule, or the base."""
        return of_arrays(values) if values else named_solver(self.base)

    def plan(self, values: Mapping[str, NDArray[Any]], path: Path, nfe: int, guided: bool = False) -> Plan:
        """The plan of the schedule on its own times."""
        if not values:
            return super().plan(values, path, nfe, guided)
        schedule = of_arrays(values)
        return build_plan(schedule, path, schedule.times)

    def search(self, trials: Trials, nfe: int, spending: Spending) -> Found:
        """The best schedule on the noises of ``trials``."""
        _, end = trials.reference()
        path = trials.denoiser.path
        objective = OBJECTIVES[self.objective]
        space = _Schedules(path, nfe, nested(end.double().mean(0).tolist()))
        baseline = objective(trials.run(self.plan({}, path, nfe, trials.guided)), end)

        def score(schedule: USF) -> float:
            spending.check(trials.calls)
            return objective(trials.run(build_plan(schedule, path, schedule.times)), end)

        def told(done: int, best: float) -> None:
            if done % 50 == 0:
                spending.tell(f"{nfe} calls: best of {done} schedules {best:.3g}, baseline {baseline:.3g}")

        found, schedule = evolve(space, score, Evolution(self.evaluations, self.parents, seed=self.seed), told)[0]
        return Found(as_arrays(schedule) if found < baseline else {}, min(found, baseline), baseline)
