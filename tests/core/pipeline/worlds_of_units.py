"""Worlds with known spread, one per kind of metric: how often the interval of a value's units covers what it should.

``python tests/core/pipeline/worlds_of_units.py 2000`` prints the table of docs/benchmark.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import t as student
from torch import Generator, Tensor

from anydiff.domains import Domain
from anydiff.metrics import (
    EnsembleCRPS,
    EnsembleRMSE,
    SampleSet,
    Uncertainty,
    frechet_distance,
    members_per_case,
    unit_values,
)
from anydiff.states import Conditioning, StateSpec

Worlds = tuple[SampleSet, SampleSet, SampleSet]


class Vectors(Domain):
    name = "vectors"
    spec = StateSpec.single((4,))

    def encode(self, objects):
        return objects

    def decode(self, states, condition=None):
        return states

    def read(self, path):
        return []

    def write(self, objects, path):
        pass

    def draw(self, objects, path, titles=None):
        pass


def sets(states: Tensor) -> SampleSet:
    return SampleSet(states, Conditioning(), Vectors())


def cases(count: int, members: int) -> Callable[[Generator], Worlds]:
    """Two forecasts of the same cases, and the truth: what is common to a case cancels in their difference."""

    def draw(random: Generator) -> Worlds:
        centre = 2 * torch.randn(count, 4, generator=random)
        truth = centre + torch.randn(count, 4, generator=random)
        forecasts = [centre.repeat(members, 1) + torch.randn(count * members, 4, generator=random) for _ in range(2)]
        return sets(forecasts[0]), sets(forecasts[1]), sets(truth)

    return draw


REFERENCE = sets(torch.randn(200, 4, generator=Generator().manual_seed(9)))


def samples(count: int) -> Callable[[Generator], Worlds]:
    """Two sets of samples a tenth too wide and a little off, and the reference."""

    def draw(random: Generator) -> Worlds:
        drawn = [1.1 * torch.randn(count, 4, generator=random) + 0.3 for _ in range(2)]
        return sets(drawn[0]), sets(drawn[1]), REFERENCE

    return draw


def share(given: SampleSet, reference: SampleSet) -> float:
    return float((given.states[:, 0] < 1).double().mean())


def ratio(given: SampleSet, reference: SampleSet) -> float:
    """Error of the median member over the truth's size: a ratio of two means, as quantile losses are."""
    medians = members_per_case(given.states, len(reference)).median(1).values
    return float((medians - reference.states).abs().sum() / reference.states.abs().sum())


def frechet(given: SampleSet, reference: SampleSet) -> float:
    return frechet_distance(given.states.double(), reference.states.double())


def discrepancy(given: SampleSet, reference: SampleSet) -> float:
    def kernel(one: SampleSet, other: SampleSet) -> Tensor:
        return torch.exp(-torch.cdist(one.states, other.states).square() / 8).mean()

    return float(kernel(given, given) - 2 * kernel(given, reference))  # what is left out is constant


@dataclass(frozen=True)
class World:
    """A metric, what its units are, and what it judges."""

    ask: Callable[[SampleSet, SampleSet], float]
    uncertainty: Uncertainty
    draw: Callable[[Generator], Worlds]


WORLDS = {
    "share of 100 samples": World(share, "samples", samples(100)),
    "CRPS of 12 cases": World(EnsembleCRPS().compute, "cases", cases(12, 4)),
    "RMSE of 12 cases": World(EnsembleRMSE().compute, "cases", cases(12, 4)),
    "ratio over 12 cases": World(ratio, "cases", cases(12, 5)),
    "Fréchet distance of 128 samples": World(frechet, "set", samples(128)),
    "MMD of 100 samples": World(discrepancy, "set", samples(100)),
}


def coverage(world: World, repetitions: int) -> tuple[float, float]:
    """How often the 95 % interval covers the mean of all repetitions: of one method's value, and of the difference."""
    found: list[list[tuple[float, float]]] = [[], []]
    for seed in range(repetitions):
        first, second, reference = world.draw(Generator().manual_seed(7919 * seed + 1))
        units = []
        for given in (first, second):
            made = unit_values(world.ask, world.ask(given, reference), given, reference, world.uncertainty)
            assert made is not None
            units.append(np.array(made.values))
        for values, kept in zip((units[0], units[0] - units[1]), found, strict=True):
            half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
            kept.append((float(values.mean()), float(half)))
    tables = [np.array(kept) for kept in found]
    one, other = (float(np.mean(abs(table[:, 0] - table[:, 0].mean()) <= table[:, 1])) for table in tables)
    return one, other


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| metric | value covered | difference covered |\n| --- | --- | --- |")
    for name, world in WORLDS.items():
        shares = coverage(world, int(sys.argv[1]))
        print(f"| {name} | {100 * shares[0]:.1f} % | {100 * shares[1]:.1f} % |", flush=True)
