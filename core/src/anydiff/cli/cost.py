"""``anydiff cost``: what models cost, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from anydiff.cli.output import print_json, print_table, tell

if TYPE_CHECKING:
    from anydiff.compression import Latency
    from anydiff.pipeline.cost import Cost


def command(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Recipes with bundled weights, run folders, or .safetensors files."),
    ],
    batch: Annotated[
        list[int] | None, typer.Option(metavar="ROWS", help="Rows of the timed calls; repeatable (default: 1 and 32).")
    ] = None,
    seconds: Annotated[float, typer.Option(help="About how long each model is timed, at each number of rows.")] = 2.0,
    memory: Annotated[bool, typer.Option(help="Measure memory too, in a process per model.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON with all numbers.")] = False,
) -> None:
    """Parameters, bytes, multiply-adds, seconds and memory of a network call; several models are timed in turn.

    Multiply-adds are those of matrix products, convolutions and attention, per call and sample; what is done entry by
    entry is not among them. A sample takes that times the network rows of the recipe's own sampling (guidance may
    double them), and the encoding of its condition once. Seconds are medians with quartiles, on the threads that torch
    uses here (OMP_NUM_THREADS=1 for one); memory is that of a call beside the parameters, predicted and measured.

    Examples:
      anydiff cost images/fashion
      anydiff cost runs/teacher runs/student --batch 1 --batch 256
      anydiff cost images/fashion --no-memory --json
    """
    from anydiff.errors import AnydiffError
    from anydiff.pipeline import load
    from anydiff.pipeline.cost import BATCHES, costs

    if len(set(sources)) < len(sources):
        twice = next(name for name in sources if sources.count(name) > 1)
        raise AnydiffError(f"{twice!r} is named twice; name each model once.")
    found = costs(
        {source: load(source) for source in sources}, batches=batch or BATCHES, seconds=seconds, memory=memory
    )
    for cost in found:
        if cost.uncounted:
            tell(f"{cost.name}: the multiply-adds of {', '.join(cost.uncounted)} are not known and not counted.")
    if json:
        print_json([cost.as_dict() for cost in found])
        return
    print_table(["what", *(cost.name for cost in found)], _lines(found))
    threads = found[0].threads
    tell(f"seconds on {threads} thread{'s' if threads != 1 else ''}, median (quartiles) of calls that take turns.")


def _lines(found: list[Cost]) -> list[list[str]]:
    """A line per thing that costs, a column per model."""
    lines = [
        ["parameters", *(f"{cost.parameters:,}" for cost in found)],
        ["weights on disk", *(_bytes(cost.file_bytes) for cost in found)],
        ["multiply-adds per call and sample", *(f"{cost.multiply_adds:,}" for cost in found)],
        ["multiply-adds to encode a condition", *(f"{cost.encoding:,}" for cost in found)],
        ["network calls per sample", *(_count(cost.calls) for cost in found)],
        ["network rows per sample", *(_count(cost.rows) for cost in found)],
        ["multiply-adds per sample", *(_count(cost.per_sample) for cost in found)],
    ]
    for rows in found[0].latency:
        lines.append([f"ms per call, {_rows(rows)}", *(_milliseconds(cost.latency[rows]) for cost in found)])
    for rows in found[0].latency:
        lines.append([f"memory predicted, {_rows(rows)}", *(_bytes(cost.memory_predicted[rows]) for cost in found)])
        if found[0].memory_measured:
            lines.append([f"memory measured, {_rows(rows)}", *(_bytes(cost.memory_measured[rows]) for cost in found)])
    return lines


def _rows(rows: int) -> str:
    return f"{rows} row{'s' if rows != 1 else ''}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value / 2**20:.2f} MiB" if value >= 1 << 19 else f"{value / 1024:.0f} KiB"


def _milliseconds(latency: Latency) -> str:
    return f"{1e3 * latency.median:.3g} ({1e3 * latency.lower:.3g}–{1e3 * latency.upper:.3g})"
