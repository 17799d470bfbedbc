"""How a pipeline is judged: samples for held-out conditions, pairs of objects and cases, and the recipe's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import SampleSet, Score
from anydiff.metrics.ensembles import in_layout
from anydiff.metrics.judging import judge, values_of
from anydiff.networks import Autoencoder
from anydiff.pipeline.latent import no_sampling_options, reconstruct
from anydiff.plugins import hooks
from anydiff.recipes import Recipe
from anydiff.recipes.build import build_metrics
from anydiff.registry import registry
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from anydiff.domains import Report
    from anydiff.pipeline.pipeline import Pipeline


def evaluate(
    pipeline: Pipeline, count: int, seed: int, reference: SampleSet, report: Report | None, options: Mapping[str, Any]
) -> dict[str, Score]:
    """The scores of ``count`` samples beside ``reference``, with what the domain adds; an autoencoder has no trials."""
    samples = like(pipeline, reference, natural_number("count", count), {"seed": seed, **options})
    if isinstance(pipeline.denoiser.network, Autoencoder):
        return scores(pipeline.recipe, samples, reference)
    more = pipeline.domain.evaluate(pipeline, count, seed=seed, report=report, **options)
    return scores(pipeline.recipe, samples, reference, more)


def like(pipeline: Pipeline, reference: SampleSet, count: int, options: Mapping[str, Any]) -> SampleSet:
    """``count`` samples asked for the conditions of ``reference``, or, of an autoencoder, its reconstructions."""
    if isinstance(pipeline.denoiser.network, Autoencoder):
        no_sampling_options(pipeline.recipe.name, options)
        return reconstruct(pipeline.domain, pipeline.denoiser.network, reference, count)
    asked = {"condition": reference.asked(count), "cases": min(count, len(reference))}
    return pipeline.sample_set(count, **{**({} if "condition" in options else asked), **options})


def paired(pipeline: Pipeline, objects: Sequence[Any], reference: SampleSet) -> tuple[SampleSet, SampleSet]:
    """Native ``objects`` as samples, and the rows of ``reference`` that they belong to."""
    states = pipeline.domain.encode(objects)
    mask = pipeline.domain.spec.mask_of(states) if pipeline.domain.spec.masked else None
    samples = SampleSet(states, Conditioning(mask=mask), pipeline.domain)
    case_of = None if reference.labels is None else pipeline.domain.match(objects, reference.labels)
    if case_of is None:
        _check_cases(pipeline.recipe, samples, len(reference))
        return samples, reference
    order, cases = in_layout(case_of)
    return samples.rows(order), reference.rows(cases)


def _check_cases(recipe: Recipe, samples: SampleSet, cases: int) -> None:
    """Refuse samples whose cases nothing tells: 4 may be one of each of four cases, or two of each of two."""
    if not len(samples) % cases:
        return
    for part, metric in zip(recipe.metrics, build_metrics(recipe), strict=True):
        asks = registry().get("metrics", part.name).metadata.get("paired", False)
        if asks and set(metric.needs) <= set(samples.condition.given):
            raise AnydiffError(
                f"{part.name} compares each sample with its own case, but the {len(samples)} samples do not tell "
                f"their cases and cannot be as many for each of the {cases} held-out ones; say of how many cases "
                "they are, the first of the held-out data: --cases N (in Python reference=pipeline.reference(N))."
            )


def scores(
    recipe: Recipe, samples: SampleSet, reference: SampleSet, more: Mapping[str, Score] | None = None
) -> dict[str, Score]:
    """The recipe's metrics of ``samples`` against ``reference``, those left out whose conditions are not known.

    Raises:
        AnydiffError: no metric is left.
    """
    named = list(zip((part.name for part in recipe.metrics), build_metrics(recipe), strict=True))
    metrics = [(name, metric) for name, metric in named if set(metric.needs) <= set(samples.condition.given)]
    if not metrics and not more:
        raise AnydiffError(
            f"{recipe.name!r} cannot be evaluated: each of its metrics needs a condition that these samples "
            f"lack ({', '.join(sorted({need for _, metric in named for need in metric.needs}))})."
            if named
            else f"{recipe.name!r} cannot be evaluated, since its recipe names no metrics; name some in the "
            "recipe (metrics: [NAME, ...]) or by --set 'metrics=[NAME]'."
        )
    scores = {**judge(metrics, samples, reference), **(more or {})}
    hooks().notify("evaluation_finished", recipe=recipe, folder=None, values=values_of(scores))
    return scores
