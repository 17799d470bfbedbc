"""Planning: which cells a suite has on a machine, and how many samples each may draw in the time there is.

The time budget. Let task i cost c_i(n, k) seconds with n samples and k seeds: network calls times the measured seconds
per row, metrics times the measured seconds per sample. The budget B of the suite is shared by filling water: every task
gets the same share, and what a cheap task does not need goes to the others. Within its share a task takes

1. all seeds and the largest n of ``samples`` x (1, 3/4, 1/2, 3/8, 1/4, ...) that fits, but never fewer than the
   ``minimum_samples`` of its metrics' cards;
2. if the least n does not fit with all seeds, as many of the first seeds as fit, at least one.

So with ten domains installed each takes fewer samples, then fewer seeds, and the whole takes about as long as with one.
What was measured is kept in the store, so a second run plans the same cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from anydiff.benchmark.identity import digest
from anydiff.benchmark.suite import Method, Suite


@dataclass(frozen=True)
class Speed:
    """What a task costs on this machine: seconds per network row, and metric seconds per sample."""

    row: float
    judged: float


@dataclass(frozen=True)
class Cell:
    """One row to be: a method (or a free baseline) on a task with a budget and a seed.

    Attributes:
        task: name of the task.
        method: the solver, or None for a baseline.
        baseline: name of the baseline, or empty.
        nfe: budget of network calls per sample; 0 for a baseline.
        seed: of the samples.
        samples: how many.
        parts: what the row depends on; its hash is the key.
        cost: expected seconds.
    """

    task: str
    method: Method | None
    baseline: str
    nfe: int
    seed: int
    samples: int
    parts: dict[str, Any] = field(repr=False)
    cost: float = field(default=0.0, compare=False)

    @property
    def title(self) -> str:
        """The method's or baseline's name."""
        return self.method.title if self.method is not None else self.baseline

    @property
    def label(self) -> str:
        """The cell in words; the same after a change of weights or code."""
        budget = f" · {self.nfe} NFE" if self.method is not None else ""
        return f"{self.task} · {self.title}{budget} · seed {self.seed}"

    @property
    def key(self) -> str:
        """Address in the store."""
        return digest(self.parts)


@dataclass(frozen=True)
class Share:
    """What a task may spend.

    Attributes:
        samples: per cell.
        seeds: the first ones of the suite's.
        seconds: expected, all cells together.
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


def seconds_needed(suite: Suite, speed: Speed, samples: int, seeds: int) -> float:
    """Expected seconds of a task."""
    rows = samples * sum(suite.nfe) * len(suite.methods)
    judged = samples * (len(suite.nfe) * len(suite.methods) + len(suite.baselines))
    return seeds * (rows * speed.row + judged * speed.judged)


def allocate(suite: Suite, speeds: Sequence[tuple[Speed, int]]) -> list[Share]:
    """The share of each task, given its speed and the fewest samples its metrics accept; see the module."""
    wanted = [seconds_needed(suite, speed, max(suite.samples, least), len(suite.seeds)) for speed, least in speeds]
    if suite.budget_seconds is None:
        every = zip(speeds, wanted, strict=True)
        return [Share(max(suite.samples, least), suite.seeds, cost, None) for (_, least), cost in every]
    shares = fill_water(suite.budget_seconds, wanted)
    return [_fit(suite, speed, least, share) for (speed, least), share in zip(speeds, shares, strict=True)]


def fill_water(total: float, wanted: Sequence[float]) -> list[float]:
    """``total`` shared evenly, but nobody gets more than wanted; what is left over goes to the others."""
    shares = [0.0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for position, index in enumerate(order):
        shares[index] = min(wanted[index], total / (len(wanted) - position))
        total -= shares[index]
    return shares


def _fit(suite: Suite, speed: Speed, least: int, share: float) -> Share:
    for samples in _ladder(max(suite.samples, least), least):
        cost = seconds_needed(suite, speed, samples, len(suite.seeds))
        if cost <= share * (1 + 1e-9):
            return Share(samples, suite.seeds, cost, share)
    one = seconds_needed(suite, speed, least, 1)
    seeds = suite.seeds[: max(1, min(len(suite.seeds), int(share / one)))] if one > 0 else suite.seeds
    return Share(least, seeds, one * len(seeds), share)


def _ladder(most: int, least: int) -> Iterator[int]:
    step = 1.0
    while most * step > least:
        yield int(most * step)
        if most * step * 0.75 > least:
            yield int(most * step * 0.75)
        step /= 2
    yield least


def plan_cells(
    suite: Suite, share: Share, speed: Speed, identity: dict[str, Any], model: dict[str, Any], data: dict[str, Any]
) -> list[Cell]:
    """The cells of one task: its baselines, then seed by seed so that a stopped run has whole rounds.

    Args:
        suite: the suite.
        share: samples and seeds.
        speed: for the expected seconds.
        identity: what every row depends on; has ``task``.
        model: what the rows of a method depend on beside it.
        data: what the rows of a baseline depend on beside it.
    """
    cells = []
    count = share.samples
    for seed in share.seeds:
        for name in suite.baselines:
            parts = {**identity, **data, "baseline": name, "seed": seed, "samples": count}
            cells.append(Cell(identity["task"], None, name, 0, seed, count, parts, count * speed.judged))
        for nfe in suite.nfe:
            for method in suite.methods:
                parts = {**identity, **model, "method": method.identity(), "nfe": nfe, "seed": seed, "samples": count}
                cost = count * (nfe * speed.row + speed.judged)
                cells.append(Cell(identity["task"], method, "", nfe, seed, count, parts, cost))
    return cells
