"""``anydiff export``: one self-describing weights file from a run, or a graph that runs without anydiff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import tell

TYPES = ("float32", "float16", "bfloat16")


def command(
    source: common.Source,
    out: Annotated[Path, typer.Argument(help="The file to write: .safetensors, .pt2 or .onnx.")],
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32, float16 or bfloat16.")] = "float16",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change sampling defaults, metrics or help; repeatable."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    form: Annotated[
        str, typer.Option("--format", help="weights (for anydiff), torch-export or onnx (a graph for others).")
    ] = "weights",
    part: Annotated[str, typer.Option(help="Of a graph: the network alone, or the sampler with its plan.")] = "sampler",
    nfe: common.Nfe = None,
    solver: common.SolverName = None,
    grid: common.GridName = None,
    end: common.End = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A condition that becomes an input of the graph; repeatable."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Rows that a graph takes.")] = 1,
) -> None:
    """Write a run's averaged weights with its recipe as one file that `anydiff.load` reads.

    With --format torch-export or onnx it is a graph that runs without anydiff, noise as its input.

    Examples:
      anydiff export runs/fashion fashion.safetensors
      anydiff export runs/fashion fashion.safetensors --dtype float32
      anydiff export runs/fashion fashion.safetensors --set sampling.nfe=10 --set sampling.grid=karras
      anydiff export runs/fashion sampler.onnx --format onnx --nfe 10 --batch 16
    """
    import torch

    from anydiff.errors import UnknownNameError, natural_number
    from anydiff.pipeline import load

    if dtype not in TYPES:
        raise UnknownNameError("--dtype", dtype, TYPES)
    pipeline = load(source)
    if change:
        pipeline = pipeline.with_changes(change)
    if form != "weights":
        from anydiff.pipeline.graph import FORMATS, PARTS, export_graph

        for name, value, known in (("--format", form, ("weights", *FORMATS)), ("--part", part, PARTS)):
            if value not in known:
                raise UnknownNameError(name, value, known)
        common.refuse_existing(out, overwrite)
        given = pipeline.conditioning(common.pairs(condition, "--condition"), natural_number("--batch", batch)).given
        options = common.sampling_options(solver, nfe, grid, end, None)
        inputs = export_graph(pipeline, out, form, part, batch=batch, condition=given, **options)
        tell(f"wrote {str(out)!r} ({out.stat().st_size / 2**20:.2f} MiB), whose inputs are {', '.join(inputs)}.")
        return
    pipeline.save(out, dtype=getattr(torch, dtype), overwrite=overwrite)
    tell(f"wrote {str(out)!r} ({out.stat().st_size / 2**20:.2f} MiB).")
