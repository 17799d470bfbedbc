"""Splits the error of a model's samples into solver, network and finite sample, and says what would help.

Let m(n) be the recipe's first metric with n network calls, from the same noise for every n, and m* that of the model's
own fine limit. Then

- the solver's share is m(n) - m*: what more calls, or another solver, would take away;
- the network's share is m* - c, with c what held-out data reach against held-out data (of a metric that pairs samples
  and truths, its ideal: then the share holds what no forecast can know as well);
- the finite sample's share is the half width of the 95 % interval of m*: what more samples would make smaller.

Each has an interval over the units of the metric (:mod:`anydiff.metrics.jackknife`), the solver's from the differences
unit by unit. Other deterministic solvers lead from the same noise to the same limit, so of the candidates with equal
calls the nearest to it is taken, unless the metric of another is better beyond the interval of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from anydiff.advise.bench import Bench, Share, Trial, half_width
from anydiff.advise.levels import Level, denoising_levels
from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import MetricCard
from anydiff.pipeline import Pipeline

LIMIT = 160
"""Calls of the fine limit, at least; eight times the budget that is asked about, if that is more."""


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
        """Of solver and network what loses more, or ``sample``: where the interval of that share holds 0, or where half
        the width of the metric's own interval is more than it.
        """
        name, share = self._greatest
        return "sample" if share.value <= max(self.sample.value, _width(share)) else name

    @property
    def _greatest(self) -> tuple[str, Share]:
        return max((("solver", self.asked.share), ("network", self.network)), key=lambda each: each[1].value)

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
        greatest = self._greatest[1]
        wider = max(self.sample.value, _width(greatest)) / max(greatest.value, 1e-12)
        times = min(1000, max(2, math.ceil(wider**2)))
        return (
            f"More samples would help most: with {self.samples} the interval is wider than what solver and network "
            f"lose; about {times * self.samples:,} would tell these apart."
        )


def _width(share: Share) -> float:
    return 0.0 if math.isnan(share.half_width) else share.half_width


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
    bench = Bench(pipeline, natural_number("count", count), seed, options)
    settings = pipeline.recipe.sampling
    own, calls = settings.solver.name, settings.nfe if nfe is None else natural_number("nfe", nfe)
    fine = max(LIMIT, 8 * calls)
    report(f"the fine limit: {fine} calls")
    limit = bench.drawn(None, None, fine)
    report(f"the recipe's own solver with {calls} calls")
    asked = bench.trial(limit, own, None, calls, bench.drawn(None, None, calls))
    ceiling, ceiling_units = bench.ceiling()
    half = half_width(limit.units)
    uncertain = half if bench.paired else math.hypot(half, half_width(ceiling_units))
    network, sample = Share(bench.sign * (limit.value - ceiling), uncertain), Share(half, math.nan)
    allowed = tolerance * (abs(asked.share.value) + abs(network.value) + half)
    chosen = bench.choose(limit, asked, fine, allowed, report)
    report("the network's loss at fixed noise levels")
    levels = denoising_levels(pipeline, bench.count, seed)
    return Advice(
        bench.metric.card, bench.count, asked, limit.value, ceiling, network, sample, chosen, tolerance, levels,
        not bench.paired, bench.calls,
    )  # fmt: skip
