"""Metrics: the card is true, perfect samples are ideal, worse ones worse, order does not matter, few are refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anydiff.data.dataset import Dataset
from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet, Uncertainty, unit_values
from anydiff.metrics.judging import Judge
from anydiff.metrics.restoration import HIDDEN
from anydiff.recipes import Recipe
from anydiff.registry import Entry
from anydiff.states import ClassCondition, NoiseSource
from anydiff.testing.kit import check
from anydiff.testing.points import Points, random_states
from anydiff.testing.subject import Subject, require, skip

MOST = 400
"""How many samples a metric is given, unless its card asks for more."""


@dataclass(frozen=True)
class _Asked:
    """A metric whose writing into what it is given is undone and noted: all checks share the sample sets.

    Attributes:
        name: as registered.
        metric: of that name.
        written: what it wrote into, once for each time it was asked.
    """

    name: str
    metric: Metric
    written: list[str]

    @property
    def card(self) -> MetricCard:
        return self.metric.card

    def compute(self, samples: SampleSet, reference: SampleSet) -> Any:
        value, written = Judge(samples, reference).ask(self.metric)
        self.written.append(written)
        return value


def _metric(plugin: Subject, entry: Entry) -> _Asked:
    metric: Metric = plugin.build(entry)
    require(hasattr(metric, "card") and hasattr(metric, "compute"), "it has no card or no compute().")
    return _Asked(entry.name, metric, plugin.once(("written", entry.name), lambda: []))


class _Sets:
    """What the metrics of one data set are given. They share it, with all that they derive (decoded objects, say).

    Attributes:
        real: held-out data.
        worse: bad samples (:func:`_worse`).
        mixed: of which every other row is bad.
        turned_real: ``real`` in another order of rows.
        turned_mixed: ``mixed`` in the same other order.
    """

    def __init__(self, given: SampleSet) -> None:
        # Metrics of restoration judge what was not measured: here all of it.
        truth = {HIDDEN: torch.ones_like(given.states, dtype=torch.bool), **given.condition.truth}
        real = SampleSet(given.states, replace(given.condition, truth=truth), given.domain)
        self.real, self.worse = real, _worse(real)
        half = (torch.arange(len(real)) % 2 == 0).reshape(-1, *([1] * (real.states.ndim - 1)))
        states = torch.where(half, real.states, self.worse.states)
        self.mixed = SampleSet(states, real.condition, real.domain)
        shuffle = torch.randperm(len(real), generator=torch.Generator().manual_seed(3))
        self.turned_real, self.turned_mixed = (_rows(each, shuffle) for each in (real, self.mixed))


def _sets(plugin: Subject, entry: Entry, minimum: int) -> _Sets:
    """Of a recipe that uses the metric, else of the plugin's data, else points in the plane."""
    count = max(MOST, minimum)
    recipe = plugin.recipe_of(entry)
    if recipe is not None and plugin.absent_data(recipe):
        recipe = None
    key = "" if recipe is None else f"{recipe.dataset} {recipe.domain}"

    def made() -> _Sets:
        dataset = _dataset(plugin, recipe)
        if dataset is None:
            return _Sets(Points.cloud(count))
        rows = torch.arange(count) % len(dataset) if len(dataset) < count else torch.arange(count)
        states, condition = dataset.batch(rows.tolist())
        return _Sets(SampleSet(states, condition, dataset.domain))

    return plugin.once(("metric sets", key, count), made)


def _dataset(plugin: Subject, recipe: Recipe | None) -> Dataset | None:
    if recipe is not None:
        from anydiff.recipes.build import build_dataset

        return build_dataset(recipe, "test")
    at_hand = [each for each in plugin.of_kind("datasets") if not plugin.unavailable(each)]
    return plugin.dataset(at_hand[0], "test") if at_hand else None


def _worse(real: SampleSet) -> SampleSet:
    """Bad samples: off by two deviations, drowned in noise, and of another class than asked for."""
    spread = float(real.states.float().std())
    noise = NoiseSource(real.domain.spec, 5).draw(range(len(real)), 0, torch.float32)
    given = {
        name: (value + 1) % real.domain.conditions[name].classes
        if isinstance(real.domain.conditions.get(name), ClassCondition) and not value.is_floating_point()
        else value
        for name, value in real.condition.given.items()
    }
    states = real.states + 2 * spread + 2 * spread * noise
    if real.domain.spec.categorical:  # any classes, where real ones are of the data
        states = random_states(real.domain.spec, len(real))
    return SampleSet(states, replace(real.condition, given=given), real.domain)


