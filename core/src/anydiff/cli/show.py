"""``anydiff show``: pictures of a run or of samples, and what a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import print_table, tell


def command(
    source: common.Source,
    out: Annotated[Path, typer.Option(help="The PNG to draw.")] = Path("show.png"),
    samples: Annotated[Path | None, typer.Option(help="Draw these samples (domain files) instead of new ones.")] = None,
    count: Annotated[int, typer.Option(help="How many to draw.")] = 40,
    data: Annotated[bool, typer.Option("--data", help="Draw held-out data instead of samples.")] = False,
    seed: common.Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
) -> None:
    """Print what a model is and draw its samples, its data, or samples on disk.

    Examples:
      anydiff show images/fashion --out fashion.png
      anydiff show runs/fashion --data --out data.png
      anydiff show images/fashion --samples samples/ --out grid.png
    """
    from anydiff.errors import natural_number
    from anydiff.pipeline import load

    natural_number("--count", count)
    common.check_picture(out)
    common.refuse_existing(out, overwrite)
    pipeline = load(source)
    facts = {
        "recipe": pipeline.recipe.name,
        "network": f"{pipeline.recipe.network.name}, {pipeline.parameters:,} parameters",
        "path": repr(pipeline.denoiser.path),
        "weights": pipeline.weights_hash,
        **pipeline.metadata,
    }
    print_table(["", ""], list(facts.items()))
    if samples is not None:
        objects, titles = pipeline.domain.read(samples)[:count], None
    else:
        reference = pipeline.reference(count)
        drawn = reference if data else pipeline.sample_set(count, seed=seed, condition=reference.condition)
        objects = pipeline.domain.decode(drawn.states, drawn.condition)
        titles = pipeline.domain.describe_condition(drawn.condition)
    pipeline.domain.draw(objects, out, titles)
    tell(f"drew {len(objects)} to {str(out)!r}.")
