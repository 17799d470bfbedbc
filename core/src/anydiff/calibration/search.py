"""What all methods of calibration share: their face, what they may spend, and the search for one number."""

from __future__ import annotations

import bisect
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anydiff.calibration.reference import Trials, per_sample
from anydiff.errors import AnydiffError
from anydiff.paths.path import Path
from anydiff.registry import registry
from anydiff.solvers import Plan, Solver, Start, compile_plan

BOOTSTRAPS = 2000

#: What is made of the samples' squared distances, along an axis.
STATISTICS: dict[str, Callable[[Any, int], Any]] = {"mean": np.mean, "median": np.median}

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass
class Spending:
    """What a search may cost, and has cost.

    Attributes:
        seconds: of the clock, for the whole calibration; None for no limit.
        calls: network calls (each of all search noises together); None for no limit.
        report: told what is being searched, a sentence each.
    """

    seconds: float | None = None
    calls: int | None = None
    report: Callable[[str], None] | None = None
    begun: float = field(default_factory=time.monotonic)

    def check(self, calls: int) -> None:
        """Raise :class:`SpentError` where a limit is reached."""
        if self.seconds is not None and time.monotonic() - self.begun > self.seconds:
            raise SpentError(f"the search reached its limit of {self.seconds:g} seconds; raise seconds to go on.")
        if self.calls is not None and calls > self.calls:
            raise SpentError(f"the search reached its limit of {self.calls} network calls; raise it to go on.")

    def tell(self, sentence: str) -> None:
        """Tell who listens."""
        if self.report is not None:
            self.report(sentence)


class SpentError(AnydiffError):
    """A search reached what it may cost."""


@dataclass(frozen=True)
class Found:
    """What a search found for one number of calls: the values that the solver is compiled with, and its score.

    Attributes:
        values: arrays by name, empty for the baseline.
        score: mean squared distance on the search's own noises.
        baseline: that of the baseline there.
    """

    values: Mapping[str, NDArray[Any]]
    score: float
    baseline: float


class Method(ABC):
    """A way to calibrate a solver. A frozen dataclass whose fields are its options.

    Attributes:
        name: as registered.
        count: noises of a search where the setting says nothing.
        fresh: noises that decide where it says nothing.
        least: fewer of either say nothing.
        law: the law of the samples is compared, so that plans may draw noise; else each sample with its exact end.
    """

    name: ClassVar[str]
    count: ClassVar[int] = 10  # search noises where the setting says nothing
    fresh: ClassVar[int] = 64  # and those that decide
    least: ClassVar[int] = 2  # fewer of either say nothing
    law: ClassVar[bool] = False  # the law of samples is compared, and not each sample with the exact end of its noise

    @abstractmethod
    def search(self, trials: Trials, nfe: int, spending: Spending) -> Found:
        """Search for ``nfe`` calls on the noises of ``trials``; the same trials give the same values."""

    @abstractmethod
    def solver(self, values: Mapping[str, NDArray[Any]]) -> Solver:
        """The solver with these values; without any the baseline."""

    @property
    def grid(self) -> str | None:
        """The grid on which it is searched and sampled; None for the solver's own or else the path's."""
        return None

    def compared(self, won: Tensor, plain: Tensor, end: Tensor) -> tuple[float, float, tuple[float, float, float]]:
        """What fresh noises decide by: the values of winner and baseline, and their ratio with its 95 % interval.

        By default squared distances from the exact ends, sample by sample, by paired bootstrap.
        """
        a, b = (per_sample(each, end).cpu().numpy() for each in (won, plain))
        over = STATISTICS[self.statistic]
        rows = np.random.default_rng(0).integers(0, len(a), (BOOTSTRAPS, len(a)))
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = over(a[rows], 1) / over(b[rows], 1)
            value = over(a, 0) / over(b, 0)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(over(a, 0)), float(over(b, 0)), (float(value), float(low), float(high))

    @property
    def statistic(self) -> str:
        """What fresh noises compare: the ``"mean"`` or the ``"median"`` of the samples' squared distances."""
        return "mean"

    def plan(self, values: Mapping[str, NDArray[Any]], path: Path, nfe: int, guided: bool = False) -> Plan:
        """The plan of so many calls with these values; without any that of the baseline.

        ``guided``: a guidance bends the flow (:attr:`anydiff.denoisers.wrappers.Wrapper.bends`).
        """
        solver = self.solver(values)
        return compile_plan(solver.under_guidance() if guided else solver, path, nfe, self.grid)

    def start(self, values: Mapping[str, NDArray[Any]]) -> Start | None:
        """Where sampling begins with these values; None for the prior."""
        return None

    def remark(self, values: Mapping[str, NDArray[Any]]) -> str:
        """What whoever samples with these values must know, a sentence; empty for nothing."""
        return ""


