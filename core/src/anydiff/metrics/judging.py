"""Asking metrics for values, so that none can spoil another's: what it is given is put back, what it gives is checked.

A metric is a plugin's code. It may raise anything, return anything, and write into what it was handed. The trials of a
domain (:func:`trials`), such as the closed loops of trajectories, are a plugin's code too.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.metrics.card import MetricCard, Score
from anydiff.metrics.metric import Metric, SampleSet
from anydiff.plugins.report import report
from anydiff.registry import CORE, registry
from anydiff.states.conditions import spoken

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integers of each size in bytes."""


class MetricError(AnydiffError):
    """A metric, or a domain's trials, that breaks the rules of its face; the sentence names the plugin."""


class _Kept:
    """A copy of what a metric is handed, to tell afterwards whether it wrote into that, and to put it back."""

    def __init__(self, given: SampleSet) -> None:
        self.given = given
        self.tensors = {"states": given.states, **{spoken(name): value for name, value in given.condition.tensors()}}
        self.copies = {what: value.clone() for what, value in self.tensors.items()}
        self.condition, self.fields = given.condition, dict(vars(given.condition))
        self.labels, self.listed = given.labels, None if given.labels is None else list(given.labels)

    def changed(self) -> str:
        """What was written into (``"states"``), after putting it back; empty where nothing was."""
        found = [what for what, tensor in self.tensors.items() if not _same_bits(tensor, self.copies[what])]
        for what in found:
            with torch.no_grad():  # also where it was made another shape
                self.tensors[what].data = self.copies[what].clone()
        for field, before in (
            ("states", self.tensors["states"]),
            ("condition", self.condition),
            ("labels", self.labels),
        ):
            if getattr(self.given, field) is not before:
                object.__setattr__(self.given, field, before)
                found.append(field)
        found += self._put_back_tables()
        if found:  # what was derived of changed numbers is worth nothing
            self.given.forget_derived()
        return found[0] if found else ""

    def _put_back_tables(self) -> list[str]:
        found = [name for name, value in self.fields.items() if getattr(self.condition, name) is not value]
        for name in found:  # frozen, but for those who insist
            object.__setattr__(self.condition, name, self.fields[name])
        found = [f"{name} of the conditioning" for name in found]
        if self.listed is not None and not _same_list(self.labels, self.listed):
            listed: Any = self.labels
            listed[:] = self.listed
            found.append("labels")
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
        number_type = torch.get_default_dtype()
        try:
            value: object = metric.compute(self.samples, self.reference)
        finally:
            torch.set_default_dtype(number_type)  # it changes what other metrics and later samples come to
            written = self._put_back()
        return value, written

    def value(self, metric: Metric | AnydiffError, name: str) -> float:
        """The metric's value.

        Args:
            metric: to be asked; of one that could not be made, the reason, which is raised.
            name: the registered name.

        Raises:
            AnydiffError: the metric refuses these samples: its own sentence; or it compares each with its own case, and
                nothing tells the cases.
            MetricError: it raised something else, returned what is no number, or wrote into what it was given.
        """
        if isinstance(metric, AnydiffError):
            raise metric
        _require_told(name, self.samples, self.reference)
        try:
            value, written = self.ask(metric)
        except (KeyboardInterrupt, MemoryError, AnydiffError):
            raise
        except BaseException as error:  # whatever it raises, the other metrics have their values
            raise _failed(_owner(name), error, _advice(name)) from error
        if written:
            raise MetricError(f"{_owner(name)} writes into {written}, which it may only read; {_advice(name)}.")
        number = _number(value, _owner(name), _advice(name))
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


