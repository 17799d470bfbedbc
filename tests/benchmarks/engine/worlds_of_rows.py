"""Worlds with known effects, one per kind of unit: how often equals tie, and how often a planted difference is found.

``python tests/benchmarks/engine/worlds_of_rows.py 1000`` prints the tables of docs/benchmark.md.

Every world draws several methods on the same cases or from the same noise, as a suite does. All are equal; a difference
is planted by multiplying the values of one method's units, so that its metric differs by just that share.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "core" / "pipeline"))

from worlds_of_units import REFERENCE, frechet, sets, share

from anydiff.metrics import EnsembleCRPS, SampleSet, Uncertainty, blocks_of, unit_values
from anydiff_benchmarks.engine.statistics import Runs, interval, leaders, paired, power

METHODS = 5
EFFECT = 0.02
Ask = Callable[[SampleSet, SampleSet], float]


@dataclass(frozen=True)
class World:
    """What draws the values of the units of :data:`METHODS` equal methods, and what a unit is."""

    unit: str
    draw: Callable[[int], list[Runs]]


def parts(ask: Ask, given: Tensor, truth: SampleSet, kind: Uncertainty, blocks: list[int] | None = None) -> Runs:
    samples = sets(given)
    value = ask(samples, truth)
    found = unit_values(ask, value, samples, truth, kind, blocks=blocks)
    assert found is not None
    return {(0, -1, number): value for number, value in zip(found.numbers, found.values, strict=True)}


def noises(size: tuple[int, ...], common: float, random: Generator) -> list[Tensor]:
    """The noise of every method: of unit variance, the share ``common`` of it the same for all."""
    shared = torch.randn(size, generator=random)
    return [common**0.5 * shared + (1 - common) ** 0.5 * torch.randn(size, generator=random) for _ in range(METHODS)]


def forecasts(count: int, follow: int = 0) -> Callable[[int], list[Runs]]:
    """Ensembles of four members from the same noise, judged by their CRPS; with ``follow``, one case's difficulty and
    error are moving averages over so many cases more."""

    def smooth(values: Tensor) -> Tensor:
        return values.unfold(0, follow + 1, 1).sum(-1) / (follow + 1) ** 0.5

    def draw(seed: int) -> list[Runs]:
        random = Generator().manual_seed(7919 * seed + 1)
        hard = smooth(torch.randn(count + follow, 1, generator=random)).exp().repeat(1, 4)
        error = hard * smooth(torch.randn(count + follow, 4, generator=random))
        blocks = blocks_of(range(count), count, follow)
        return [
            parts(EnsembleCRPS().compute, hard.repeat(4, 1) * each, sets(error), "cases", blocks)
            for each in noises((4 * count, 4), 0.98, random)
        ]

    return draw


def samples(ask: Ask, count: int, common: float, kind: Uncertainty) -> Callable[[int], list[Runs]]:
    """Sets of samples a tenth too wide and a little off, from nearly the same noise."""

    def draw(seed: int) -> list[Runs]:
        random = Generator().manual_seed(7919 * seed + 1)
        return [parts(ask, 1.1 * each + 0.3, REFERENCE, kind) for each in noises((count, 4), common, random)]

    return draw


def trainings(count: int, cases: int, of_training: float, of_case: float) -> Callable[[int], list[Runs]]:
    """Scores of several trainings on the same cases: the difference of two methods has a part of either."""

    def draw(seed: int) -> list[Runs]:
        random = np.random.default_rng(7919 * seed + 1)
        hard = 1 + 0.3 * random.normal(size=(1, cases))
        found = []
        for _ in range(METHODS):
            values = hard + of_training * random.normal(size=(count, 1)) + of_case * random.normal(size=(1, cases))
            values = values + 0.02 * random.normal(size=(count, cases))
            found.append({(t, -1, c): float(values[t, c]) for t in range(count) for c in range(cases)})
        return found

    return draw


WORLDS = {
    "CRPS": World("128 cases", forecasts(128)),
    "CRPS, each case like the next two": World("blocks of 160 cases", forecasts(160, 2)),
    "share": World("400 samples", samples(share, 400, 0.999, "samples")),
    "Fréchet distance": World("the set of 256 samples", samples(frechet, 256, 0.9997, "set")),
    "score, luck of trainings": World("3 trainings x 32 cases", trainings(3, 32, 0.005, 0.005)),
    "score, luck of cases": World("3 trainings x 32 cases", trainings(3, 32, 0.001, 0.02)),
    "score, 5 trainings": World("5 trainings x 32 cases", trainings(5, 32, 0.01, 0.02)),
}


@dataclass(frozen=True)
class Found:
    """Shares of all repetitions.

    Attributes:
        ties: boards of :data:`METHODS` equal methods on which all tie.
        covered: 95 % intervals of the difference of two equal methods that hold 0.
        more: differences of + :data:`EFFECT` that are found.
        less: likewise of less.
        stated: the mean of the probabilities that were stated of it; None where none is.
    """

    ties: float
    covered: float
    more: float
    less: float
    stated: float | None


def scaled(runs: Runs, factor: float) -> Runs:
    return {key: factor * value for key, value in runs.items()}


def measure(world: World, repetitions: int) -> Found:
    """How often each happens in ``repetitions`` draws of a world."""
    ties, covered, more, less, stated = [], [], [], [], []
    for seed in range(repetitions):
        boards = world.draw(seed)
        ties.append(len(leaders({str(n): runs for n, runs in enumerate(boards)}, "lower")) == METHODS)
        one, other = boards[:2]
        low, high = interval({key: one[key] - other[key] for key in one})
        covered.append(low <= 0 <= high)
        more.append(paired(scaled(one, 1 + EFFECT), other, "lower").verdict == "loss")
        less.append(paired(scaled(one, 1 - EFFECT), other, "lower").verdict == "win")
        chance = power(one, other, EFFECT)
        stated += [] if chance is None else [chance]
    return Found(
        *(float(np.mean(each)) for each in (ties, covered, more, less)), float(np.mean(stated)) if stated else None
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| metric | units | equals tie | difference covered | +2 % found | -2 % found | stated |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, world in WORLDS.items():
        found = measure(world, int(sys.argv[1]))
        told = "–" if found.stated is None else f"{100 * found.stated:.0f} %"
        numbers = [f"{100 * value:.1f} %" for value in (found.ties, found.covered, found.more, found.less)]
        print(f"| {name} | {world.unit} | {' | '.join(numbers)} | {told} |", flush=True)
