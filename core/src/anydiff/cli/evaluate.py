"""``anydiff evaluate``: the recipe's metrics, of a model or of samples on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.output import counted, print_json, print_table, tell


def command(
    source: common.Source,
    count: Annotated[int, typer.Option(help="How many samples.")] = 1000,
    samples: Annotated[Path | None, typer.Option(help="Judge these samples (domain files) instead of drawing.")] = None,
    nfe: common.Nfe = None,
    solver: common.SolverName = None,
    option: common.SolverOption = None,
    grid: common.GridName = None,
    end: common.End = None,
    guidance: common.Guidance = None,
    seed: common.Seed = 0,
    batch_size: common.BatchSize = 256,
    device: common.Device = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print JSON with the metric cards.")] = False,
) -> None:
    """Compute a recipe's metrics against its held-out data; those of an autoencoder on what it gives back.

    Exit code 1 when a metric has no value, or one outside the range of its card; the others are shown.

    Examples:
      anydiff evaluate images/fashion
      anydiff evaluate runs/fashion --count 2000 --nfe 10 --solver ddim --json
      anydiff evaluate images/fashion --samples my-samples/
    """
    from anydiff.errors import natural_number
    from anydiff.pipeline import load

    natural_number("--count", count)
    pipeline = load(source)
    if samples is not None:
        judged, reference = pipeline.paired(pipeline.domain.read(samples))
        scores = pipeline.scores(judged, reference)
        tell(f"judged {len(judged)} samples against {len(reference)} held-out examples.")
    else:
        options = common.sampling_options(solver, nfe, grid, end, option)
        with counted("trials") as report:
            scores = pipeline.evaluate(
                count,
                seed=seed,
                report=report,
                guidance=guidance,
                batch_size=batch_size,
                device=common.check_device(device),
                **options,
            )
    if json:
        print_json({name: _plain(score) for name, score in scores.items()})
    else:
        rows = [[name, _shown(s), s.card.direction, s.samples, s.card.features] for name, s in scores.items()]
        print_table(["metric", "value", "better", "samples", "features"], rows)
    if any(score.problem for score in scores.values()):  # each was told as it came
        raise typer.Exit(1)


def _shown(score: Any) -> str:
    return "none" if math.isnan(score.value) else f"{score.value:.4g}"


def _plain(score: Any) -> dict[str, Any]:
    value = None if math.isnan(score.value) else score.value
    return {"value": value, "samples": score.samples, "problem": score.problem, "card": score.card.as_dict()}