def _value(plugin: Subject, metric: _Asked, sets: _Sets, which: str) -> Any:
    """Of one of the sets against real data, worked out by the first check that asks."""
    return plugin.once(("value", metric.name, which), lambda: metric.compute(getattr(sets, which), sets.real))


def _rows(samples: SampleSet, rows: Tensor) -> SampleSet:
    return samples.rows(rows.tolist())


@check("metric.card", "metrics")
def card(plugin: Subject, entry: Entry) -> None:
    """The card is filled in: its registered name, a direction, a unit, a range that holds the ideal, a minimum."""
    card = _metric(plugin, entry).card
    require(card.name == entry.name, f"the card's name is {card.name!r}, but it is registered as {entry.name!r}.")
    require(card.direction in ("lower", "higher"), f"the card's direction is {card.direction!r}.")
    require(bool(card.unit), "the card gives no unit; a plain number has '1'.")
    low, high = card.range
    require(low < high, f"the card's range is {card.range}.")
    best = low if card.direction == "lower" else high
    require(low <= card.ideal <= high, f"the card's ideal {card.ideal} lies outside its range {card.range}.")
    nearer = not math.isfinite(best) or abs(card.ideal - best) <= abs(card.ideal - (low + high - best))
    require(nearer, f"{card.direction} is better, but the ideal {card.ideal} is at the other end of {card.range}.")
    require(card.minimum_samples >= 1, f"the card's minimum_samples is {card.minimum_samples}.")


@check("metric.plain", "metrics")
def plain(plugin: Subject, entry: Entry) -> None:
    """The card is plain data, so that results, reports and `--json` can hold it."""
    card = _metric(plugin, entry).card
    try:
        json.dumps(card.as_dict())
    except (TypeError, ValueError) as error:
        require(False, f"the card cannot be written as JSON ({error}); use int, float, str of Python.")


@check("metric.identity", "metrics")
def identity(plugin: Subject, entry: Entry) -> None:
    """Real data against themselves are ideal, up to a quarter of the distance to bad samples."""
    metric = _metric(plugin, entry)
    sets = _sets(plugin, entry, metric.card.minimum_samples)
    value, bad = (_value(plugin, metric, sets, which) for which in ("real", "worse"))
    gap = abs(bad - metric.card.ideal)
    right = abs(value - metric.card.ideal) <= 0.25 * gap + 1e-9
    require(right, f"real data against themselves give {value:.4g}, but the ideal is {metric.card.ideal:g}.")


@check("metric.direction", "metrics")
def direction(plugin: Subject, entry: Entry) -> None:
    """Bad samples score worse than real data, in the card's direction."""
    metric = _metric(plugin, entry)
    sets = _sets(plugin, entry, metric.card.minimum_samples)
    good, bad = (_value(plugin, metric, sets, which) for which in ("real", "worse"))
    worse = bad > good if metric.card.direction == "lower" else bad < good
    require(worse, f"{metric.card.direction} is better, but real data give {good:.4g} and bad samples {bad:.4g}.")


@check("metric.range", "metrics")
def in_range(plugin: Subject, entry: Entry) -> None:
    """Values are finite floats within the card's range, for good samples and bad."""
    metric = _metric(plugin, entry)
    sets = _sets(plugin, entry, metric.card.minimum_samples)
    low, high = metric.card.range
    for value in (_value(plugin, metric, sets, which) for which in ("real", "worse")):
        require(isinstance(value, float) and math.isfinite(value), f"the value is {value!r}, not a finite float.")
        slack = 1e-6 * max(1.0, abs(value))
        require(
            low - slack <= value <= high + slack, f"the value {value:.6g} lies outside the range {metric.card.range}."
        )