Candidate = TypeVar("Candidate")


class Space(ABC, Generic[Candidate]):
    """What an evolutionary search moves in."""

    @abstractmethod
    def first(self) -> Sequence[Candidate]:
        """The candidates that it begins with, all of which are scored."""

    @abstractmethod
    def crossed(self, one: Candidate, other: Candidate, rng: np.random.Generator) -> Candidate:
        """A candidate with a part from each."""

    @abstractmethod
    def mutated(self, one: Candidate, rng: np.random.Generator) -> Candidate:
        """A candidate near by."""

    @abstractmethod
    def key(self, one: Candidate) -> Hashable:
        """Equal for candidates that are the same."""


@dataclass(frozen=True)
class Evolution:
    """How long a search goes on, and from whom it takes children.

    Attributes:
        evaluations: candidates that are scored beside the first ones.
        parents: the best so many have children.
        crossover: the share of children that are crossed before they are mutated.
        seed: of all that is drawn.
    """

    evaluations: int = 400
    parents: int = 15
    crossover: float = 0.4
    seed: int = 0


def evolve(
    space: Space[Candidate], score: Callable[[Candidate], float], how: Evolution,
    told: Callable[[int, float], None] | None = None,
) -> list[tuple[float, Candidate]]:  # fmt: skip
    """The archive of all that was scored, the best first; same seed, same archive.

    A candidate is scored once. What is not finite counts as infinitely bad. The search ends early where ten draws in a
    row find nothing new. ``told`` hears the number of candidates scored and the best score, after each.
    """
    rng = np.random.default_rng(how.seed)
    archive: list[tuple[float, int, Candidate]] = []
    seen: set[Hashable] = set()

    def tried(candidate: Candidate) -> bool:
        key = space.key(candidate)
        if key in seen:
            return False
        seen.add(key)
        value = score(candidate)
        bisect.insort(archive, (value if math.isfinite(value) else math.inf, len(archive), candidate),
                      key=lambda each: each[:2])  # fmt: skip
        if told is not None:
            told(len(archive), archive[0][0])
        return True

    for candidate in space.first():
        tried(candidate)
    for _ in range(how.evaluations):
        for _ in range(10):
            best = [candidate for _, _, candidate in archive[: how.parents]]
            child = best[int(rng.integers(len(best)))]
            if rng.random() < how.crossover:
                child = space.crossed(child, best[int(rng.integers(len(best)))], rng)
            if tried(space.mutated(child, rng)):
                break
        else:
            break
    return [(value, candidate) for value, _, candidate in archive]


def named_solver(name: str) -> Solver:
    """The registered solver of that name.

    Raises:
        AnydiffError: there is none, or what has the name is no solver of plans.
    """
    made = registry().build("solvers", name)
    if not isinstance(made, Solver):
        raise AnydiffError(f"base is {name!r}, which makes no plan; name a solver (`anydiff solvers`).")
    return made


def bounded_minimum(
    function: Callable[[float], float], low: float, high: float, first: float, tries: int = 12
) -> tuple[float, float]:
    """(x, f(x)) of the least f seen in [low, high], by ``tries`` evaluations: ``first``, a coarse grid, golden section.

    ``first`` wins ties, and what is not finite never wins.
    """
    seen: dict[float, float] = {}

    def value(x: float) -> float:
        if x not in seen:
            found = function(x)
            seen[x] = found if math.isfinite(found) else math.inf
        return seen[x]

    value(first)
    for place in np.linspace(low, high, max(tries // 2 - 1, 3)):
        value(float(place))
    ordered = sorted(seen)
    best = min(ordered, key=lambda x: (seen[x], x != first))
    index = ordered.index(best)
    a, b = ordered[max(index - 1, 0)], ordered[min(index + 1, len(ordered) - 1)]
    left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    while len(seen) < tries and b - a > 1e-4:
        if value(left) <= value(right):
            b, right = right, left
            left = b - GOLDEN * (b - a)
        else:
            a, left = left, right
            right = a + GOLDEN * (b - a)
    best = min(seen, key=lambda x: (seen[x], x != first))
    return best, seen[best]
