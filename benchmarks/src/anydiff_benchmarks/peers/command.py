"""``python -m anydiff_benchmarks.peers``, or ``anydiff benchmarks/peers``."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated

import typer

from anydiff.errors import AnydiffError
from anydiff.files import write_atomic


def command(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where peers.jsonl and peers.md go.")] = Path(
        "benchmarks/results"
    ),
    targets: Annotated[str, typer.Option("--targets", help="Targets to run, by commas; all by default.")] = "",
    budgets: Annotated[str, typer.Option("--nfe", help="Budgets, by commas.")] = "5,6,8,10,15,20",
) -> None:
    """Compare the error of every solver with that of the installed peers, at equal network calls.

    Rows that are there already are kept, so a stopped run goes on.

    Examples:
      anydiff benchmarks/peers --targets W2 --nfe 10 --out peers
    """
    from anydiff_benchmarks.peers import agreement, report, runs
    from anydiff_benchmarks.peers.targets import NAMES, target

    names = targets.split(",") if targets else list(NAMES)
    counts = [int(text) if text.strip().isdecimal() else 0 for text in budgets.split(",")]
    if min(counts) < 4:
        raise AnydiffError(f"nfe is {budgets!r}, but must be whole numbers of at least 4 with commas between, as 5,10.")
    for name in names:
        target(name)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "peers.jsonl"
    runs.run_missing(path, names, counts)
    versions = runs.installed()
    agreements = agreement.agreements(target("W2"), versions)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    write_atomic(out / "peers.md", report.markdown(runs.read(path), agreements, versions, date))
    lines = "".join(json.dumps(row) + "\n" for row in agreements)
    write_atomic(out / "agreement.jsonl", lines)
    typer.echo(f"wrote {out / 'peers.md'}")