def judge(
    metrics: Sequence[tuple[str, Metric | AnydiffError]],
    samples: SampleSet,
    reference: SampleSet,
    more: Mapping[str, Score] | None = None,
) -> dict[str, Score]:
    """A score per metric; one that fails keeps no other from its value, and its score says what is wrong.

    Problems are also told as they come (:func:`anydiff.plugins.report_to`).

    Args:
        metrics: registered name and metric; of one that could not be made, the reason instead.
        samples: to be judged.
        reference: what they are compared with.
        more: scores of :func:`trials`, which follow.

    Raises:
        AnydiffError: nothing has a value; the sentence is that of the first.
    """
    asked = Judge(samples, reference)
    scores: dict[str, Score] = {}
    first: Exception | None = None
    for name, metric in metrics:
        card = MetricCard(name, "lower", "?", (-math.inf, math.inf), 0.0, 1)
        try:
            card = _card(metric, name, scores)
            value = asked.value(metric, name)
            problem = outside(value, card, name)
        except AnydiffError as error:
            first, value, problem = first or error, math.nan, str(error)
        scores[_free(card.name, scores)] = Score(value, card, len(samples), problem)
    for title, score in (more or {}).items():
        if title in scores:
            problem = (
                f"{score.card.name!r} is a metric of the recipe and one of the domain's trials; rename one of them."
            )
            scores[title] = replace(scores[title], problem=problem)
            continue
        scores[title] = score
    if scores and all(math.isnan(score.value) for score in scores.values()):
        raise first or AnydiffError(next(iter(scores.values())).problem)
    for score in scores.values():
        if score.problem:
            report(score.problem)
    return scores


def trials(name: str, ask: Callable[[], object]) -> dict[str, Score]:
    """The scores of a domain's own trials (:meth:`anydiff.domains.Domain.evaluate`), each of them checked.

    What fails is one score without a value, called ``<domain>/trials``, whose problem names plugin and domain.

    Args:
        name: of the registered domain.
        ask: makes the trials.
    """
    owner, advice = f"evaluate() of {_owner(name, 'domain')}", _advice(name, "domain")
    try:
        found = ask()
    except (KeyboardInterrupt, MemoryError):
        raise
    except AnydiffError as error:  # a simulator that is not installed, an option the policy does not have
        return _no_trials(name, f"{owner} has no value: {error}")
    except BaseException as error:  # whatever it raises, the metrics have their values
        return _no_trials(name, str(_failed(owner, error, advice)))
    if not isinstance(found, Mapping) or not all(map(_is_score, found.values())):
        what = f"{_short(found)}, which is no dictionary of scores (anydiff.metrics.Score with a card)"
        return _no_trials(name, f"{owner} gives {what}; {advice}.")
    return {str(title): _checked_trial(f"{title!r} by {owner}", score, advice) for title, score in found.items()}


def _is_score(value: object) -> bool:
    return isinstance(value, Score) and isinstance(value.card, MetricCard)


def _no_trials(name: str, problem: str) -> dict[str, Score]:
    card = MetricCard(f"{name}/trials", "lower", "?", (-math.inf, math.inf), 0.0, 1)
    return {card.name: Score(math.nan, card, 0, problem)}


def _checked_trial(what: str, score: Score, advice: str) -> Score:
    try:
        value = _number(score.value, what, advice)
    except MetricError as error:
        return replace(score, value=math.nan, problem=str(error))
    if math.isnan(value):
        return replace(score, value=value, problem=score.problem or f"{what} is NaN; {advice}.")
    return replace(score, value=value, problem=score.problem or _beyond(value, score.card, what, advice))


def outside(value: float, card: MetricCard, name: str) -> str:
    """One sentence where ``value`` lies outside the range that the card promises, up to rounding; else empty."""
    return _beyond(value, card, _owner(name), _advice(name))


def _beyond(value: float, card: MetricCard, what: str, advice: str) -> str:
    low, high = card.range
    slack = 1e-6 * max(1.0, abs(value))
    if low - slack <= value <= high + slack:
        return ""
    return f"{what} gives {value:.6g}, but its card promises {low:g} to {high:g}; {advice}."


