"""``anydiff sample``: samples as the field's own files, with a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import tell


def command(
    source: common.Source,
    count: Annotated[int, typer.Option(help="How many samples.")] = 16,
    out: Annotated[Path, typer.Option(help="File or folder for the samples, in the domain's own formats.")] = Path(
        "samples"
    ),
    picture: Annotated[Path | None, typer.Option(help="Also draw the samples to this PNG.")] = None,
    nfe: common.Nfe = None,
    solver: common.SolverName = None,
    option: common.SolverOption = None,
    grid: common.GridName = None,
    end: common.End = None,
    guidance: common.Guidance = None,
    condition: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="What to ask for, label=sneaker say; repeatable.")
    ] = None,
    seed: common.Seed = 0,
    batch_size: common.BatchSize = 256,
    device: common.Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
) -> None:
    """Draw samples from bundled weights, a run or a weights file.

    Examples:
      anydiff sample images/fashion --count 16 --out samples --picture samples.png
      anydiff sample images/fashion --condition label=sneaker --guidance 2
      anydiff sample runs/fashion --solver dpm-solver++-2m --nfe 10 --seed 7
      anydiff sample images/fashion --solver ddim --option eta=1.0 --nfe 50
    """
    from anydiff.errors import natural_number
    from anydiff.pipeline import load

    natural_number("--count", count)
    natural_number("--seed", seed, minimum=0)
    for path in (out, picture):
        if path is not None:
            common.refuse_existing(path, overwrite)
    pipeline = load(source)
    device = common.check_device(device)
    options = common.sampling_options(solver, nfe, grid, end, option)
    plan = pipeline.plan(**options)
    chunks = -(-count // natural_number("--batch-size", batch_size))
    with common.sampling_progress(plan.nfe * chunks, f"sampling {count}") as progress:
        samples = pipeline.sample_set(
            count,
            solver=plan,
            seed=seed,
            guidance=guidance,
            condition=common.pairs(condition, "--condition"),
            batch_size=batch_size,
            device=device,
            callbacks=[lambda step: progress.advance(progress.task_ids[0])],
        )
    objects = pipeline.domain.decode(samples.states, samples.condition)
    pipeline.domain.write(objects, out)
    tell(f"wrote {count} samples to {str(out)!r} ({plan.nfe} NFE each, seed {seed}).")
    if picture is not None:
        pipeline.domain.draw(objects, picture, pipeline.domain.describe_condition(samples.condition))
        tell(f"drew them to {str(picture)!r}.")
