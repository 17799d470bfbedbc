"""Planning: which cells a suite has on a machine, and how many samples each may draw in the time there is.

The time budget. Let task i cost c_i(n, k) seconds with n samples and k seeds: network calls times the measured
seconds per row, metrics times the measured seconds per sample, and what a cell costs whatever n is. The budget B of
the suite, in seconds of one worker, is shared by filling water: every task gets the same share, and what a cheap task
does not need goes to the others. Within its share a task takes

1. all seeds and the largest n of ``samples`` x (1, 3/4, 1/2, 3/8, 1/4, ...) that fits, but never fewer than the
   ``minimum_samples`` of its metrics' cards or its own ``minimum_cases``; a task of ensembles keeps its members and
   takes fewer cases;
2. if the least n does not fit with all seeds, as many of the first seeds as fit, at least one.

So with ten domains installed each takes fewer samples, then fewer seeds, and the whole takes about as long as with one.
What was measured is kept in the store, and the budget does not know the number of workers: a second run plans the same
cells, whoever computes them. They are computed seed by seed. :func:`affordable` says whether a further seed is begun,
and :func:`used_up` when no further cell is: the first seed is begun whatever it costs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anydiff.plugins import Source
from anydiff.tasks import digest
from anydiff_benchmarks.engine.suite import Method, Suite

OVERRUN = 1.1
"""How many times the budget may be used; a cell that is at work then still ends."""


@dataclass(frozen=True)
class Speed:
    """What a task costs on this machine, in seconds.

    Attributes:
        row: per network row.
        judged: per sample that is judged.
        cell: per cell, however few its samples.
        baseline: per cell of a baseline, for making its samples.
    """

    row: float
    judged: float
    cell: float = 0.0
    baseline: float = 0.0


@dataclass(frozen=True)
class Demand:
    """What a task asks for.

    Attributes:
        speed: measured.
        most: samples of the task.
        least: fewer cases say nothing to the task, or are refused by a metric.
        group: samples come in multiples of it (members of a case).
        baselines: how many.
        trainings: how many trained models.
    """

    speed: Speed
    most: int
    least: int
    group: int = 1
    baselines: int = 4
    trainings: int = 1


@dataclass(frozen=True)
class Cell:
    """One row to be: a method (or a free baseline) on a task with a budget and a seed.

    Attributes:
        task: ``domain/name@version``.
        method: the solver, or None for a baseline.
        baseline: name of the baseline, or empty.
        nfe: budget of network calls per sample; 0 for a baseline.
        seed: of the samples.
        samples: how many.
        parts: what the row depends on; its hash is the key.
        model: name of the model in the suite; empty for the bundled one.
        source: where its weights are; empty for bundled ones.
        training: which of the model's trainings.
        cost: expected seconds.
    """

    task: str
    method: Method | None
    baseline: str
    nfe: int
    seed: int
    samples: int
    parts: Mapping[str, Any] = field(repr=False)
    model: str = ""
    source: str = field(default="", compare=False)
    training: int = 0
    cost: float = field(default=0.0, compare=False)

    @property
    def title(self) -> str:
        """The method's (with its model's) or baseline's name."""
        if self.method is None:
            return self.baseline
        return f"{self.model} · {self.method.title}" if self.model else self.method.title

    @property
    def label(self) -> str:
        """The cell in words; the same after a change of weights or code."""
        budget = f" · {self.nfe} NFE" if self.method is not None else ""
        training = f" · training {self.training}" if self.training else ""
        return f"{self.task} · {self.title}{budget}{training} · seed {self.seed}"

    @functools.cached_property
    def key(self) -> str:
        """Address in the store."""
        return digest(self.parts)


@dataclass(frozen=True)
class Share:
    """What a task may spend.

    Attributes:
        samples: per cell.
        seeds: the first ones of the suite's.
        seconds: expected, all cells together, on one worker.
        budget: the task's share; None without a limit.
    """

    samples: int
    seeds: tuple[int, ...]
    seconds: float
    budget: float | None

    @property
    def over(self) -> bool:
        """Whether even the least (one seed, the fewest samples) exceeds the share."""
        return self.budget is not None and self.seconds > 1.05 * self.budget


def seconds_needed(suite: Suite, demand: Demand, samples: int, seeds: int) -> float:
    """Expected seconds of a task."""
    methods = len(suite.methods) * demand.trainings
    rows = samples * sum(suite.nfe) * methods
    cells = len(suite.nfe) * methods + demand.baselines
    speed = demand.speed
    judged = cells * (samples * speed.judged + speed.cell)
    return seeds * (rows * speed.row + judged + demand.baselines * speed.baseline)


def allocate(suite: Suite, demands: Sequence[Demand]) -> list[Share]:
    """The share of each task; see the module."""
    wanted = [seconds_needed(suite, demand, _most(suite, demand), len(suite.seeds)) for demand in demands]
    if suite.budget_seconds is None:
        every = zip(demands, wanted, strict=True)
        return [Share(_most(suite, demand), suite.seeds, cost, None) for demand, cost in every]
    shares = fill_water(suite.budget_seconds, wanted)
    return [_fit(suite, demand, share) for demand, share in zip(demands, shares, strict=True)]