def _number(value: object, what: str, advice: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise MetricError(f"{what} gives {_short(value)}, which is {type(value).__name__} and no float; {advice}.")
    try:
        return float(value)
    except Exception as error:  # a whole number of 400 digits, a class of the plugin's own
        raise _failed(what, error, advice) from error


def _failed(what: str, error: BaseException, advice: str) -> MetricError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return MetricError(f"{what} failed ({text[:300]}); {advice}.")


def _require_told(name: str, samples: SampleSet, reference: SampleSet) -> None:
    """Refuse samples whose cases nothing tells: 4 may be one of each of four cases, or two of each of two."""
    known = {entry.name: entry.metadata for entry in registry().entries("metrics")}
    about = known.get(name, {})
    if samples.untold and (about.get("paired") or about.get("oracle")):
        raise AnydiffError(
            f"{name} compares each sample with its own case, but nothing tells which of the {len(reference)} held-out "
            f"cases each of the {len(samples)} samples is of; draw them with `anydiff sample --cases N`, which names "
            "the cases in the files, or say that they are as many for each of the first N: --cases N (in Python "
            "reference=pipeline.reference(N))."
        )


def values_of(scores: Mapping[str, Score]) -> dict[str, float]:
    """The values of those metrics that have one."""
    return {name: score.value for name, score in scores.items() if not math.isnan(score.value)}


def _card(metric: Metric | AnydiffError, name: str, taken: Mapping[str, Score]) -> MetricCard:
    """The metric's card; one that is none, or bears the name of an earlier one, is refused."""
    if isinstance(metric, AnydiffError):
        raise metric
    try:
        card: object = metric.card
    except (KeyboardInterrupt, MemoryError, AnydiffError):
        raise
    except BaseException as error:
        raise _failed(f"the card of {_owner(name)}", error, _advice(name)) from error
    if not isinstance(card, MetricCard):
        raise MetricError(f"the card of {_owner(name)} is {type(card).__name__} and no MetricCard; {_advice(name)}.")
    if card.name != name and card.name in registry().names("metrics"):
        raise MetricError(
            f"the card of {_owner(name)} is called {card.name!r}, which is another metric's name; {_advice(name)}."
        )
    if card.name in taken:
        raise MetricError(
            f"the card of {_owner(name)} is called {card.name!r}, as another metric of this recipe is; name one of the "
            "two alone."
        )
    return card


def _free(name: str, taken: Mapping[str, Score]) -> str:
    """``name``, or with a number where it is taken, so that no score is lost."""
    count = 2
    while name in taken:
        name, count = f"{name.rpartition(' (')[0] or name} ({count})", count + 1
    return name


def _same_list(one: Sequence[Any] | None, two: Sequence[Any]) -> bool:
    return one is not None and len(one) == len(two) and all(a is b for a, b in zip(one, two, strict=True))


def _plugin(name: str, kind: str) -> str:
    return {entry.name: entry.plugin for entry in registry().entries(f"{kind}s")}.get(name, CORE)


def _owner(name: str, kind: str = "metric") -> str:
    plugin = _plugin(name, kind)
    return f"{kind} {name!r}" + ("" if plugin == CORE else f" of plugin {plugin!r}")


def _advice(name: str, kind: str = "metric") -> str:
    plugin = _plugin(name, kind)
    return "report it" if plugin == CORE else f"run `anydiff check {plugin}` and repair or update that plugin"


def _short(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a class of the plugin's own
        text = "a value that cannot be printed"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _same_bits(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors hold the same bytes; numbers that are not finite compare like all others."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    return torch.equal(_as_integers(one), _as_integers(two))


def _as_integers(numbers: Tensor) -> Tensor:
    """The same memory read as integers of the numbers' size, so that nothing is copied, whatever the strides."""
    bare = numbers.detach()
    if bare.is_complex():
        bare = torch.view_as_real(bare.resolve_conj())
    return bare.resolve_neg().view(_INTEGERS[bare.element_size()])
