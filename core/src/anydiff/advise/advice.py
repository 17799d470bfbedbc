"""Splits the error of a model's samples into solver, network and finite sample, and says what would help.

Let m(n) be the recipe's first metric with n network calls, from the same noise for every n, and m* that of the model's
own fine limit. Then

- the solver's share is m(n) - m*: what more calls, or another solver, would take away;
- the network's share is m* - c, with c what held-out data reach against held-out data (of a metric that pairs samples
  and truths, its ideal: then the share holds what no forecast can know as well);
- the finite sample's share is the half width of the 95 % interval of m*: what more samples would make smaller.

Each has an interval over the units of the metric (:mod:`anydiff.metrics.jackknife`), the solver's from the differences
unit by unit. Other deterministic solvers lead from the same noise to the same limit, so the distance of a few states to
it orders the candidates, and the metric decides which is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from anydiff.advise.levels import Level, denoising_levels
from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import MetricCard, SampleSet, UnitValues, t_interval, unit_values
from anydiff.metrics.jackknife import FEWEST, GROUPS
from anydiff.metrics.metric import Metric
from anydiff.networks import Autoencoder
from anydiff.pipeline import Pipeline
from anydiff.pipeline.evaluate import like
from anydiff.registry import registry
from anydiff.states import permutation

CANDIDATES: tuple[tuple[str, str | None], ...] = (
    ("dpm-solver++-2m", "karras"), ("dpm-solver++-2m", None), ("by-budget", None), ("ddim", None), ("heun", "time"),
)  # fmt: skip
"""(solver, grid) that are tried; None is the solver's or the path's own grid."""
BUDGETS = (5, 10, 20, 40)
LIMIT = 160
"""Calls of the fine limit, at least; eight times the budget that is asked about, if that is more."""
SCREENED = 16
"""Samples whose states order the candidates."""
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
class Advice:
    """What :func:`advise` found.

    Attributes:
        card: of the metric.
        samples: how many were judged.
        asked: the setting that was asked about.
        limit: m*.
        ceiling: c.
        network: the network's share.
        sample: the finite sample's share.
        chosen: the cheapest trial whose solver's share is below ``tolerance`` of the whole; None where none is.
        tolerance: the share that the solver may have.
        levels: the network's loss at fixed noise levels.
        reachable: whether held-out data reach the ceiling; a forecast does not reach its metric's ideal.
        calls: network calls per sample that were spent in all.
    """

    card: MetricCard
    samples: int
    asked: Trial
    limit: float
    ceiling: float
    network: Share
    sample: Share
    chosen: Trial | None
    tolerance: float
    levels: Sequence[Level]
    reachable: bool
    calls: int

    @property
    def cause(self) -> str:
        """The greatest share: ``solver``, ``network`` or ``sample``; ``sample`` where no other exceeds its interval."""
        parts = {"solver": self.asked.share.value, "network": self.network.value}
        name = max(parts, key=lambda each: parts[each])
        return name if parts[name] > self.sample.value else "sample"

    @property
    def sentence(self) -> str:
        """What would help, in one sentence."""
        if self.cause == "solver":
            if self.chosen is None:
                return f"More calls would help most: no setting tried reaches the limit {self.limit:.4g} of this model."
            return f"More calls, or another solver, would help most: take {self.chosen.name}."
        if self.cause == "network":
            cheaper = self.chosen is not None and self.chosen.nfe < self.asked.nfe
            spare = f" ({self.chosen.name} would do as well)" if cheaper and self.chosen is not None else ""
            if not self.reachable:
                return (
                    f"More calls would not help{spare}: what is left is lost by the network, or cannot be known from "
                    "what the forecast is given."
                )
            return f"More training, data or a larger network would help most; more calls would not{spare}."
        wanted = max(self.asked.share.value, self.network.value, 1e-12)
        times = min(1000, math.ceil((self.sample.value / wanted) ** 2))
        return (
            f"More samples would help most: with {self.samples} the interval is wider than what solver and network "
            f"lose; about {times * self.samples:,} would tell these apart."
        )


def advise(
    pipeline: Pipeline,
    count: int = 200,
    *,
    nfe: int | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
    report: Callable[[str], None] = lambda sentence: None,
    **options: Any,
) -> Advice:
    """Split the error of ``pipeline`` with ``nfe`` calls (default: the recipe's) and choose a setting.

    Args:
        pipeline: the model.
        count: samples to judge.
        nfe: the budget that is asked about.
        tolerance: the share of the whole error that a chosen setting's solver may have, in (0, 1).
        seed: of the noise.
        report: told what is being done.
        options: as for :meth:`~anydiff.pipeline.Pipeline.sample`: ``batch_size``, ``device``, ``guidance``.

    Raises:
        AnydiffError: the model is an autoencoder, its recipe has no metric, or the metric refuses so few samples.
    """
    if not 0 < tolerance < 1:
        raise AnydiffError(f"tolerance is {tolerance}, but must lie between 0 and 1 (0.1, say).")
    bench = _Bench(pipeline, natural_number("count", count), seed, options)
    settings = pipeline.recipe.sampling
    own, calls = settings.solver.name, settings.nfe if nfe is None else natural_number("nfe", nfe)
    fine = max(LIMIT, 8 * calls)
    report(f"the fine limit: {fine} calls")
    limit = bench.drawn(None, None, fine)
    report(f"the recipe's own solver with {calls} calls")
    asked = bench.trial(limit, own, None, calls, bench.drawn(None, None, calls))
    ceiling, ceiling_units = bench.ceiling()
    half = _half(limit.units)
    uncertain = half if bench.paired else math.hypot(half, _half(ceiling_units))
    network, sample = Share(bench.sign * (limit.value - ceiling), uncertain), Share(half, math.nan)
    allowed = tolerance * (abs(asked.share.value) + abs(network.value) + half)
    chosen = bench.choose(limit, asked, fine, allowed, report)
    report("the network's loss at fixed noise levels")
    levels = denoising_levels(pipeline, bench.count, seed)
    return Advice(
        bench.metric.card, bench.count, asked, limit.value, ceiling, network, sample, chosen, tolerance, levels,
        not bench.paired, bench.calls,
    )  # fmt: skip


@dataclass(frozen=True)
class _Judged:
    states: Tensor
    value: float
    units: UnitValues | None


class _Bench:
    """Draws and judges samples of one model by its recipe's first metric, from the same noise for every setting."""

    def __init__(self, pipeline: Pipeline, count: int, seed: int, options: dict[str, Any]) -> None:
        name = pipeline.recipe.name
        if isinstance(pipeline.denoiser.network, Autoencoder):
            raise AnydiffError(f"{name!r} is an autoencoder, which draws nothing; evaluate it instead.")
        if not pipeline.recipe.metrics:
            raise AnydiffError(f"{name!r} names no metric, so no error can be split; set metrics in its recipe.")
        part = pipeline.recipe.metrics[0]
        self.pipeline, self.seed, self.options, self.calls = pipeline, seed, options, 0
        self.metric: Metric = registry().build("metrics", part.name, **part.options)
        about = registry().get("metrics", part.name).metadata
        self.paired = bool(about.get("paired") or about.get("oracle"))
        self.sign = 1.0 if self.metric.card.direction == "lower" else -1.0
        whole = pipeline.reference()
        if len(whole) < 2:
            raise AnydiffError(f"{name!r} has {len(whole)} held-out examples, but an error needs at least 2.")
        cases = max(2, count // MEMBERS)
        self.reference = whole.rows(range(min(cases, len(whole)))) if self.paired else whole
        self.count = len(self.reference) * MEMBERS if self.paired else count
        self._require_enough()
        self.stochastic = pipeline.plan().draws > 0

    def _require_enough(self) -> None:
        """Enough that a sixteenth may be missing: else nothing tells how uncertain the value is."""
        least = self.metric.card.minimum_samples
        there = len(self.reference) if self.paired else min(self.count, len(self.reference) // 2)
        wanted = max(FEWEST, math.ceil((least + 1) * GROUPS / (GROUPS - 1)))
        if there < wanted:
            what, times = ("cases", MEMBERS) if self.paired else ("samples", 1)
            raise AnydiffError(
                f"{self.metric.card.name} of {there} {what} does not tell how uncertain it is; give count="
                f"{wanted * times} or more, and at least {wanted if self.paired else 2 * wanted} held-out examples."
            )

    def drawn(self, solver: str | None, grid: str | None, nfe: int, judged: bool = True) -> _Judged:
        """Samples of a setting, and their value; of the first :data:`SCREENED` the states alone if not ``judged``."""
        chosen: dict[str, Any] = {} if solver is None else {"solver": solver}
        chosen |= {} if grid is None else {"grid": grid}
        self.calls += nfe
        count = self.count if judged else min(SCREENED, self.count)
        reference = self.reference if judged else self.reference.rows(range(min(count, len(self.reference))))
        samples = like(self.pipeline, reference, count, {"seed": self.seed, "nfe": nfe, **chosen, **self.options})
        return self._judge(samples, reference) if judged else _Judged(samples.states, math.nan, None)

    def _judge(self, samples: SampleSet, reference: SampleSet) -> _Judged:
        value = float(self.metric.compute(samples, reference))
        if not math.isfinite(value):
            raise AnydiffError(f"{self.metric.card.name} is {value} for {len(samples)} samples; look at the samples.")
        kind = "cases" if self.paired else self.metric.card.uncertainty
        own, least = self.metric.scores(samples, reference), self.metric.card.minimum_samples
        units = unit_values(self.metric.compute, value, samples, reference, kind, least, own)
        return _Judged(samples.states, value, units)

    def trial(self, limit: _Judged, solver: str, grid: str | None, nfe: int, found: _Judged) -> Trial:
        """A setting against the limit."""
        share = Share(self.sign * (found.value - limit.value), _half_of_difference(found.units, limit.units))
        return Trial(solver, grid, nfe, found.value, share, self.distance(found.states, limit.states))

    def distance(self, states: Tensor, limit: Tensor) -> float:
        """Root mean square of the difference over the limit's spread; NaN where noise is drawn on the way."""
        if self.stochastic:
            return math.nan
        limit = limit[: len(states)]
        return float((states - limit).double().square().mean().sqrt() / limit.double().std())

    def ceiling(self) -> tuple[float, UnitValues | None]:
        """What perfect samples reach: the ideal of a paired metric, else held-out data against the rest of it."""
        if self.paired:
            return self.metric.card.ideal, None
        size = len(self.reference)
        order = permutation(self.seed, 0, "advise/ceiling", size).tolist()
        chosen = min(self.count, size // 2)
        found = self._judge(self.reference.rows(order[:chosen]), self.reference.rows(order[chosen:]))
        return found.value, found.units

    def choose(
        self, limit: _Judged, asked: Trial, fine: int, allowed: float, report: Callable[[str], None]
    ) -> Trial | None:
        """The cheapest setting whose solver's share is at most ``allowed``."""
        settings: list[tuple[str | None, str | None, int]] = [(None, None, nfe) for nfe in BUDGETS if nfe < fine]
        if not self.stochastic:
            settings = [(solver, grid, nfe) for nfe in BUDGETS for solver, grid in CANDIDATES]
        own = self.pipeline.recipe.sampling.solver.name
        for nfe in BUDGETS:
            here = [each for each in settings if each[2] == nfe]
            best = here[0] if self.stochastic else self._nearest(limit, here, report)
            if best is None:
                continue
            report(f"{best[0] or own} with {nfe} calls")
            found = self.trial(limit, best[0] or own, best[1], nfe, self.drawn(*best))
            if abs(found.share.value) <= allowed:
                return found
        return asked if abs(asked.share.value) <= allowed else None

    def _nearest(
        self, limit: _Judged, settings: Sequence[tuple[str | None, str | None, int]], report: Callable[[str], None]
    ) -> tuple[str | None, str | None, int] | None:
        """The setting whose states are nearest to the limit's; None where no solver takes so few calls."""
        report(f"{len(settings)} solvers with {settings[0][2]} calls")
        near: dict[tuple[str | None, str | None, int], float] = {}
        for setting in settings:
            try:
                found = self.drawn(*setting, judged=False)
            except AnydiffError:  # a solver that does not travel this path, or needs more calls
                continue
            distance = self.distance(found.states, limit.states)
            if math.isfinite(distance):
                near[setting] = distance
        return min(near, key=lambda each: near[each], default=None)


def _half(units: UnitValues | None) -> float:
    """Half the width of the 95 % t interval of the mean."""
    if units is None:
        raise AnydiffError("the metric has a value of all samples but none of a part of them; give more samples.")
    low, high = t_interval(units.values)
    return (high - low) / 2


def _half_of_difference(first: UnitValues | None, second: UnitValues | None) -> float:
    if first is None or second is None or first.numbers != second.numbers:
        return math.nan
    difference = tuple(one - other for one, other in zip(first.values, second.values, strict=True))
    return _half(UnitValues(difference, first.numbers))
