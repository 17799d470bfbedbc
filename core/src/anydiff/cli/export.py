"""``anydiff export``: one self-describing weights file from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import tell

TYPES = ("float32", "float16", "bfloat16")


def command(
    source: common.Source,
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32, float16 or bfloat16.")] = "float16",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change sampling defaults, metrics or help; repeatable."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a run's averaged weights with its recipe as one file that `anydiff.load` reads.

    Examples:
      anydiff export runs/fashion fashion.safetensors
      anydiff export runs/fashion fashion.safetensors --dtype float32
      anydiff export runs/fashion fashion.safetensors --set sampling.nfe=10 --set sampling.grid=karras
    """
    import torch

    from anydiff.errors import UnknownNameError
    from anydiff.pipeline import load

    if dtype not in TYPES:
        raise UnknownNameError("--dtype", dtype, TYPES)
    pipeline = load(source)
    if change:
        pipeline = pipeline.with_changes(change)
    pipeline.save(out, dtype=getattr(torch, dtype), overwrite=overwrite)
    tell(f"wrote {str(out)!r} ({out.stat().st_size / 2**20:.2f} MiB).")