@check("metric.order", "metrics")
def order(plugin: Subject, entry: Entry) -> None:
    """The value depends neither on the order of the rows nor on what was computed before."""
    metric = _metric(plugin, entry)
    sets = _sets(plugin, entry, metric.card.minimum_samples)
    value, again = _value(plugin, metric, sets, "mixed"), metric.compute(sets.mixed, sets.real)
    turned = metric.compute(sets.turned_mixed, sets.turned_real)
    tolerance = 1e-5 * max(abs(value), 1e-3)
    require(abs(value - again) <= tolerance, f"computed twice it gives {value:.8g} and {again:.8g}.")
    require(abs(value - turned) <= tolerance, f"in another order of rows {value:.8g} becomes {turned:.8g}.")


@check("metric.truth", "metrics", optional=True)
def truth(plugin: Subject, entry: Entry) -> None:
    """It does not compare a sample with its own held-out row: only those registered as paired or oracle may.

    ``paired=True``: every sample is scored against the truth of the case it was made for, as forecasts are.
    ``oracle=True``: the truth selects (the best of K, say); such numbers are printed apart.
    """
    for word in ("paired", "oracle"):
        if entry.metadata.get(word):
            skip(f"it is registered with {word}=True, so it may see which held-out row a sample was asked to be.")
    metric = _metric(plugin, entry)
    sets = _sets(plugin, entry, metric.card.minimum_samples)
    value, turned = _value(plugin, metric, sets, "mixed"), metric.compute(sets.mixed, sets.turned_real)
    same = abs(value - turned) <= 1e-5 * max(abs(value), 1e-3)
    require(same, f"with the reference's rows shuffled {value:.8g} becomes {turned:.8g}; else register paired=True.")


@check("metric.closed-form", "metrics", optional=True)
def closed_form(plugin: Subject, entry: Entry) -> None:
    """Its registered example has the value that was worked out by hand."""
    reference = entry.metadata.get("example")
    if not reference:
        skip("it registers no example='module:function' that returns (samples, reference, value, tolerance).")
    samples, real, value, tolerance = replace(entry, reference=str(reference)).load()()
    computed = _metric(plugin, entry).compute(samples, real)
    right = abs(computed - value) <= tolerance
    require(right, f"its example has the value {value:.6g} (within {tolerance:g}), but it computes {computed:.6g}.")


@check("metric.scores", "metrics", optional=True)
def scores(plugin: Subject, entry: Entry) -> None:
    """The scores of its cases (samples, unless registered as paired) are as many, and their mean is the value."""
    metric = _metric(plugin, entry)
    sets = _sets(plugin, entry, metric.card.minimum_samples)
    own = metric.metric.scores(sets.mixed, sets.real)
    if own is None:
        skip("it gives no scores of cases, so an interval asks for the value without each part.")
    value = _value(plugin, metric, sets, "mixed")
    units: Uncertainty = "cases" if entry.metadata.get("paired") or entry.metadata.get("oracle") else "samples"
    try:
        unit_values(metric.compute, value, sets.mixed, sets.real, units, scores=own)
    except AnydiffError as error:
        require(False, str(error))


@check("metric.minimum", "metrics")
def minimum(plugin: Subject, entry: Entry) -> None:
    """Fewer samples than the card's minimum are refused, and so are states that are not finite."""
    metric = _metric(plugin, entry)
    least = metric.card.minimum_samples
    real = _sets(plugin, entry, least).real
    few = _rows(real, torch.arange(least - 1))
    nothing = 2**31 if real.domain.spec.categorical else math.nan  # no class has that number
    spoilt = SampleSet(real.states.clone().fill_(nothing), real.condition, real.domain)
    for what, given in ((f"{least - 1} samples", few), ("samples that are not finite", spoilt)):
        try:
            metric.compute(given, real)
        except AnydiffError:
            continue
        require(False, f"it takes {what}; let compute() begin with self.check(samples, reference).")


@check("metric.read-only", "metrics")
def read_only(plugin: Subject, entry: Entry) -> None:
    """It writes into neither the samples nor the reference: the next metric reads them too."""
    metric = _metric(plugin, entry)
    if not metric.written:  # the checks before this one asked it, unless this one runs alone
        sets = _sets(plugin, entry, metric.card.minimum_samples)
        metric.compute(sets.mixed, sets.real)
    found = next(filter(None, metric.written), "")
    require(not found, f"it writes into {found}; work on a copy (.clone()).")