def rounds(suite: Suite, cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each of the suite's seeds, in its order; seeds without cells are left out."""
    every = [[cell for cell in cells if cell.seed == seed] for seed in suite.seeds]
    return [each for each in every if each]


def affordable(suite: Suite, spent: float, expected: float, cells: Sequence[Cell]) -> bool:
    """Whether a further round ends within :data:`OVERRUN` times the budget.

    Args:
        suite: with the budget; without one, everything is affordable.
        spent: seconds of workers that the rounds so far took.
        expected: seconds they were expected to take.
        cells: of the round.
    """
    if suite.budget_seconds is None or expected <= 0:
        return True
    return spent + sum(cell.cost for cell in cells) * spent / expected <= OVERRUN * suite.budget_seconds


def used_up(suite: Suite, spent: float) -> bool:
    """Whether ``spent`` seconds of workers are so much more than the budget that no further cell is begun."""
    return suite.budget_seconds is not None and spent > OVERRUN * suite.budget_seconds


def fill_water(total: float, wanted: Sequence[float]) -> list[float]:
    """``total`` shared evenly, but nobody gets more than wanted; what is left over goes to the others."""
    shares = [0.0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for position, index in enumerate(order):
        shares[index] = min(wanted[index], total / (len(wanted) - position))
        total -= shares[index]
    return shares


def _most(suite: Suite, demand: Demand) -> int:
    most = demand.most if suite.samples is None else min(demand.most, suite.samples)
    return _whole(max(most, min(_least(demand), demand.most)), demand.group)


def _whole(count: float, group: int) -> int:
    """``count`` as a multiple of ``group``, at least one."""
    return max(group, int(count) // group * group)


def _least(demand: Demand) -> int:
    return demand.least * demand.group  # a metric's least count holds for the samples and for the cases they are of


def _fit(suite: Suite, demand: Demand, share: float) -> Share:
    least = min(_least(demand), _most(suite, demand))
    for samples in _ladder(_most(suite, demand), least, demand.group):
        cost = seconds_needed(suite, demand, samples, len(suite.seeds))
        if cost <= share * (1 + 1e-9):
            return Share(samples, suite.seeds, cost, share)
    one = seconds_needed(suite, demand, least, 1)
    seeds = suite.seeds[: max(1, min(len(suite.seeds), int(share / one)))] if one > 0 else suite.seeds
    return Share(least, seeds, one * len(seeds), share)


def _ladder(most: int, least: int, group: int) -> Iterator[int]:
    step = 1.0
    while _whole(most * step, group) > least:
        yield _whole(most * step, group)
        if _whole(most * step * 0.75, group) > least:
            yield _whole(most * step * 0.75, group)
        step /= 2
    yield least


def plan_baselines(
    task: str, names: Sequence[str], share: Share, speed: Speed, identity: Mapping[str, Any], data: Mapping[str, Any]
) -> list[Cell]:
    """The cells of a task's baselines.

    Args:
        task: ``domain/name@version``.
        names: of the baselines.
        share: samples and seeds.
        speed: for the expected seconds.
        identity: what every row depends on.
        data: what the rows of a baseline depend on beside it.
    """
    count = share.samples
    cells = []
    for seed in share.seeds:
        for name in names:
            parts = {**identity, **data, "baseline": name, "seed": seed, "samples": count}
            cost = count * speed.judged + speed.cell + speed.baseline
            cells.append(Cell(task, None, name, 0, seed, count, parts, cost=cost))
    return cells


def plan_methods(
    task: str,
    suite: Suite,
    share: Share,
    speed: Speed,
    identity: Mapping[str, Any],
    model: Mapping[str, Any],
    sources: Mapping[str, Source],
    origin: tuple[str, str, int] = ("", "", 0),
) -> list[Cell]:
    """The cells of a task's methods, seed by seed so that a stopped run has whole rounds.

    Args:
        task: ``domain/name@version``.
        suite: the suite.
        share: samples and seeds.
        speed: for the expected seconds.
        identity: what every row depends on.
        model: what the rows of a method depend on beside it.
        sources: name in a method -> code and libraries behind it, which a row depends on beside those of its task.
        origin: name of the model, source of its weights, number of its training.
    """
    count = share.samples
    name, source, training = origin
    cells = []
    about = [method_parts(method, identity, sources) for method in suite.methods]
    for seed in share.seeds:
        for nfe in suite.nfe:
            for method, own in zip(suite.methods, about, strict=True):
                parts = {**identity, **model, **own, "nfe": nfe, "seed": seed, "samples": count}
                cost = count * (nfe * speed.row + speed.judged) + speed.cell
                cells.append(Cell(task, method, "", nfe, seed, count, parts, name, source, training, cost))
    return cells


def method_parts(method: Method, identity: Mapping[str, Any], sources: Mapping[str, Source]) -> dict[str, Any]:
    """What the rows of a method depend on beside the task and the model: its settings, and the code that it names."""
    found = Source(identity.get("code", {}), identity.get("libraries", {}))
    for name in method.names:
        found |= sources.get(name, Source())
    return {"method": method.inputs(), **found.as_dict()}
