"""``anydiff evaluate``: the recipe's metrics, of a model or of samples on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.options import OwnDrawing, Run, names
from anydiff.cli.output import counted, print_json, print_table, tell

if TYPE_CHECKING:
    from anydiff.metrics import Score
    from anydiff.pipeline import Pipeline


def command(
    context: typer.Context,
    source: common.Source,
    *,
    count: Annotated[int, typer.Option(help="How many samples.")] = 1000,
    samples: Annotated[Path | None, typer.Option(help="Judge these samples (domain files) instead of drawing.")] = None,
    cases: Annotated[
        int | None, typer.Option(help="With --samples that name no cases: they are of the first so many held-out ones.")
    ] = None,
    drawing: OwnDrawing,
    run: Run,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change sampling defaults or metrics; repeatable."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON with the metric cards.")] = False,
) -> None:
    """Compute a recipe's metrics against its held-out data; those of an autoencoder on what it gives back.

    New samples are asked for the conditions of the held-out data, sizes included, as `anydiff sample --cases N` does.

    Samples of a file that name their case (a forecast's time, the name of a clip) are compared with it. Others are
    taken in order where --cases N says so: sample i belongs to held-out case i % N. Without it, metrics that compare
    each sample with its own case have no value.

    Exit code 1 when a metric has no value, or one outside the range of its card; the others are shown.

    Examples:
      anydiff evaluate images/fashion
      anydiff evaluate runs/fashion --count 2000 --nfe 10 --solver ddim --json
      anydiff evaluate images/fashion --samples my-samples/
    """
    from anydiff.errors import AnydiffError, natural_number
    from anydiff.pipeline import load

    if samples is not None:
        without = [name for name in ("count", *names(OwnDrawing, Run)) if name != "path_option"]
        common.refuse_beside(context, "--samples", without)
    elif cases is not None:
        raise AnydiffError("--cases says of which cases the --samples are; new ones are drawn with --count.")
    natural_number("--count", count)
    pipeline = common.on_path(load(source), drawing.path_option)
    if change:
        pipeline = pipeline.with_changes(change)
    if samples is not None:
        held_out = None if cases is None else pipeline.reference(natural_number("--cases", cases))
        if cases is not None and held_out is not None and len(held_out) < cases:
            raise AnydiffError(f"--cases is {cases}, but the held-out data are {len(held_out)} examples; lower it.")
        judged, reference = pipeline.paired(pipeline.domain.read(samples), held_out)
        scores = pipeline.scores(judged, reference)
        tell(f"judged {len(judged)} samples against {len(reference)} held-out examples.")
    else:
        scores = _drawn(pipeline, source, count, drawing.given(run))
    left_out = [part.name for part in pipeline.recipe.metrics if part.name not in scores]
    if left_out:
        tell(f"left out, since these samples lack a condition that it needs: {', '.join(left_out)}.")
    if json:
        print_json({name: _plain(score) for name, score in scores.items()})
    else:
        rows = [[name, _shown(s), s.card.direction, s.samples, s.card.features] for name, s in scores.items()]
        print_table(["metric", "value", "better", "samples", "features"], rows)
    if any(score.problem for score in scores.values()):  # each was told as it came
        raise typer.Exit(1)


def _drawn(pipeline: Pipeline, source: str, count: int, options: dict[str, Any]) -> dict[str, Score]:
    """The scores of new samples, after saying what they are asked for."""
    from anydiff.networks import Autoencoder
    from anydiff.states.conditions import hashed_names

    reference = pipeline.reference()
    asked = reference.asked(count)
    if asked and not isinstance(pipeline.denoiser.network, Autoencoder):
        cases = min(count, len(reference))
        members = -(-count // cases)
        tell(
            f"asking for {', '.join(hashed_names(asked))} of {cases} held-out examples; `anydiff sample {source} "
            f"--cases {cases} --members {members} --seed {options['seed']}` draws the same samples"
            + (f" and {members * cases - count} more." if members * cases > count else ".")
        )
    with counted("trials") as report:
        return pipeline.evaluate(count, reference=reference, report=report, **options)


def _shown(score: Any) -> str:
    return "none" if math.isnan(score.value) else f"{score.value:.4g}"


def _plain(score: Any) -> dict[str, Any]:
    problem = score.problem or ("the value is infinite" if math.isinf(score.value) else "")
    return {"value": score.value, "samples": score.samples, "problem": problem, "card": score.card.as_dict()}
