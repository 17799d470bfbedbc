"""``anydiff show``: pictures of a run or of samples, and what a run is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydiff.cli import common
from anydiff.cli.output import print_table, tell

if TYPE_CHECKING:
    from anydiff.pipeline import Pipeline


def command(
    context: typer.Context,
    source: common.Source,
    out: Annotated[Path, typer.Option(help="The PNG to draw.")] = Path("show.png"),
    samples: Annotated[Path | None, typer.Option(help="Draw these samples (domain files) instead of new ones.")] = None,
    count: Annotated[int, typer.Option(help="How many to draw.")] = 40,
    data: Annotated[bool, typer.Option("--data", help="Draw held-out data instead of samples.")] = False,
    seed: common.Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
) -> None:
    """Print what a model is and draw its samples, its data, or samples on disk.

    Samples are asked for the conditions of the held-out data; an autoencoder shows what it gives back of them.

    Examples:
      anydiff show images/fashion --out fashion.png
      anydiff show runs/fashion --data --out data.png
      anydiff show images/fashion --samples samples/ --out grid.png
    """
    from anydiff.errors import natural_number
    from anydiff.pipeline import load

    if samples is not None:
        common.refuse_beside(context, "--samples", ["data", "seed"])
    elif data:
        common.refuse_beside(context, "--data", ["seed"])
    natural_number("--count", count)
    common.check_picture(out, overwrite)
    pipeline = load(source)
    facts = {
        "recipe": pipeline.recipe.name,
        "network": f"{pipeline.recipe.network.name}, {pipeline.parameters:,} parameters",
        "path": repr(pipeline.denoiser.path),
        "weights": pipeline.weights_hash,
        **pipeline.metadata,
    }
    print_table(["", ""], list(facts.items()))
    objects, titles = _objects(pipeline, samples, count, data, seed)
    pipeline.domain.draw(objects, out, titles)
    tell(f"drew {len(objects)} to {str(out)!r}.")


def _objects(
    pipeline: Pipeline, samples: Path | None, count: int, data: bool, seed: int
) -> tuple[list[Any], list[str] | None]:
    """What is drawn, with its titles."""
    if samples is not None:
        return pipeline.domain.read(samples)[:count], None
    reference = pipeline.reference(count)
    drawn = reference if data else pipeline.like(reference, count, seed=seed)
    return pipeline.domain.decode(drawn.states, drawn.condition), pipeline.titles(drawn)
