"""``anydiff distil``: students of a trained model that sample in fewer calls."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import tell


def command(
    source: common.Source,
    calls: Annotated[str, typer.Option(metavar="N,N/2,...", help="Calls of the model's plan, and of each student.")],
    out: Annotated[Path, typer.Option(help="Folder for the students' runs.")],
    grid: common.GridName = None,
    unguided: Annotated[
        bool, typer.Option("--unguided", help="Leave the recipe's guidance out of the student.")
    ] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the students' recipes; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the distillation in --out.")] = False,
    devices: Annotated[str, typer.Option(help="Number of devices, or auto.")] = "1",
) -> None:
    """Distil a model into students of half the calls, each the teacher of the next.

    A student is a run that samples by its own plan alone, and needs its teacher no more. The recipe's guidance becomes
    part of it. With 8,4,2 the model itself takes 8 calls, and students of 4 and of 2 calls are left.

    Examples:
      anydiff distil images/fashion --calls 8,4,2 --out runs/fast
      anydiff distil runs/fast/4-calls --calls 4,2 --out runs/faster --set training.steps=500
    """
    from rich.console import Console

    from anydiff.errors import AnydiffError, natural_number
    from anydiff.pipeline import Students, distil

    parts = [part.strip() for part in calls.split(",")]
    if not all(part.isdigit() for part in parts):
        raise AnydiffError(f"--calls is {calls!r}, but must be whole numbers that halve in turn: 8,4,2.")
    count: int | str = devices if devices == "auto" else natural_number("--devices", common.whole(devices))
    words = ["anydiff", "distil", source, "--calls", calls, *(["--grid", grid] if grid else [])]
    words += ["--unguided"] if unguided else []
    words += [word for each in change or [] for word in ("--set", each)]
    students = Students(grid, not unguided, change or [], tell)
    student = distil(
        source, [int(part) for part in parts], out, students, resume=resume, devices=count,
        console=Console(stderr=True), command=shlex.join(words),
    )  # fmt: skip
    tell(f"next: anydiff sample {shlex.quote(student.origin)} --count 16")
