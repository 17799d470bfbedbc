"""Asking metrics for values, so that none can spoil another's: what it is given is put back, what it gives is checked.

A metric is a plugin's code. It may raise anything, return anything, and write into what it was handed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.metrics.card import MetricCard, Score
from anydiff.metrics.metric import Metric, SampleSet
from anydiff.plugins.report import report
from anydiff.registry import CORE, registry
from anydiff.states import Conditioning
from anydiff.states.conditions import spoken


class MetricError(AnydiffError):
    """A metric that breaks the rules of its face; the sentence names plugin and metric."""


@dataclass
class _Kept:
    """A copy of what a metric is handed, to tell afterwards whether it wrote into that, and to put it back."""

    given: SampleSet
    states: Tensor = field(init=False)
    condition: Conditioning = field(init=False)

    def __post_init__(self) -> None:
        self.states = self.given.states.clone()
        self.condition = self.given.condition.clone()

    def _pairs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        yield "states", self.given.states, self.states
        now = dict(self.given.condition.tensors())
        for name, value in self.condition.tensors():
            yield spoken(name), now[name], value

    def changed(self) -> str:
        """What was written into (``"states"``), after putting it back; empty where nothing was."""
        found = ""
        for what, now, before in self._pairs():
            if not _same_bits(now, before):
                found = found or what
                with torch.no_grad():
                    now.copy_(before)
        if found:  # what was derived of changed numbers is worth nothing
            self.given.forget_derived()
        return found


class Judge:
    """Asks one metric after the other about the same two sample sets."""

    def __init__(self, samples: SampleSet, reference: SampleSet) -> None:
        self.samples, self.reference = samples, reference
        self._kept = {"samples": _Kept(samples)}
        if reference is not samples:
            self._kept["reference"] = _Kept(reference)

    def ask(self, metric: Metric) -> tuple[object, str]:
        """What the metric returns, whatever it is, and what it wrote into (put back by now; empty if nothing)."""
        try:
            value: object = metric.compute(self.samples, self.reference)
        finally:
            written = self._put_back()
        return value, written

    def value(self, metric: Metric, name: str) -> float:
        """The metric's value.

        Args:
            metric: to be asked.
            name: the registered name.

        Raises:
            AnydiffError: the metric refuses these samples: its own sentence.
            MetricError: it raised something else, returned what is no number, or wrote into what it was given.
        """
        try:
            value, written = self.ask(metric)
        except (KeyboardInterrupt, MemoryError, AnydiffError):
            raise
        except BaseException as error:  # whatever it raises, the other metrics have their values
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise MetricError(f"{_owner(name)} failed ({text[:300]}); {_advice(name)}.") from error
        if written:
            raise MetricError(f"{_owner(name)} writes into {written}, which it may only read; {_advice(name)}.")
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise MetricError(
                f"{_owner(name)} gives {_short(value)}, which is {type(value).__name__} and no float; {_advice(name)}."
            )
        number = float(value)
        if math.isnan(number):
            raise MetricError(f"{_owner(name)} is NaN for these samples; look at the samples, or {_advice(name)}.")
        return number

    def _put_back(self) -> str:
        found = ""
        for what, kept in self._kept.items():
            changed = kept.changed()
            if changed:
                found = found or f"{changed} of the {what}"
        return found


def judge(metrics: Sequence[tuple[str, Metric]], samples: SampleSet, reference: SampleSet) -> dict[str, Score]:
    """A score per metric; one that fails keeps no other from its value, and its score says what is wrong.

    Problems are also told as they come (:func:`anydiff.plugins.report_to`).

    Args:
        metrics: registered name and metric.
        samples: to be judged.
        reference: what they are compared with.

    Raises:
        AnydiffError: no metric has a value; the sentence is that of the first.
    """
    asked = Judge(samples, reference)
    scores: dict[str, Score] = {}
    first: AnydiffError | None = None
    for name, metric in metrics:
        card = _card(metric, name)
        try:
            value, problem = asked.value(metric, name), ""
        except AnydiffError as error:
            first, value, problem = first or error, math.nan, str(error)
        else:
            problem = outside(value, card, name)
        scores[card.name] = Score(value, card, len(samples), problem)
    if first is not None and all(math.isnan(score.value) for score in scores.values()):
        raise first
    for score in scores.values():
        if score.problem:
            report(score.problem)
    return scores


def outside(value: float, card: MetricCard, name: str) -> str:
    """One sentence where ``value`` lies outside the range that the card promises, up to rounding; else empty."""
    low, high = card.range
    slack = 1e-6 * max(1.0, abs(value))
    if low - slack <= value <= high + slack:
        return ""
    return f"{_owner(name)} gives {value:.6g}, but its card promises {low:g} to {high:g}; {_advice(name)}."


def values_of(scores: Mapping[str, Score]) -> dict[str, float]:
    """The values of those metrics that have one."""
    return {name: score.value for name, score in scores.items() if not math.isnan(score.value)}


def _card(metric: Metric, name: str) -> MetricCard:
    try:
        card = metric.card
    except Exception:  # compute() most likely fails with it, and then the score says so
        card = None
    return card if isinstance(card, MetricCard) else MetricCard(name, "lower", "?", (-math.inf, math.inf), 0.0, 1)


def _owner(name: str) -> str:
    known = {entry.name: entry.plugin for entry in registry().entries("metrics")}
    plugin = known.get(name, CORE)
    return f"metric {name!r}" + ("" if plugin == CORE else f" of plugin {plugin!r}")


def _advice(name: str) -> str:
    known = {entry.name: entry.plugin for entry in registry().entries("metrics")}
    plugin = known.get(name, CORE)
    return "report it" if plugin == CORE else f"run `anydiff check {plugin}` and repair or update that plugin"


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _same_bits(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors hold the same bytes; numbers that are not finite compare like all others."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    return torch.equal(*(each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, two)))
