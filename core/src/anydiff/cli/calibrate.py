"""``anydiff calibrate``: what a solver learns for one model, in a file that ``--calibration`` takes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import print_json, print_table, tell


def command(
    source: common.Source,
    out: Annotated[Path, typer.Option(help="The .safetensors file to write; it is written after each search.")],
    method: Annotated[
        str,
        typer.Option(
            help="What is learned: dc (a ratio per step), v3 (statistics), s3 (each step's decisions), auto (times) "
            "or ot (stored latents to begin at)."
        ),
    ] = "dc",
    nfe: Annotated[str | None, typer.Option(help="Network calls, 3,4,5 say (default: the recipe's).")] = None,
    guidance: Annotated[
        str | None, typer.Option(help="Classifier-free scales, 1,2 say (default: the recipe's own guidance).")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What to ask for (default: as the held-out data); repeatable."),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Noises of the search (default: the method's own number).")] = None,
    fresh: Annotated[
        int | None, typer.Option(help="Fresh noises, which decide (default: the method's own number).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds; --resume goes on.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the method; repeatable.")
    ] = None,
    seed: common.Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the file at --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Search what a solver can learn for one model at few network calls, and let fresh noises decide.

    For each number of calls and each guidance the search is repeated. A winner that is no better on fresh noises (the
    95 % interval of the ratio of squared distances to the model's own fine end reaches 0.99) is dropped: that entry
    samples as the uncalibrated solver does, and the table says so. The file belongs to these weights; another model
    refuses it.

    Ctrl-C keeps the entries that are finished; --resume searches the others.

    Examples:
      anydiff calibrate images/fashion --nfe 3,4,5 --out fashion.safetensors
      anydiff calibrate images/fashion --method v3 --nfe 4,5 --out v3.safetensors
      anydiff calibrate images/fashion --nfe 4 --guidance 1,2 --option base=dpm-solver++-2m --out 2m.safetensors
      anydiff sample images/fashion --nfe 4 --calibration fashion.safetensors
    """
    from anydiff.errors import AnydiffError
    from anydiff.files import check_suffix

    check_suffix(out, (".safetensors",), "calibrations")
    if overwrite and resume:
        raise AnydiffError("--overwrite replaces what --resume would go on with; leave one of them out.")
    if not resume:
        common.refuse_existing(out, overwrite)
    budgets, scales = common.numbers(nfe, "--nfe", int), common.numbers(guidance, "--guidance", float)
    from anydiff.pipeline import load

    pipeline = load(source)
    if overwrite:
        out.unlink(missing_ok=True)
    given = common.pairs(condition, "--condition")
    words = ["anydiff", *sys.argv[1:]] if Path(sys.argv[0]).name == "anydiff" else ["anydiff", "calibrate", source]
    made = pipeline.calibrate(
        method, nfe=budgets, guidance=scales, count=count, fresh=fresh, seconds=seconds, seed=seed, out=out,
        condition=given or None, report=tell, command=shlex.join(words), **common.solver_options(option),
    )  # fmt: skip
    columns = ["nfe", "guidance", "kept", "ratio", "low", "high", "calls", "seconds"]
    rows = [
        [e.nfe, e.guidance or "none", "no" if e.dropped else "yes", *(f"{each:.3g}" for each in e.ratio), e.calls,
         f"{e.seconds:.1f}"]
        for e in made.entries
    ]  # fmt: skip
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    print_table(columns, rows)
    dropped = sum(e.dropped for e in made.entries)
    if dropped:
        tell(f"{dropped} of {len(made.entries)} winners are no better on fresh noises and were dropped.")
    tell(f"wrote {str(out)!r}; sample with --calibration {shlex.quote(str(out))}.")
