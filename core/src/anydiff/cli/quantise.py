"""``anydiff quantise``: a model with integer weights from a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import tell


def command(
    source: common.Source,
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    weights: Annotated[int, typer.Option(help="Bits of the weights, 2 to 16.")] = 8,
    activations: Annotated[int, typer.Option(help="Bits of what goes into quantised layers, 2 to 16.")] = 8,
    scope: Annotated[
        str,
        typer.Option(
            help="Where there is one activation scale per time: tib, in layers that see time and condition alone; "
            "all, in those of the state too."
        ),
    ] = "all",
    rounding: Annotated[str, typer.Option(help="adaptive: learned, layer by layer; nearest: not.")] = "adaptive",
    iterations: Annotated[int, typer.Option(help="Steps that each block's rounding is learned.")] = 300,
    samples: Annotated[int, typer.Option(help="Samples drawn along the plan to calibrate on.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of these samples.")] = 0,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change sampling defaults first: the plan is theirs."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model whose layers hold packed integers; `anydiff sample`, `evaluate` and `cost` take it as any other.

    It is made for one plan, that of the recipe's sampling (--set sampling.nfe=20 for another): at other times it is
    refused. The first and the last layer, biases and norms stay as they are.

    Examples:
      anydiff quantise images/fashion --weights 4 --activations 8 --out q4.safetensors
      anydiff quantise images/fashion --rounding nearest --set sampling.nfe=20 --out q8.safetensors
    """
    from anydiff.compression import Effort, QuantiseOptions
    from anydiff.errors import natural_number
    from anydiff.files import check_suffix
    from anydiff.pipeline import load
    from anydiff.pipeline.quantise import described, quantise

    check_suffix(out, (".safetensors",), "weights")
    common.refuse_existing(out, overwrite)
    options = QuantiseOptions(
        weights=weights, activations=activations, scope=scope, rounding=rounding, samples=samples, seed=seed,
        effort=Effort(iterations=natural_number("--iterations", iterations)),
    )  # fmt: skip
    pipeline = load(source)
    if change:
        pipeline = pipeline.with_changes(change)
    made = quantise(pipeline, options)
    made.save(out, overwrite=overwrite)
    tell(f"wrote {str(out)!r} ({out.stat().st_size / 2**20:.2f} MiB): {described(made)}.")
