"""``python -m anydiff_benchmarks.speed``, or ``anydiff benchmarks/speed``."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from anydiff.files import write_atomic


def command(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where speed.jsonl and speed.md go.")] = Path(
        "benchmarks/results"
    ),
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds at 1000 floats; larger states take fewer.")] = 101,
    largest: Annotated[int, typer.Option("--largest", help="Largest state, in floats.")] = 10_000_000,
) -> None:
    """Measure the overhead per step against the fused-update floor and the installed peers, and the start-up.

    Examples:
      anydiff benchmarks/speed --rounds 21 --largest 100000 --out speed
    """
    import torch

    from anydiff_benchmarks.peers import runs
    from anydiff_benchmarks.speed import overhead, startup

    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    versions = runs.installed()
    rows: list[dict[str, Any]] = []
    for size in (size for size in overhead.SIZES if size <= largest):
        rows += overhead.measure(size, versions, max(3, min(rounds, rounds * 200_000 // size)))
        typer.echo(f"{size} floats measured")
    rows += startup.measure(versions, 5)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    write_atomic(out / "speed.jsonl", "".join(json.dumps({"date": date, **row}) + "\n" for row in rows))
    write_atomic(out / "speed.md", markdown(rows, versions, date))
    typer.echo(f"wrote {out / 'speed.md'}")


def markdown(rows: list[dict[str, Any]], versions: dict[str, str], date: str) -> str:
    """The report."""
    from anydiff_benchmarks.peers.report import machine, table

    steps = [
        [r["floats"], r["solver"], r["library"], f"{r['microseconds']:.1f}", f"{r['low']:.1f} to {r['high']:.1f}",
         f"{r['floors']:.2f}", r["rounds"]]
        for r in rows if r["benchmark"] == "overhead"
    ]  # fmt: skip
    starts = [
        [r["what"], f"{r['seconds']:.2f}", f"{r['low']:.2f} to {r['high']:.2f}", r["rounds"]]
        for r in rows if r["benchmark"] == "start-up"
    ]  # fmt: skip
    head = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none installed"
    return "\n\n".join([
        "# Overhead per step and start-up",
        f"{date}. Peers: {head}. {machine()}. float32 state; the denoiser returns a tensor that is there already. All "
        "contenders take turns in one run of 20 steps each; medians, with quartiles. The "
        "column floors is the median of the ratios to the floor of the same round.",
        "The floor copies the start once and then runs one kernel per row in place (2 operands: `add_`, 3: "
        "`addcmul_`; Heun: one of each).",
        table(["floats", "solver", "library", "µs per step", "quartiles", "floors", "rounds"], steps),
        "## Start-up, a process each",
        table(["what", "seconds", "quartiles", "rounds"], starts),
    ]) + "\n"  # fmt: skip
