"""How a pipeline is judged: samples for held-out conditions, pairs of objects and cases, and the recipe's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anydiff.domains import Evaluates, MatchesCases
from anydiff.errors import AnydiffError, PluginError, natural_number
from anydiff.metrics import Metric, SampleSet, Score, repeat_cases
from anydiff.metrics.ensembles import in_layout
from anydiff.metrics.judging import judge, trials, values_of
from anydiff.networks import Autoencoder
from anydiff.pipeline.codec import codec_scores
from anydiff.pipeline.latent import Latent, no_sampling_options, reconstruct
from anydiff.plugins import hooks
from anydiff.recipes import Part, Recipe
from anydiff.registry import registry
from anydiff.states import UNCONDITIONAL, Conditioning

if TYPE_CHECKING:
    from anydiff.domains import Domain, Report
    from anydiff.pipeline.pipeline import Pipeline


def evaluate(
    pipeline: Pipeline, count: int, seed: int, reference: SampleSet, report: Report | None, options: Mapping[str, Any]
) -> dict[str, Score]:
    """The scores of ``count`` samples beside ``reference``, with what the domain adds; an autoencoder has no trials."""
    samples = like(pipeline, reference, natural_number("count", count), {"seed": seed, **options})
    domain = pipeline.domain
    network = pipeline.denoiser.network
    if isinstance(network, Autoencoder):
        return scores(pipeline.recipe, samples, reference, codec_scores(Latent(domain, network), samples, reference))
    if not isinstance(domain, Evaluates):
        return scores(pipeline.recipe, samples, reference)
    name = pipeline.recipe.domain.name
    more = trials(name, lambda: domain.evaluate(pipeline, count, seed=seed, report=report, **options))
    return scores(pipeline.recipe, samples, reference, more)


def like(pipeline: Pipeline, reference: SampleSet, count: int, options: Mapping[str, Any]) -> SampleSet:
    """``count`` samples asked for the conditions of ``reference``, or, of an autoencoder, its reconstructions."""
    if isinstance(pipeline.denoiser.network, Autoencoder):
        no_sampling_options(pipeline.recipe.name, options)
        return reconstruct(pipeline.domain, pipeline.denoiser.network, reference, count)
    asked = {"condition": reference.asked(count), "cases": min(count, len(reference))}
    return pipeline.sample_set(count, **{**({} if "condition" in options else asked), **options})


def paired(
    pipeline: Pipeline, objects: Sequence[Any], reference: SampleSet, in_order: bool
) -> tuple[SampleSet, SampleSet]:
    """Native ``objects`` as samples, and the rows of ``reference`` that they belong to.

    Objects that tell their case are asked for its conditions, as new samples are. Where they do not, sample i is of row
    i % n if ``in_order`` says so and every case has equally many; else the samples are ``untold``.
    """
    domain = pipeline.domain
    case_of = None
    if reference.labels is not None and isinstance(domain, MatchesCases):
        case_of = domain.match(objects, reference.labels)
    if case_of is None:
        samples = _as_samples(domain, objects, UNCONDITIONAL)
        told = in_order and len(samples) % len(reference) == 0
        return replace(samples, untold=not told), reference
    order, cases = in_layout(case_of)
    matched = reference.rows(cases)
    asked = repeat_cases(matched.asked(len(cases)), len(order) // len(cases))
    return _as_samples(domain, [objects[row] for row in order], asked), matched


def _as_samples(domain: Domain, objects: Sequence[Any], condition: Conditioning) -> SampleSet:
    """Native ``objects`` that were made for ``condition``; how many nodes each has, it says itself."""
    states = domain.encode_asked(objects, condition)
    if domain.spec.masked:
        condition = replace(condition, mask=domain.spec.mask_of(states))
    return SampleSet(states, condition, domain)


def _made(part: Part) -> Metric | AnydiffError:
    """The metric, or why its plugin cannot make it, so that the others are asked all the same."""
    try:
        metric: Metric = registry().build("metrics", part.name, **part.options)
    except PluginError as error:
        return error
    return metric


def _needs(metric: Metric | AnydiffError) -> set[str]:
    return set() if isinstance(metric, AnydiffError) else set(metric.needs)


def scores(
    recipe: Recipe, samples: SampleSet, reference: SampleSet, more: Mapping[str, Score] | None = None
) -> dict[str, Score]:
    """The recipe's metrics of ``samples`` against ``reference``, those left out whose conditions are not known.

    Raises:
        AnydiffError: no metric is left.
    """
    named = [(part.name, _made(part)) for part in recipe.metrics]
    metrics = [(name, metric) for name, metric in named if _needs(metric) <= set(samples.condition.given)]
    if not metrics and not more:
        raise AnydiffError(
            f"{recipe.name!r} cannot be evaluated: each of its metrics needs a condition that these samples "
            f"lack ({', '.join(sorted({need for _, metric in named for need in _needs(metric)}))})."
            if named
            else f"{recipe.name!r} cannot be evaluated, since its recipe names no metrics; name some in the "
            "recipe (metrics: [NAME, ...]) or by --set 'metrics=[NAME]'."
        )
    scores = judge(metrics, samples, reference, more)
    hooks().notify("evaluation_finished", recipe=recipe, folder=None, values=values_of(scores))
    return scores
