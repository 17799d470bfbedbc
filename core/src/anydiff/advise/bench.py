"""Samples of one model, judged by its recipe's first metric: every setting from the same noise, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet, UnitValues, blocks_of, t_interval, unit_values
from anydiff.metrics.jackknife import BLOCK, FEWEST, GROUPS
from anydiff.metrics.metric import Metric
from anydiff.networks import Autoencoder
from anydiff.pipeline import Pipeline
from anydiff.pipeline.evaluate import like
from anydiff.pipeline.fixed import require_free, require_whole
from anydiff.recipes.build import build_dataset, sample_set
from anydiff.registry import registry
from anydiff.states import permutation

CANDIDATES: tuple[tuple[str, str | None], ...] = (
    ("dpm-solver++-2m", "karras"), ("dpm-solver++-2m", None), ("by-budget", None), ("ddim", None), ("heun", "time"),
)  # fmt: skip
"""(solver, grid) that are tried; None is the solver's or the path's own grid."""
BUDGETS = (5, 10, 20, 40)
MEMBERS = 8
"""Samples of each case, where the metric pairs samples and truths."""


@dataclass(frozen=True)
class Share:
    """A part of the error, in the metric's unit; positive is bad.

    Attributes:
        value: the part.
        half_width: of its 95 % interval; NaN where the metric has no units.
    """

    value: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.value:.4g}" + ("" if math.isnan(self.half_width) else f" ± {self.half_width:.2g}")


@dataclass(frozen=True)
class Trial:
    """One setting.

    Attributes:
        solver: its name.
        grid: its time grid; None for the solver's or the path's own.
        nfe: network calls.
        value: of the metric.
        share: m(n) - m*, in the direction that is bad.
        distance: of its states from the fine limit's, root mean square over their spread; NaN for stochastic solvers.
    """

    solver: str
    grid: str | None
    nfe: int
    value: float
    share: Share
    distance: float = math.nan

    @property
    def name(self) -> str:
        """As for a command line."""
        return f"--solver {self.solver}" + (f" --grid {self.grid}" if self.grid else "") + f" --nfe {self.nfe}"


@dataclass(frozen=True)
class Judged:
    """Samples of a setting.

    Attributes:
        states: of the samples.
        value: of the metric.
        units: of the value.
    """

    states: Tensor
    value: float
    units: UnitValues | None


class Bench:
    """Draws and judges samples of one model by its recipe's first metric, from the same noise for every setting.

    Args:
        pipeline: the model.
        count: samples to judge; of a metric that pairs samples and truths, :data:`MEMBERS` of each case.
        seed: of the noise.
        options: as for :meth:`~anydiff.pipeline.Pipeline.sample`.

    Raises:
        AnydiffError: the model is an autoencoder, its recipe has no metric, or so few samples do not tell how uncertain
            its value is.
    """

    def __init__(self, pipeline: Pipeline, count: int, seed: int, options: dict[str, Any]) -> None:
        name = pipeline.recipe.name
        if isinstance(pipeline.denoiser.network, Autoencoder):
            raise AnydiffError(f"{name!r} is an autoencoder, which draws nothing; evaluate it instead.")
        require_free(pipeline, "advice on solvers and budgets")
        require_whole(pipeline, "advice on solvers and budgets")
        if not pipeline.recipe.metrics:
            raise AnydiffError(f"{name!r} names no metric, so no error can be split; set metrics in its recipe.")
        part = pipeline.recipe.metrics[0]
        self.pipeline, self.seed, self.options, self.calls = pipeline, seed, options, 0
        self.metric: Metric = registry().build("metrics", part.name, **part.options)
        about = registry().get("metrics", part.name).metadata
        self.paired = bool(about.get("paired") or about.get("oracle"))
        self.sign = 1.0 if self.metric.card.direction == "lower" else -1.0
        held_out = build_dataset(pipeline.recipe, "test")
        whole = sample_set(held_out, range(len(held_out)))
        if len(whole) < 2:
            raise AnydiffError(f"{name!r} has {len(whole)} held-out examples, but an error needs at least 2.")
        cases = max(2, count // MEMBERS)
        rows, dependence = list(range(min(cases, len(whole)))), held_out.dependence if self.paired else 0
        if dependence:  # from all of the time, so that as few as can be depend on each other
            rows = [row * len(whole) // len(rows) for row in rows]
        self.reference = whole.rows(rows) if self.paired else whole
        self.count = len(self.reference) * MEMBERS if self.paired else count
        self.blocks = blocks_of(rows, len(whole), dependence)
        self._require_enough(dependence)
        self.stochastic = pipeline.plan().draws > 0

    def _require_enough(self, dependence: int) -> None:
        """Enough that a sixteenth, or a block, may be missing: else nothing tells how uncertain the value is."""
        if self.blocks is not None and len(set(self.blocks)) < FEWEST:
            raise AnydiffError(
                f"each held-out example of {self.pipeline.recipe.name!r} depends on the next {dependence}, so that "
                f"{len(self.reference)} cases are of fewer than {FEWEST} blocks; give count={FEWEST * MEMBERS} or "
                f"more, and at least {FEWEST * BLOCK * dependence} held-out examples."
            )
        least = self.metric.card.minimum_samples
        there = len(self.reference) if self.paired else min(self.count, len(self.reference) // 2)
        wanted = max(FEWEST, math.ceil((least + 1) * GROUPS / (GROUPS - 1)))
        if there < wanted:
            what, times = ("cases", MEMBERS) if self.paired else ("samples", 1)
            raise AnydiffError(
                f"{self.metric.card.name} of {there} {what} does not tell how uncertain it is; give count="
                f"{wanted * times} or more, and at least {wanted if self.paired else 2 * wanted} held-out examples."
            )

    def drawn(self, solver: str | None, grid: str | None, nfe: int) -> Judged:
        """Samples of a setting, judged; None is the recipe's own solver and its grid."""
        chosen: dict[str, Any] = {} if solver is None else {"solver": solver}
        chosen |= {} if grid is None else {"grid": grid}
        self.calls += nfe
        settings = {"seed": self.seed, "nfe": nfe, **chosen, **self.options}
        return self.judge(like(self.pipeline, self.reference, self.count, settings), self.reference)

    def judge(self, samples: SampleSet, reference: SampleSet) -> Judged:
        """The value of samples, with its units."""
        value = float(self.metric.compute(samples, reference))
        if not math.isfinite(value):
            raise AnydiffError(f"{self.metric.card.name} is {value} for {len(samples)} samples; look at the samples.")
        kind = "cases" if self.paired else self.metric.card.uncertainty
        own, least = self.metric.scores(samples, reference), self.metric.card.minimum_samples
        units = unit_values(self.metric.compute, value, samples, reference, kind, least, own, self.blocks)
        return Judged(samples.states, value, units)

    def trial(self, limit: Judged, solver: str, grid: str | None, nfe: int, found: Judged) -> Trial:
        """A setting against the limit."""
        share = Share(self.sign * (found.value - limit.value), half_of_difference(found.units, limit.units))
        return Trial(solver, grid, nfe, found.value, share, self.distance(found.states, limit.states))

    def distance(self, states: Tensor, limit: Tensor) -> float:
        """Root mean square of the difference over the limit's spread; NaN where noise is drawn on the way."""
        if self.stochastic:
            return math.nan
        return float((states - limit).double().square().mean().sqrt() / limit.double().std())

    def ceiling(self) -> tuple[float, UnitValues | None]:
        """What perfect samples reach: the ideal of a paired metric, else held-out data against the rest of it."""
        if self.paired:
            return self.metric.card.ideal, None
        size = len(self.reference)
        order = permutation(self.seed, 0, "advise/ceiling", size).tolist()
        chosen = min(self.count, size // 2)
        found = self.judge(self.reference.rows(order[:chosen]), self.reference.rows(order[chosen:]))
        return found.value, found.units

    def choose(
        self, limit: Judged, asked: Trial, fine: int, allowed: float, report: Callable[[str], None]
    ) -> Trial | None:
        """The cheapest setting whose solver's share is at most ``allowed``."""
        own = self.pipeline.recipe.sampling.solver.name
        for nfe in (each for each in BUDGETS if not self.stochastic or each < fine):
            if self.stochastic:
                report(f"{own} with {nfe} calls")
                found: Trial | None = self.trial(limit, own, None, nfe, self.drawn(None, None, nfe))
            else:
                report(f"{len(CANDIDATES)} solvers with {nfe} calls")
                found = self._best(limit, nfe)
            if found is not None and found.share.value <= allowed:
                return found
        return asked if asked.share.value <= allowed else None

    def _best(self, limit: Judged, nfe: int) -> Trial | None:
        """The candidate whose states are nearest to the limit's, or the best of those whose metric is better than its
        beyond the interval of the difference: a model whose own limit is not its best is taken at its best. None where
        no solver takes so few calls.
        """
        tried: list[tuple[Trial, Judged]] = []
        for solver, grid in CANDIDATES:
            try:
                found = self.drawn(solver, grid, nfe)
            except AnydiffError:  # a solver that does not travel this path, or needs more calls
                continue
            trial = self.trial(limit, solver, grid, nfe, found)
            tried += [(trial, found)] if math.isfinite(trial.distance) else []
        if not tried:
            return None
        nearest, judged = min(tried, key=lambda each: each[0].distance)
        better = [nearest]
        for trial, found in tried:
            half = half_of_difference(found.units, judged.units)
            better += [trial] if trial.share.value < nearest.share.value - half else []
        return min(better, key=lambda each: each.share.value)


def half_width(units: UnitValues | None) -> float:
    """Half the width of the 95 % t interval of the mean."""
    if units is None:
        raise AnydiffError("the metric has a value of all samples but none of a part of them; give more samples.")
    low, high = t_interval(units.values)
    return (high - low) / 2


def half_of_difference(first: UnitValues | None, second: UnitValues | None) -> float:
    """Half the width of the interval of the difference, unit by unit; NaN where the units are not the same."""
    if first is None or second is None or first.numbers != second.numbers:
        return math.nan
    difference = tuple(one - other for one, other in zip(first.values, second.values, strict=True))
    return half_width(UnitValues(difference, first.numbers))
