"""``anydiff evaluate``: the recipe's metrics, of a model or of samples on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.output import counted, print_json, print_table


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
        scores = pipeline.evaluate_objects(pipeline.domain.read(samples))
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
        return
    rows = [[name, f"{s.value:.4g}", s.card.direction, s.samples, s.card.features] for name, s in scores.items()]
    print_table(["metric", "value", "better", "samples", "features"], rows)


def _plain(score: Any) -> dict[str, Any]:
    return {"value": score.value, "samples": score.samples, "card": score.card.as_dict()}
